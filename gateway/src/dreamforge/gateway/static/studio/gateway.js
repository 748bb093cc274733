"use strict";
// Talking to the gateway: calls, problem documents, uploads, and the events of a job.
const pause = milliseconds => new Promise(wake => setTimeout(wake, milliseconds));
const TERMINAL = ["succeeded", "failed", "cancelled"];

// An answer that is no success: a problem document, with `errors` by field where it knows them.
class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `the answer was ${status}`);
    this.status = status;
    this.errors = document.errors || [];
  }
}

// Nobody answered, or not now: worth another try.
class Away extends Error {}

async function call(path, options) {
  let answer;
  try { answer = await fetch(path, options); } catch { throw new Away("The gateway does not answer."); }
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 503) throw new Away(`The gateway cannot do that now: ${body.detail || "try again"}.`);
  if (!answer.ok) throw new Problem(answer.status, body);
  return body;
}

function key() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "studio-" + Array.from(bytes, each => each.toString(16).padStart(2, "0")).join("");
}

// The same key makes a repeat the same job, so it is safe to ask again until somebody answers.
async function submit(body, delayed) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key() };
  for (let tries = 1; ; tries++) {
    try {
      return await call("/v1/jobs", { method: "POST", headers, body: JSON.stringify(body) });
    } catch (error) {
      if (!(error instanceof Away) || tries === 10) throw error;
      delayed(error);
      await pause(Math.min(5000, 250 * 2 ** tries));
    }
  }
}

const upload = blob => call("/v1/uploads", { method: "POST", headers: { "Content-Type": blob.type }, body: blob });

function framed(frame) {
  const field = name => (frame.match(new RegExp(`^${name}: (.*)$`, "m")) || [])[1];
  return field("data") && { id: field("id"), name: field("event"), data: JSON.parse(field("data")) };
}

// A read that waits for a gateway that is away.
async function read(path) {
  for (let tries = 1; ; tries++) {
    try { return await call(path); } catch (error) { if (!(error instanceof Away) || tries === 60) throw error; }
    await pause(Math.min(5000, 250 * 2 ** tries));
  }
}

// History, then live, without gap or repeat across lost connections. By fetch: an EventSource cannot tell a 204 from
// a failure. `place.last` is where the reader is, `signal` ends it, `lost()` hears of each lost connection.
async function* events(id, place, signal, lost = () => {}) {
  let tries = 0;
  while (!signal.aborted) {
    try {
      const headers = place.last ? { "Last-Event-ID": place.last } : {};
      const answer = await fetch(`/v1/jobs/${id}/events`, { headers, signal });
      if (answer.status === 204) return;
      if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const frames = (rest + value).split("\n\n");
        rest = frames.pop();
        for (const event of frames.map(framed)) {
          if (!event) continue;
          place.last = event.id;
          tries = 0;
          yield event;
          if (TERMINAL.includes(event.name)) return;
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
