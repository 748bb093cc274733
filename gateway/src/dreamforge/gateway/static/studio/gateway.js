"use strict";
// Calls to the gateway: problem documents, uploads, and event streams.
const pause = milliseconds => new Promise(wake => setTimeout(wake, milliseconds));

// A response that is not a success: a problem document, with `errors` by field where it knows them.
class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `the response was ${status}`);
    this.status = status;
    this.errors = document.errors || [];
    this.code = document.code;
  }
}

// Called for each reply that asks who this is.
let onUnauthorized = () => {};

// No response, or a 503: worth another try.
class Unavailable extends Error {}

// What a session in a cookie needs for each write; GET v1/me answers it, and no page of another site can read that.
let csrfToken = null;

async function me() {
  const found = await call("v1/me");
  csrfToken = found.csrf_token;
  return found;
}

const writes = options => options && options.method && options.method !== "GET";

// With the token of the session. Another tab may have signed in again: then the token is read anew, once.
async function call(path, options) {
  try { return await send(path, options); } catch (error) {
    if (error.code !== "csrf_token_needed") throw error;
  }
  await me();
  return await send(path, options);
}

async function send(path, options) {
  let response;
  if (writes(options) && csrfToken) options = { ...options, headers: { ...options.headers, "Forge-CSRF-Token": csrfToken } };
  try { response = await fetch(path, options); } catch { throw new Unavailable("The gateway does not answer."); }
  const body = await response.json().catch(() => ({}));
  if (response.status === 503) throw new Unavailable(`The gateway cannot do that now: ${body.detail || "try again"}.`);
  if (response.status === 401) onUnauthorized();
  if (!response.ok) throw new Problem(response.status, body);
  return body;
}

function key() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "studio-" + Array.from(bytes, each => each.toString(16).padStart(2, "0")).join("");
}

const postJob = options => call("v1/jobs", { method: "POST", ...options });
const postBatch = options => call("v1/batches", { method: "POST", ...options });

// The same key makes a repeat the same job, or batch, so it is safe to retry until there is a response.
async function submit(body, delayed, post = postJob) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key() };
  for (let tries = 1; ; tries++) {
    try {
      return await post({ headers, body: JSON.stringify(body) });
    } catch (error) {
      if (!(error instanceof Unavailable) || tries === 10) throw error;
      delayed(error);
      await pause(Math.min(5000, 250 * 2 ** tries));
    }
  }
}

const json = body => ({ headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

const upload = blob => call("v1/uploads", { method: "POST", headers: { "Content-Type": blob.type }, body: blob });

// The request that a program wrote into an image.
const importPicture = blob => call("v1/imports", { method: "POST", headers: { "Content-Type": blob.type }, body: blob });

function parseFrame(frame) {
  const field = name => (frame.match(new RegExp(`^${name}: (.*)$`, "m")) || [])[1];
  return field("id") && { id: field("id"), name: field("event") ?? "begin", data: JSON.parse(field("data") ?? "null") };
}

// A read that waits for a gateway that is unavailable.
async function read(path) {
  for (let tries = 1; ; tries++) {
    try { return await call(path); } catch (error) { if (!(error instanceof Unavailable) || tries === 60) throw error; }
    await pause(Math.min(5000, 250 * 2 ** tries));
  }
}

// The events of a stream, without gap or repeat across lost connections. By fetch: an EventSource cannot tell a 204 from
// a failure. `position.last` is the last id that was read, `signal` ends it, each lost connection calls `lost()`.
// A block that has only an id is "begin": where a stream begins, unless that is where it was left.
async function* events(path, position, signal, lost = () => {}) {
  let tries = 0;
  while (!signal.aborted) {
    try {
      const headers = position.last ? { "Last-Event-ID": position.last } : {};
      const response = await fetch(path, { headers, signal });
      if (response.status === 204) return;
      if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const frames = (rest + value).split("\n\n");
        rest = frames.pop();
        for (const event of frames.map(parseFrame)) {
          if (!event) continue;
          const resumed = event.name === "begin" && event.id === position.last;
          position.last = event.id;
          tries = 0;
          if (!resumed) yield event;
        }
      }
    } catch (error) {
      if (signal.aborted || (error instanceof Problem && error.status < 500)) return;
      lost();
    }
    tries++;
    await pause(Math.min(5000, 250 * 2 ** tries));
  }
}
