"use strict";
// Images of the gateway. One that cannot be read now is asked for again, later and later, and at once when the gateway
// is back; after the last try only then.
const TRIES = 12, LONGEST_PAUSE_SECONDS = 60;
const unread = new Set();
// An image that an event told of has the event's sequence: it may not be in the read tables yet.
const asNewAs = ({ sequence }) => sequence ? `?min_sequence=${sequence}` : "";
const addressOf = artifact => `v1/artifacts/${artifact.artifact_id}${asNewAs(artifact)}`;
const thumbnailOf = artifact => `v1/artifacts/${artifact.artifact_id}/thumbnail${asNewAs(artifact)}`;
const isVideo = ({ content_type }) => (content_type ?? "").startsWith("video/");
const uploadOf = sha256 => `v1/uploads/${sha256}`;

// `changed(failed)` is called after each try.
function keepTrying(image, changed = () => {}) {
  let tries = 0, timer;
  const again = () => {
    clearTimeout(timer);
    if (image.isConnected) image.src = image.getAttribute("src"); else unread.delete(again);
  };
  image.addEventListener("error", () => {
    unread.add(again);
    changed(true);
    if (tries < TRIES) timer = setTimeout(again, 1000 * Math.min(LONGEST_PAUSE_SECONDS, 2 ** tries++));
  });
  image.addEventListener("load", () => {
    clearTimeout(timer);
    unread.delete(again);
    tries = 0;
    changed(false);
  });
}

const readImagesAgain = () => [...unread].forEach(again => again());
addEventListener("online", readImagesAgain);
