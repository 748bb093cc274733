"use strict";
// The texts of the page. Pure: values in, sentences out.
const seconds = number => number < 90 ? `${number.toFixed(1)} s` : `${Math.round(number / 60)} min`;
const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
const sentence = text => /[.!?]$/.test(text) ? text : `${text}.`;
const gibibytes = bytes => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

const STATES = {
  queued: "waiting", assigned: "assigned to a runner", running: "rendering",
  succeeded: "done", failed: "failed", cancelled: "cancelled", erased: "erased",
};

const stateOf = ({ status, held_since }) => status === "queued" && held_since ? "held" : STATES[status];

function describeEvent(name, data) {
  switch (name) {
    case "requested": return "Waiting for a runner.";
    case "assigned": return `Assigned to ${data.runner_id}, which prepares to render.`;
    case "started": return `${data.runner_id} has started${data.attempt > 1 ? `, attempt ${data.attempt}` : ""}.`;
    case "step": return describeStep(data);
    case "artifact": return `Image ${data.index + 1} is stored.`;
    case "warned": return describeWarning(data);
    case "attempt-failed": return `Attempt ${data.attempt} failed on ${data.runner_id}: ` +
      sentence(data.message || data.reason) + (data.retry_at ? " It will be retried." : "");
    case "succeeded": return `Done in ${seconds(data.render_seconds)}.`;
    case "failed": return describeFailure(data.reason, data.message);
    case "cancel-requested": return "Stopping.";
    case "held": return "Held: no runner gets it until it is released.";
    case "priority-changed": return `Priority ${data.priority}.`;
    case "released": return "Released.";
    case "cancelled": return "Cancelled.";
    case "erasure-requested": return `Deleted. It can be undone until ${describeTime(data.erase_at)}.`;
    case "erasure-undone": return "Not deleted any more.";
    case "artifact-erased": return `Image ${data.index + 1} was deleted.`;
    case "erased": return "Erased.";
    case "archived": return "Its events are in the archive.";
    default: return sentence(name[0].toUpperCase() + name.slice(1).replaceAll("-", " "));
  }
}

function describeStep({ loading, images, image_index, together = 1, step, steps, eta_seconds }) {
  if (loading) return `Loading ${loading} into memory.`;
  const first = image_index + 1;
  const rendered = together > 1 ? `Images ${first} to ${image_index + together}` : `Image ${first}`;
  const which = images > 1 ? `${rendered} of ${images}, step` : "Step";
  return `${which} ${step} of ${steps}, about ${seconds(eta_seconds)} to go.`;
}

function describeFailure(reason, message) {
  return `Failed (${(reason || "unknown").replaceAll("_", " ")}): ${sentence(message || "no details are known")}`;
}

function describeWarning({ message, image_index }) {
  const which = Number.isInteger(image_index) ? ` (image ${image_index + 1})` : "";
  return message[0].toUpperCase() + message.slice(1) + which;
}

// A job by its summary, for those whose events are not followed.
function describeJob(job) {
  switch (job.status) {
    case "queued": return job.held_since ? describeEvent("held", job)
      : job.failure_message ? `Attempt ${job.attempt} failed: ${sentence(job.failure_message)} It will be retried.`
        : describeEvent("requested", job);
    case "assigned": return describeEvent("assigned", job);
    case "running": return job.cancel_requested ? describeEvent("cancel-requested", job)
      : job.step ? describeEvent("step", job.step) : describeEvent("started", job);
    case "succeeded": return describeEvent("succeeded", { render_seconds: job.render_seconds || 0 });
    case "failed": return describeFailure(job.failure_reason, job.failure_message);
    default: return describeEvent(job.status, job);
  }
}

// Parameters that `describeRequest` words itself, or that are shown elsewhere.
const DESCRIBED = ["prompt", "seed", "images", "model_id", "preset", "width_px", "height_px", "upscale", "steps",
  "guidance_scale", "sampler", "mask_image", "init_image", "loras", "control", "negative_prompt", "priority"];

const describeLora = ({ model_id, weight, text_weight }) =>
  [model_id, weight, ...(text_weight === undefined ? [] : [`(text ${text_weight})`])].join(" ");

// A request in one line. What has no words of its own here is named as it is called.
function describeRequest(request) {
  const { upscale, loras = [] } = request;
  const controls = [request.control || []].flat(); // before there could be several, one stood alone
  const others = Object.entries(request).filter(([name, value]) =>
    !DESCRIBED.includes(name) && ["number", "string", "boolean"].includes(typeof value));
  return [
    request.model_id, request.preset, request.width_px && `${request.width_px}×${request.height_px}`,
    upscale && upscale.width_px && `enlarged to ${upscale.width_px}×${upscale.height_px}`,
    request.steps && count(request.steps, "step"), request.guidance_scale && `guidance ${request.guidance_scale}`,
    request.sampler, request.mask_image ? "with a mask" : request.init_image && "from an image",
    ...loras.map(describeLora), ...controls.map(each => `controlled by ${each.model_id}`),
    ...others.map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`),
    request.negative_prompt && `without ${request.negative_prompt}`,
  ].filter(Boolean).join(" · ");
}

const share = ({ used, limit }) => limit ? `${Math.floor(100 * used / limit)} %` : "0 %";
const QUOTAS = {
  open_jobs: ({ used, limit }) => `${used} of ${limit} jobs open`,
  pixel_steps_per_hour: quota => `${share(quota)} of the work of an hour`,
  stored_bytes: quota => `${share(quota)} of ${gibibytes(quota.limit)} stored`,
};

// What a tenant uses of its quotas: of those that are its own, and of others once half of it is used.
function describeQuotas(quotas) {
  const shown = quotas.filter(each => QUOTAS[each.quota] && each.limit !== null && each.used !== null &&
    (each.own || each.used >= each.limit / 2));
  return shown.map(each => QUOTAS[each.quota](each) +
    (each.frees_at ? ` (room from ${describeTime(each.frees_at)})` : "")).join(" · ");
}

function describeTime(text) {
  const at = new Date(text), today = at.toDateString() === new Date().toDateString();
  return today ? at.toLocaleTimeString() : at.toLocaleString();
}

// A recipe as flat pairs: {versions: {torch: ...}} becomes "versions torch".
function pairs(recipe, prefix = "") {
  return Object.entries(recipe).flatMap(([name, value]) =>
    value !== null && typeof value === "object" ? pairs(value, `${prefix}${name} `) : [[prefix + name, String(value)]]);
}

function changes(before, after) {
  const old = new Map(pairs(before)), now = new Map(pairs(after));
  return [...new Set([...old.keys(), ...now.keys()])].filter(name => old.get(name) !== now.get(name))
    .map(name => `${name}: ${old.get(name) ?? "nothing"}, now ${now.get(name) ?? "nothing"}`);
}

// Images that both jobs have finished, each with the one of its index.
function describeComparison(before, after) {
  const earlier = new Map(before.map(each => [each.index, each]));
  const both = after.filter(each => earlier.has(each.index));
  const other = both.filter(each => earlier.get(each.index).sha256 !== each.sha256);
  if (!both.length) return "";
  if (!other.length) return `The same again, bit for bit: ${count(both.length, "image")}.`;
  const first = other[0], why = changes(earlier.get(first.index).recipe || {}, first.recipe);
  return `${other.length} of ${count(both.length, "image")} differ; ` +
    (why.length ? `the recipe changed: ${why.join("; ")}.` : "the recipe is the same.");
}

// What came of an image of another program, in sentences: whose it is, which models are missing, what was left out.
const IMPORTS_SHOWN = 8;
function describeImport({ tool, model, loras, unmapped }) {
  const named = ({ name, hash }) => hash ? `${name || "unnamed"} (${hash})` : name;
  const missing = [...(model ? [["model", model]] : []), ...loras.map(each => ["LoRA", each])]
    .filter(([, each]) => !each.model_id).map(([kind, each]) => `${kind} ${named(each)}`);
  const left = unmapped.slice(0, IMPORTS_SHOWN).map(({ name, value, reason }) => `${name} ${value.slice(0, 60)} (${reason})`);
  if (unmapped.length > IMPORTS_SHOWN) left.push(`${unmapped.length - IMPORTS_SHOWN} more`);
  return [`These are the settings of an image of ${tool}.`,
    ...(missing.length ? [`Not here: ${missing.join(", ")}.`] : []),
    ...(left.length ? [`Left out: ${left.join("; ")}.`] : [])];
}
