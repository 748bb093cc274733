"use strict";
// The request form. Prompt, model and preset are always there; every other field is made from the chosen model's
// schema, under the heading of its group.
class RequestForm {
  constructor(form) {
    this.form = form;
    this.models = [];
    this.presets = [];
    this.sections = new Map();
    this.fields = new Map();
    this.active = [];
    this.problem = $("problem");
    form.addEventListener("input", event => {
      if (event.target.closest("[aria-invalid]")) mark(event.target, "");
      if (["field-model_id", "field-preset"].includes(event.target.id)) this.choose();
    });
    document.addEventListener("paste", event => this.paste(event));
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
    const pipelines = models.filter(each => each.parameters);
    const names = pipelines.map(({ descriptor }) => [descriptor.model_id, descriptor.title || descriptor.model_id]);
    setOptions($("field-model_id"), names, pipelines.find(each => each.default)?.descriptor.model_id);
    this.choose();
  }

  // A model brings its presets, its parameters with their bounds, and its LoRAs and ControlNets.
  choose() {
    const id = $("field-model_id").value, own = this.presets.filter(each => each.model_id === id);
    setOptions($("field-preset"), own.map(({ preset }) =>
      [preset.name, `${preset.title || preset.name}, ${preset.width_px}×${preset.height_px}`]));
    if (this.model) this.build(this.model.parameters);
    this.update();
  }

  build(schema) {
    const { family } = this.model.descriptor;
    const assets = kind => this.models.map(each => each.descriptor)
      .filter(each => each.kind === kind && each.family === family)
      .map(each => [each.model_id, each.title || each.model_id]);
    $("field-prompt").maxLength = schema.properties.prompt?.maxLength ?? -1;
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

  paste(event) {
    const file = [...event.clipboardData.files].find(each => each.type.startsWith("image/"));
    const start = this.active.find(each => each.name === "init_image" && each.enabled);
    if (!file || !start) return;
    this.open(start.root);
    start.upload(file);
  }

  // The request, or null where something has to be corrected first.
  async body() {
    this.clear();
    const shown = this.active.filter(each => each.enabled), prompt = $("field-prompt");
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
    for (const control of this.form.querySelectorAll("[aria-invalid]")) mark(control, "");
  }

  // Fills the form from a job's request; what the preset says anyway stays empty, so that a change of preset counts.
  fill(request) {
    this.clear();
    this.mask?.use(false);
    for (const name of ["model_id", "preset"]) { selectOption($(`field-${name}`), request[name]); this.choose(); }
    $("field-prompt").value = request.prompt;
    const values = { ...request, upscale: requestedUpscale(request) };
    for (const field of this.active) {
      const value = values[field.name] ?? undefined;
      const usual = this.preset?.[field.name] ?? field.control.initial;
      if (!(field.name in JOB_PARAMETERS)) field.value = value === usual ? undefined : value;
    }
    this.update();
    for (const { root, row } of this.sections.values())
      root.open = this.within(row).some(each => each.enabled && each.value !== undefined);
    if (matchMedia("(pointer:fine)").matches) $("field-prompt").focus(); // on a phone the keyboard would open
    announce("The form has these settings now.");
  }

  reset() {
    this.fill({ prompt: "" });
    for (const field of this.active) field.value = undefined;
    for (const { root } of this.sections.values()) root.open = false;
    this.update();
  }

  // Whether the model of a request can start from an image.
  canStartFrom({ model_id }) {
    const schema = this.models.find(each => each.descriptor.model_id === model_id)?.parameters;
    return Boolean(schema?.properties.init_image);
  }

  // The settings of a request, with one of its images to start from: at the size of that image, with a new seed.
  startFrom(request, { sha256, url, width_px, height_px }) {
    const { mask_image, upscale, strength, seed, ...rest } = request;
    this.fill({ ...rest, images: 1, width_px, height_px });
    const start = this.active.find(each => each.name === "init_image");
    start.set(sha256, url);
    this.open(start.root);
  }
}
