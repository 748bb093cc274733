"use strict";
// What the page says. Pure: values in, sentences out.
const seconds = number => number < 90 ? `${number.toFixed(1)} s` : `${Math.round(number / 60)} min`;
const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
const sentence = text => /[.!?]$/.test(text) ? text : `${text}.`;
const gibibytes = bytes => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

const STATES = {
  queued: "waiting", assigned: "given to a runner", running: "painting",
  succeeded: "done", failed: "failed", cancelled: "cancelled",
};

function told(name, data) {
  switch (name) {
    case "requested": return "Waiting for a runner.";
    case "assigned": return `Given to ${data.runner_id}; it is getting ready.`;
    case "started": return `${data.runner_id} has started${data.attempt > 1 ? `, attempt ${data.attempt}` : ""}.`;
    case "step": return stepped(data);
    case "artifact": return `Picture ${data.index + 1} is stored.`;
    case "warned": return warned(data);
    case "attempt-failed": return `Attempt ${data.attempt} failed on ${data.runner_id}: ` +
      sentence(data.message || data.reason) + (data.retry_at ? " It will be tried again." : "");
    case "succeeded": return `Done in ${seconds(data.render_seconds)}.`;
    case "failed": return failed(data.reason, data.message);
    case "cancel-requested": return "Stopping.";
    case "cancelled": return "Cancelled.";
    default: return name;
  }
}

function stepped({ loading, images, image_index, step, steps, eta_seconds }) {
  if (loading) return `Reading ${loading} into memory.`;
  const which = images > 1 ? `Picture ${image_index + 1} of ${images}, step` : "Step";
  return `${which} ${step} of ${steps}, about ${seconds(eta_seconds)} to go.`;
}

function failed(reason, message) {
  return `Failed (${(reason || "unknown").replaceAll("_", " ")}): ${sentence(message || "nothing more is known")}`;
}

function warned({ message, image_index }) {
  const which = Number.isInteger(image_index) ? ` (picture ${image_index + 1})` : "";
  return message[0].toUpperCase() + message.slice(1) + which;
}

// A job as its summary tells it, for those that are not watched event by event.
function stands(job) {
  switch (job.status) {
    case "queued": return job.failure_message ? `Attempt ${job.attempt} failed: ` +
      `${sentence(job.failure_message)} It will be tried again.` : told("requested", job);
    case "assigned": return told("assigned", job);
    case "running": return job.cancel_requested ? told("cancel-requested", job)
      : job.step ? told("step", job.step) : told("started", job);
    case "succeeded": return told("succeeded", { render_seconds: job.render_seconds || 0 });
    case "failed": return failed(job.failure_reason, job.failure_message);
    default: return told(job.status, job);
  }
}

function facts(request) {
  const { upscale, loras = [], control } = request;
  return [
    request.model_id, request.preset, request.width_px && `${request.width_px}×${request.height_px}`,
    upscale && upscale.width_px && `enlarged to ${upscale.width_px}×${upscale.height_px}`,
    request.steps && count(request.steps, "step"), request.guidance_scale && `guidance ${request.guidance_scale}`,
    request.sampler, request.mask_image ? "a part painted anew" : request.init_image && "from a picture",
    ...loras.map(each => `${each.model_id} ${each.weight}`), control && `held by ${control.model_id}`,
    request.negative_prompt && `without ${request.negative_prompt}`,
  ].filter(Boolean).join(" · ");
}

function when(text) {
  const at = new Date(text), today = at.toDateString() === new Date().toDateString();
  return today ? at.toLocaleTimeString() : at.toLocaleString();
}

// A recipe as flat pairs: {versions: {torch: ...}} is told as "versions torch".
function pairs(recipe, prefix = "") {
  return Object.entries(recipe).flatMap(([name, value]) =>
    value !== null && typeof value === "object" ? pairs(value, `${prefix}${name} `) : [[prefix + name, String(value)]]);
}

function changes(before, after) {
  const old = new Map(pairs(before)), now = new Map(pairs(after));
  return [...new Set([...old.keys(), ...now.keys()])].filter(name => old.get(name) !== now.get(name))
    .map(name => `${name}: ${old.get(name) ?? "nothing"}, now ${now.get(name) ?? "nothing"}`);
}

function compared(before, after) {
  const other = after.filter((each, index) => before[index]?.sha256 !== each.sha256);
  if (!other.length) return `The same again, bit for bit: ${count(after.length, "picture")}.`;
  const first = other[0], why = changes(before[after.indexOf(first)]?.recipe || {}, first.recipe);
  return `${other.length} of ${count(after.length, "picture")} came out otherwise; ` +
    (why.length ? `the recipe changed: ${why.join("; ")}.` : "the recipe is the same.");
}
