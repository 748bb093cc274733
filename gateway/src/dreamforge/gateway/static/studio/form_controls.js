"use strict";
// The controls of the request form, made from a model's JSON Schema. Pure: schema, preset and catalog in, descriptions
// out. A new number, text, choice or switch needs no line here.
const SEPARATE = ["model_id", "preset", "prompt"]; // chosen at the top of the form, whatever the model
const KINDS = { integer: "number", number: "number", boolean: "switch", string: "text", object: "group" };

// What belongs to the job and not to the image is the same for every model.
const JOB_PARAMETERS = {
  priority: { title: "Priority", description: "9 is the most urgent.", type: "integer", minimum: 0, maximum: 9,
    default: 5 },
  deadlines: { title: "Deadlines", type: "object", properties: {
    start_within_seconds: { title: "Start within (s)", description: "From now to the first step.", type: "number",
      exclusiveMinimum: 0, maximum: 31622400 },
    run_within_seconds: { title: "Render within (s)", description: "Of one attempt, from its start.",
      type: "number", exclusiveMinimum: 0, maximum: 31622400 },
  } },
};

// The sections of the form: [{title, name, controls}]. `assets(kind)` gives [id, title] of what fits the model.
function sectionsOf(schema, preset, assets) {
  const titles = Object.entries(schema["x-groups"] || { more: "More settings" });
  const names = Object.keys(schema.properties).filter(name => !SEPARATE.includes(name));
  const controls = names.map(name => {
    const earlier = names.slice(0, names.indexOf(name));
    const needs = (schema.dependentRequired?.[name] || []).filter(each => earlier.includes(each));
    return controlOf(name, schema.properties[name], { usual: preset?.[name], needs, assets });
  }).filter(Boolean);
  const place = ({ group }) => titles.some(([name]) => name === group) ? group : titles[titles.length - 1][0];
  const own = name => controls.filter(control => place(control) === name);
  return [...titles.map(([name, title]) => ({ name, title, controls: own(name) })), jobSection()];
}

function jobSection() {
  const controls = Object.entries(JOB_PARAMETERS).map(([name, rule]) => controlOf(name, rule, { unset: "no limit" }));
  return { name: "queue", title: "Priority and deadlines", controls };
}

// One property as a control, or null where the model leaves nothing to choose.
function controlOf(name, rule, { usual = rule.default, needs = [], assets = () => [], unset = "automatic" } = {}) {
  const kind = kindOf(rule), shared = { name, kind, needs, label: rule.title || words(name), help: rule.description,
    group: rule["x-group"], initial: rule.default };
  if (fixed(rule)) return null;
  switch (kind) {
    case "number": return { ...shared, attributes: numberBounds(rule), placeholder: String(usual ?? unset) };
    case "text": case "textarea":
      return { ...shared, limit: rule.maxLength, placeholder: String(usual ?? "") };
    case "choice": return choice(shared, rule.enum.map(each => [String(each), String(each)]), usual);
    case "vae": case "controlnet": case "upscaler": case "embedding": case "ip_adapter":
      return choice(shared, assets(kind));
    case "uploads": return { ...shared, most: rule.maxItems };
    case "loras": return lorasControl(shared, rule, assets("lora"));
    case "group": return groupControl(shared, rule, assets, unset);
    case "groups": return groupControl({ ...shared, most: rule.maxItems }, rule.items, assets, unset);
    default: return shared;
  }
}

function kindOf(rule) {
  if (rule.type === "boolean") return "switch";
  return rule["x-widget"] || (rule.enum ? "choice" : KINDS[rule.type] || "text");
}

const words = name => name.replaceAll("_", " ").replace(/^./, first => first.toUpperCase());
const fixed = rule => rule.maxLength === 0 || rule.maxItems === 0 ||
  (rule.minimum !== undefined && rule.minimum === rule.maximum);

// The least and the largest allowed number; a multiple starts at the first multiple that is allowed.
function numberBounds({ type, minimum, exclusiveMinimum, maximum, multipleOf }) {
  const least = minimum ?? exclusiveMinimum;
  return { min: multipleOf && least !== undefined ? Math.ceil(least / multipleOf) * multipleOf : least, max: maximum,
    step: multipleOf || (type === "integer" ? 1 : "any") };
}

function choice(shared, pairs, usual) {
  const open = usual === undefined ? "the model's default" : `default: ${usual}`;
  return pairs.length ? { ...shared, kind: "choice", options: [["", open], ...pairs] } : null;
}

function lorasControl(shared, rule, options) {
  const { weight, text_weight } = rule.items.properties;
  return options.length ? { ...shared, options, most: rule.maxItems, attributes: numberBounds(weight),
    weight: weight.default, textHelp: text_weight.description } : null;
}

// A nested object. Its first required field turns it on; the others appear then.
function groupControl(shared, rule, assets, unset) {
  const [trigger] = rule.required || [];
  const controls = Object.entries(rule.properties).map(([name, each]) => {
    const needs = trigger && name !== trigger ? [trigger] : [];
    const control = controlOf(name, each, { needs, assets, unset: name === trigger ? "off" : unset });
    if (control && name === trigger && control.kind === "choice") control.options[0] = ["", "none"];
    return control;
  });
  if (trigger && !controls.some(each => each?.name === trigger)) return null;
  return { ...shared, controls: controls.filter(Boolean) };
}

// A second pass is recorded as the size it came to, and, since 2026-11-25, with the factor that was requested.
function requestedUpscale({ upscale, width_px: before_px }) {
  if (!upscale) return upscale;
  const { width_px, height_px, ...own } = upscale;
  return { ...own, factor: upscale.factor ?? width_px / before_px };
}

// The area around a mask is recorded with the size of the image.
const requestedArea = ({ masked_area }) => masked_area && { padding_px: masked_area.padding_px };

// Before there was a choice, an image of another shape was stretched, and nothing was recorded.
const requestedResizeMode = ({ resize_mode, init_image, control }) =>
  resize_mode ?? (init_image || control ? "stretch" : undefined);

// A recorded request with the values that request it again.
const requested = request => ({ ...request, upscale: requestedUpscale(request), masked_area: requestedArea(request),
  resize_mode: requestedResizeMode(request) });

// The body that requests the same images as a recorded request.
function sameAgain(request) {
  const body = requested(request);
  return Object.fromEntries(Object.entries(body).filter(([, each]) => each !== undefined && each !== null));
}
