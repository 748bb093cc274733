"use strict";
// The request form. Prompt, model and preset are always there; every other field is made from the chosen model's
// schema, under the heading of its group.
const isText = input => input.tagName === "TEXTAREA" || input.type === "text";
const isTyped = input => input.value !== "" && input.dataset.typed === "true";

// A model's own licence, then those of its parts that come from elsewhere, each once.
function licencesOf({ licence, source }) {
  const all = [licence, ...(source?.components ?? []).map(each => each.licence)];
  return [...new Set(all.filter(each => each && each !== "unknown"))].join("; ");
}

// Where a value of a request is not what is shown, in words; what is not set in the request is not looked at.
function differences(asked, shown, name) {
  if (asked === undefined || asked === null || asked === "" || asked === false) return [];
  if (asked === 0 && (shown === undefined || shown === null)) return []; // switched off, and not to be set here
  if (Array.isArray(asked)) {
    return asked.filter(each => !shown?.some(other => !differences(each, other, name).length))
      .map(each => `${name} ${each.model_id ?? each}`);
  }
  if (typeof asked === "object") {
    const other = Object.entries(asked).flatMap(([key, value]) => differences(value, shown?.[key], key));
    return other.length ? [`${name} (${other.join(", ").replaceAll("_", " ")})`] : [];
  }
  return String(asked) === String(shown) ? [] : [`${name} ${asked}`];
}

class RequestForm {
  constructor(form) {
    this.form = form;
    this.models = [];
    this.presets = [];
    this.sections = new Map();
    this.fields = new Map();
    this.active = [];
    this.problem = $("problem");
    this.prompt = $("field-prompt");
    this.limit = new TextLimit(this.prompt);
    form.addEventListener("input", event => {
      if (event.target.closest("[aria-invalid]")) mark(event.target, "");
      if (isText(event.target)) event.target.dataset.typed = "true";
      if (["field-model_id", "field-preset"].includes(event.target.id)) this.choose();
      this.remember();
    });
    document.addEventListener("paste", event => event.clipboardData.files.length && this.take(event.clipboardData.files));
    this.remembered = rememberedForm();
    if (this.remembered) this.write(this.prompt, this.remembered.prompt ?? "", this.remembered.typed?.prompt);
  }

  get model() { return this.models.find(each => each.descriptor.model_id === $("field-model_id").value); }
  get preset() { return this.offeredPreset?.preset; }
  get offeredPreset() {
    const [model, preset] = [$("field-model_id").value, $("field-preset").value];
    return this.presets.find(each => each.model_id === model && each.preset.name === preset);
  }

  // The catalog, read again and again: what a person has chosen stays where it is still offered.
  offer(models, presets) {
    this.models = models;
    this.presets = presets;
    const pipelines = models.filter(each => each.parameters), select = $("field-model_id");
    const names = pipelines.map(({ descriptor }) => [descriptor.model_id, descriptor.title || descriptor.model_id]);
    const [before, title] = [select.value, select.selectedOptions[0]?.text];
    setOptions(select, names, pipelines.find(each => each.default)?.descriptor.model_id);
    if (before && names.length && before !== select.value)
      this.say(`${title} is not offered any more; ${select.selectedOptions[0].text} is chosen now.`);
    this.choose();
    if (this.remembered && names.length) this.restore(this.remembered);
  }

  // A model brings its presets, its parameters with their bounds, and its LoRAs and ControlNets.
  choose() {
    const id = $("field-model_id").value, own = this.presets.filter(each => each.model_id === id);
    setOptions($("field-preset"), own.map(({ preset }) =>
      [preset.name, `${preset.title || preset.name}, ${preset.width_px}×${preset.height_px}`]));
    if (this.model) this.build(this.model.parameters);
    const licences = this.model ? licencesOf(this.model.descriptor) : "";
    show($("licence"), licences && `Licence: ${licences}`);
    this.update();
  }

  build(schema) {
    const { family } = this.model.descriptor;
    const assets = kind => this.models.map(each => each.descriptor)
      .filter(each => each.kind === kind && (each.family === family || kind === "upscaler"))
      .map(each => [each.model_id, each.title || each.model_id]);
    this.limit.most = schema.properties.prompt?.maxLength;
    const sections = sectionsOf(schema, this.preset, assets);
    this.active = sections.flatMap(section =>
      arrange(this.section(section), this.fields, section.controls, () => this.update()));
    for (const [name, { root }] of this.sections) if (!sections.some(each => each.name === name)) root.hidden = true;
    const { init_image: start, mask_image: mask } = Object.fromEntries(this.fields);
    if (start && mask) this.mask ??= new MaskEditor(start, mask);
  }

  // Where the fields of a group are; the basic ones stay in sight.
  section({ name, title }) {
    if (name === "basic") return $("basic");
    const made = this.sections.get(name);
    if (made) return made.row;
    const row = make("div", { className: "row" });
    const root = make("details", {}, make("summary", { textContent: title }), row);
    $("sections").append(root);
    this.sections.set(name, { root, row });
    return row;
  }

  // Shows what can be set now; the rest is hidden and not sent.
  update() {
    enableNeeded(this.active, true);
    for (const { root, row } of this.sections.values()) root.hidden = !this.within(row).some(each => each.enabled);
    show($("placement"), this.placement());
    $("submit").disabled = !this.model || this.active.some(field => field.busy);
    this.remember();
  }

  within(row) { return this.active.filter(field => field.root.parentElement === row); }

  placement() {
    if (!this.model) return "No model is registered yet. Start a runner that has one; this page will update.";
    const runners = this.offeredPreset?.runners || [];
    const able = runners.filter(each => !each.refused).map(each => `${each.runner_id} (${each.tier})`);
    if (!runners.length) return "No runner is available. A job waits until one starts.";
    if (able.length) return `Runs on ${able.join(", ")}.`;
    return `A job would wait: ${runners.map(each => `${each.runner_id}: ${each.refused}`).join("; ")}.`;
  }

  // A file that was dropped or pasted: the settings in it, where a program wrote some, else the image to start from.
  async take(files) {
    const file = [...files].find(each => each.type.startsWith("image/"));
    if (!file) return this.say("Only an image can be used here: PNG, JPEG, WebP or AVIF.");
    let found;
    try { found = await importPicture(file); } catch (error) {
      return error instanceof Problem ? this.startAt(file) : this.say(error.message);
    }
    this.fill({ prompt: "", ...found.request }, describeImport(found),
      [["Start from this image instead", () => this.startAt(file)]]);
  }

  startAt(file) {
    const start = this.active.find(each => each.name === "init_image" && each.enabled);
    if (!start) return this.say("The chosen model cannot start from an image.");
    this.open(start.root);
    return start.upload(file);
  }

  // The request, or null where something has to be corrected first.
  async body() {
    this.clear();
    const shown = this.active.filter(each => each.enabled), { prompt } = this;
    const wrong = [...(prompt.validity.valid ? [] : [[prompt, prompt.validationMessage]]),
      ...shown.flatMap(each => each.problems())];
    for (const [control, message] of wrong) mark(control, message);
    if (wrong.length) { this.focus(wrong[0][0]); return null; }
    await this.mask?.finish();
    const body = { prompt: prompt.value, model_id: $("field-model_id").value, preset: $("field-preset").value };
    for (const { name, value } of shown) if (value !== undefined) body[name] = value;
    return body;
  }

  // Shows an error at its field where it names one, else above the button.
  explain(error) {
    const rest = [];
    for (const { pointer = "", detail } of error.errors || []) {
      const control = this.find(pointer.split("/").slice(1));
      if (control) { mark(control, detail); this.focus(control); } else rest.push(detail);
    }
    const text = error.errors?.length ? rest.join("; ") || "Please correct the marked fields." : error.message;
    show(this.problem, text);
  }

  find([name, ...rest]) {
    if (SEPARATE.includes(name)) return $(`field-${name}`);
    return this.active.find(each => each.enabled && each.name === name)?.find(rest);
  }

  open(element) {
    const section = element.closest("details");
    if (section) section.open = true;
  }

  focus(control) {
    this.open(control);
    control.focus();
    control.closest(".field").scrollIntoView({ block: "nearest" });
  }

  clear() {
    show(this.problem, "");
    show($("notice"), "");
    for (const control of this.form.querySelectorAll("[aria-invalid]")) mark(control, "");
  }

  // Fills the form from a job's request; what the preset says anyway stays empty, so that a change of preset counts.
  // A text that a person has typed and not sent stays; what the form cannot take is named, after `texts`.
  fill(request, texts = [], actions = []) {
    this.clear();
    this.mask?.use(false);
    for (const name of ["model_id", "preset"]) { selectOption($(`field-${name}`), request[name]); this.choose(); }
    const values = requested(request);
    const own = [];
    const text = (input, name, value) => {
      if (isTyped(input) && input.value !== value) own.push([name, input, value]); else this.write(input, value);
    };
    text(this.prompt, "prompt", request.prompt);
    for (const field of this.active) {
      const value = values[field.name] ?? undefined;
      const usual = this.preset?.[field.name] ?? field.control.initial;
      if (field.limit) text(field.input, field.control.label.toLowerCase(), value ?? "");
      else if (!(field.name in JOB_PARAMETERS)) field.value = value === usual ? undefined : value;
    }
    this.update();
    this.openWhatIsSet();
    if (matchMedia("(pointer:fine)").matches) this.prompt.focus(); // on a phone the keyboard would open
    this.report(this.missing(values), own, texts, actions);
  }

  openWhatIsSet() {
    for (const { root, row } of this.sections.values())
      root.open = this.within(row).some(each => each.enabled && each.value !== undefined);
  }

  // What the form shows otherwise than the request says, in words.
  missing(values) {
    const found = [["model", $("field-model_id"), values.model_id], ["preset", $("field-preset"), values.preset]]
      .filter(([, select, value]) => value && select.value !== value)
      .map(([name, select, value]) => `${name} ${value} (${select.selectedOptions[0]?.text ?? "none"} is chosen)`);
    for (const [name, value] of Object.entries(values)) {
      if (SEPARATE.includes(name) || name in JOB_PARAMETERS) continue;
      const field = this.active.find(each => each.name === name);
      if (field?.limit) continue;
      const usual = this.preset?.[name] ?? field?.control.initial;
      const shown = field?.enabled ? field.value ?? usual : undefined;
      found.push(...differences(value, shown, (field?.control.label || words(name)).toLowerCase()));
    }
    return found;
  }

  report(missing, own, before = [], more = []) {
    const texts = [...before, ...own.map(([name]) => `Your ${name} stays.`)];
    if (missing.length) texts.push(`Not taken over: ${missing.join("; ")}.`);
    const actions = [...own.map(([name, input, value]) => [`Use the ${name} of the ${before.length ? "image" : "job"}`, () => {
      this.write(input, value);
      this.update();
    }]), ...more];
    if (texts.length) this.say(texts.join(" "), actions);
    else announce("The form has these settings now.");
  }

  // A message that stays until the form is used again, with what can be done about it.
  say(text, actions = []) {
    show($("notice"), text);
    const buttons = actions.map(([textContent, act]) => make("button", { type: "button", textContent, onclick: () => {
      show($("notice"), "");
      act();
    } }));
    $("notice").append(...buttons);
  }

  write(input, text, typed = false) {
    input.value = text;
    if (typed) input.dataset.typed = "true"; else delete input.dataset.typed;
    (input === this.prompt ? this.limit : this.active.find(each => each.input === input)?.limit)?.update();
  }

  // The job has the texts now.
  sent() {
    show(this.problem, "");
    for (const input of [this.prompt, ...this.active.filter(each => each.limit).map(each => each.input)])
      delete input.dataset.typed;
    this.remember();
  }

  // Everything that was set, as JSON.
  get state() {
    const set = this.active.filter(each => each.value !== undefined);
    const pick = read => Object.fromEntries(set.map(each => [each.name, read(each)]).filter(([, value]) => value));
    return { prompt: this.prompt.value, model_id: $("field-model_id").value, preset: $("field-preset").value,
      values: Object.fromEntries(set.map(each => [each.name, each.value])), addresses: pick(each => each.address),
      typed: { prompt: isTyped(this.prompt), ...pick(each => each.limit && isTyped(each.input)) } };
  }

  // Until the models are known, only the prompt can have changed.
  remember() {
    rememberForm(this.remembered ? { ...this.remembered, prompt: this.prompt.value,
      typed: { ...this.remembered.typed, prompt: isTyped(this.prompt) } } : this.state);
  }

  // Everything but the prompt, as it was.
  restore({ model_id, preset, values = {}, addresses = {}, typed = {} }) {
    this.remembered = null;
    for (const [name, value] of [["model_id", model_id], ["preset", preset]]) {
      selectOption($(`field-${name}`), value);
      this.choose();
    }
    const missing = this.missing({ model_id, preset });
    for (const field of this.active) {
      if (field.limit) this.write(field.input, values[field.name] ?? "", typed[field.name]);
      else if (addresses[field.name]) field.set(values[field.name], addresses[field.name]);
      else field.value = values[field.name];
    }
    this.update();
    this.openWhatIsSet();
    if (missing.length) this.report(missing, []);
  }

  reset() {
    const before = this.state;
    this.clear();
    this.mask?.use(false);
    this.write(this.prompt, "");
    for (const field of this.active) if (field.limit) this.write(field.input, ""); else field.value = undefined;
    for (const { root } of this.sections.values()) root.open = false;
    this.update();
    this.say("Everything is cleared.", [["Bring it back", () => {
      this.write(this.prompt, before.prompt, before.typed.prompt);
      this.restore(before);
    }]]);
    this.prompt.focus();
  }

  // Whether the model of a request can start from an image.
  canStartFrom({ model_id }) {
    const schema = this.models.find(each => each.descriptor.model_id === model_id)?.parameters;
    return Boolean(schema?.properties.init_image);
  }

  // The settings of a request, with one of its images to start from: at the size of that image, with a new seed.
  startFrom(request, image) {
    const { sha256, width_px, height_px } = image;
    const { mask_image, mask_selects, mask_blur_px, mask_fill, masked_area, upscale, strength, seed, ...rest } = request;
    this.fill({ ...rest, images: 1, width_px, height_px });
    const start = this.active.find(each => each.name === "init_image");
    start.set(sha256, addressOf(image));
    this.open(start.root);
  }
}
