"use strict";
// The form. What it offers is what the chosen model's own schema allows; names of controls are places in the request.
class Wish {
  constructor(form) {
    this.form = form;
    this.models = [];
    this.presets = [];
    this.problem = $("problem");
    const fields = [...form.querySelectorAll("[data-picture]")].map(block =>
      [block.dataset.picture, new PictureField(block, () => this.shape())]);
    this.pictures = Object.fromEntries(fields);
    this.mask = new Mask(this.pictures.init_image, this.pictures.mask_image);
    form.addEventListener("change", event => {
      if (event.target.name === "model_id") this.choose();
      this.shape();
    });
    form.addEventListener("input", event => {
      if (event.target.closest("[aria-invalid]")) mark(event.target, "");
      this.shape();
    });
    document.addEventListener("paste", event => {
      const file = [...event.clipboardData.files].find(each => each.type.startsWith("image/"));
      if (!file || this.control("init_image").disabled) return;
      $("start").open = true;
      this.pictures.init_image.bring(file);
    });
  }

  control(name) { return this.form.elements[name]; }
  get named() { return [...this.form.elements].filter(control => control.name); }
  get model() { return this.models.find(each => each.descriptor.model_id === this.control("model_id").value); }
  get preset() { return this.found?.preset; }
  get found() {
    const [model, preset] = ["model_id", "preset"].map(name => this.control(name).value);
    return this.presets.find(each => each.model_id === model && each.preset.name === preset);
  }

  // The catalog, again and again: what a person has chosen stays where it is still offered.
  offer(models, presets) {
    this.models = models;
    this.presets = presets;
    const pipelines = models.filter(each => each.parameters);
    const names = pipelines.map(({ descriptor }) => [descriptor.model_id, descriptor.title || descriptor.model_id]);
    options(this.control("model_id"), names, pipelines.find(each => each.default)?.descriptor.model_id);
    this.choose();
    this.shape();
  }

  // A model brings its presets, samplers, LoRAs and ControlNets.
  choose() {
    const id = this.control("model_id").value, family = this.model?.descriptor.family;
    const own = this.presets.filter(each => each.model_id === id);
    options(this.control("preset"), own.map(({ preset }) =>
      [preset.name, `${preset.title || preset.name}, ${preset.width_px}×${preset.height_px}`]));
    const samplers = this.model?.parameters.properties.sampler?.enum || [];
    options(this.control("sampler"), [["", "the model's own"], ...samplers.map(each => [each, each])]);
    const assets = kind => this.models.map(each => each.descriptor)
      .filter(each => each.kind === kind && each.family === family)
      .map(each => [each.model_id, each.title || each.model_id]);
    options(this.control("control/model_id"), [["", "none"], ...assets("controlnet")]);
    this.lay(assets("lora"));
  }

  lay(loras) {
    const row = this.form.querySelector("[data-field=loras]"), before = this.loras;
    if (same(loras.map(([id]) => id), [...row.querySelectorAll("[type=checkbox]")].map(box => box.value))) return;
    row.replaceChildren(...loras.map(([id, title]) => {
      const use = before.find(each => each.model_id === id);
      const weight = make("input", { type: "number", min: -4, max: 4, step: 0.05, value: use ? use.weight : 1 });
      weight.ariaLabel = `Weight of ${title}`;
      const box = make("input", { type: "checkbox", value: id, checked: Boolean(use) });
      return make("div", { className: "lora" }, make("label", {}, box, title), make("label", {}, weight));
    }));
  }

  get loras() {
    return [...this.form.querySelectorAll(".lora")].map(row => row.querySelectorAll("input"))
      .filter(([box]) => box.checked)
      .map(([box, weight]) => ({ model_id: box.value, weight: Number(weight.value) }));
  }

  // Shows what can be set now, with its bounds; the rest is hidden and not sent.
  shape() {
    const schema = this.model?.parameters;
    for (const control of this.named) {
      const block = control.closest("label, .picture"), group = control.closest("[data-with]");
      const rule = control.dataset.job === undefined ? schema && within(schema, control.name) : {};
      const allowed = offered(rule) && !(control.tagName === "SELECT" && control.name !== "preset" && !rule.const &&
        control.options.length < 2);
      control.disabled = !allowed || Boolean(group && !this.control(group.dataset.with).value);
      if (control.name !== "model_id" && control.name !== "preset") (group || block).hidden = control.disabled;
      if (rule && control.dataset.job === undefined) bound(control, rule, this.preset?.[control.name]);
    }
    const most = schema?.properties.loras?.maxItems || 0, loras = this.form.querySelectorAll(".lora");
    for (const section of this.form.querySelectorAll("details")) {
      const some = [...section.querySelectorAll("[name]")].some(control => !control.disabled);
      section.hidden = section.id === "loras" ? !most || !loras.length : !some;
    }
    this.control("prompt").disabled = false;
    this.control("prompt").closest("label").hidden = false;
    show($("fit"), this.fit());
    $("paint").disabled = !this.model || Object.values(this.pictures).some(each => each.busy);
  }

  fit() {
    if (!this.model) return "No model is registered yet. Start a runner that has one; this page will notice.";
    const runners = this.found?.runners || [];
    const able = runners.filter(each => !each.refused).map(each => `${each.runner_id} (${each.tier})`);
    if (!runners.length) return "No runner is alive. A job waits until one comes.";
    if (able.length) return `Runs on ${able.join(", ")}.`;
    return `A job would wait: ${runners.map(each => `${each.runner_id}: ${each.refused}`).join("; ")}.`;
  }

  // The request, or null where something has to be put right first.
  async body() {
    this.clear();
    const wrong = this.named.filter(control => !control.disabled && !control.validity.valid);
    for (const control of wrong) mark(control, control.validationMessage);
    if (wrong.length) { this.lead(wrong[0]); return null; }
    await this.mask.keep();
    const body = {};
    for (const control of this.named) {
      if (control.disabled || control.value === "") continue;
      const path = control.name.split("/"), last = path.pop();
      const place = path.reduce((inner, name) => inner[name] ??= {}, body);
      place[last] = control.type === "number" ? Number(control.value) : control.value;
    }
    if (!$("loras").hidden && this.loras.length) body.loras = this.loras;
    return body;
  }

  // An error at its field where it names one, else above the button.
  complain(error) {
    const rest = [];
    for (const { pointer = "", detail } of error.errors || []) {
      const control = this.place(pointer.split("/").slice(1));
      if (control) { mark(control, detail); this.lead(control); } else rest.push(detail);
    }
    const told = error.errors?.length ? rest.join("; ") || "Please look at what is marked." : error.message;
    show(this.problem, told);
  }

  place(path) {
    for (; path.length; path = path.slice(0, -1)) {
      const name = path.join("/"), control = this.control(name);
      if (control && !control.disabled) return this.pictures[name]?.file || control;
      const group = this.form.querySelector(`[data-field="${name}"]`);
      if (group && !group.closest("[hidden]")) return group.querySelector(":checked");
    }
    return null;
  }

  lead(control) {
    const section = control.closest("details");
    if (section) section.open = true;
    control.focus();
    control.closest(".lora, .picture, label").scrollIntoView({ block: "nearest" });
  }

  clear() {
    show(this.problem, "");
    for (const control of this.form.querySelectorAll("[aria-invalid]")) mark(control, "");
  }

  // Fills the form from a job's request; what the preset says anyway stays open, so that it can be changed at once.
  fill(request) {
    this.clear();
    this.mask.use(false);
    const wanted = { ...request, upscale: factored(request) };
    for (const name of ["model_id", "preset"]) { select(this.control(name), request[name]); this.choose(); }
    for (const [name, field] of Object.entries(this.pictures)) field.set(value(wanted, name) || "");
    for (const control of this.named) {
      if (control.type === "hidden" || ["model_id", "preset"].includes(control.name)) continue;
      if (control.dataset.job !== undefined) continue;
      const found = value(wanted, control.name);
      control.value = found === undefined || found === this.preset?.[control.name] ? "" : found;
    }
    for (const row of this.form.querySelectorAll(".lora")) {
      const [box, weight] = row.querySelectorAll("input");
      const use = request.loras?.find(each => each.model_id === box.value);
      box.checked = Boolean(use);
      weight.value = use ? use.weight : 1;
    }
    this.shape();
    for (const section of this.form.querySelectorAll("details")) {
      section.open = [...section.querySelectorAll("[name]")].some(control => !control.disabled && control.value !== "")
        || (section.id === "loras" && this.loras.length > 0);
    }
    if (matchMedia("(pointer:fine)").matches) this.control("prompt").focus(); // elsewhere a keyboard would jump up
    announce("The form has these settings now.");
  }

  // Whether the model of a request can start from a picture.
  startable({ model_id }) {
    const schema = this.models.find(each => each.descriptor.model_id === model_id)?.parameters;
    return Boolean(schema) && offered(within(schema, "init_image"));
  }

  // The settings of a request, with a picture that was painted by it to start from: at its size, by a new seed.
  start(request, { sha256, url, width_px, height_px }) {
    const { mask_image, upscale, strength, seed, ...rest } = request;
    this.fill({ ...rest, images: 1, width_px, height_px });
    this.pictures.init_image.set(sha256, url);
    $("start").open = true;
  }

  // The body that asks for the very same pictures.
  again(request) {
    const body = { ...request, upscale: factored(request) };
    return Object.fromEntries(Object.entries(body).filter(([, each]) => each !== undefined && each !== null));
  }
}

const value = (request, name) => name.split("/").reduce((inner, part) => inner?.[part] ?? undefined, request);
const within = (schema, name) => name.split("/").reduce((inner, part) => inner?.properties?.[part], schema);
const fixed = rule => rule.maxLength === 0 || (rule.minimum !== undefined && rule.minimum === rule.maximum);
const offered = rule => Boolean(rule) && !fixed(rule);

// A second pass is recorded as the size it came to, and, since 2026-11-25, with the factor that was asked for.
const factored = ({ upscale, width_px }) =>
  upscale && { factor: upscale.factor ?? upscale.width_px / width_px, strength: upscale.strength };

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// What is there stays untouched: a list that somebody has open would close.
function options(select, pairs, first = "") {
  const before = select.value;
  if (same(pairs, [...select.options].map(option => [option.value, option.text]))) return;
  select.replaceChildren(...pairs.map(([name, title]) => new Option(title, name)));
  select.value = pairs.some(([name]) => name === before) ? before : first || pairs[0]?.[0] || "";
}

function select(control, name) {
  if ([...control.options].some(option => option.value === name)) control.value = name;
}

function bound(control, rule, preset) {
  const usual = preset ?? rule.default, multiple = rule.multipleOf;
  if (rule.maxLength) control.maxLength = rule.maxLength;
  if (control.type !== "number") return;
  if (rule.minimum !== undefined) control.min = multiple ? Math.ceil(rule.minimum / multiple) * multiple : rule.minimum;
  if (rule.maximum !== undefined) control.max = rule.maximum;
  control.step = multiple || (rule.type === "integer" ? 1 : "any");
  if (usual !== undefined && !control.required) control.placeholder = usual;
}
