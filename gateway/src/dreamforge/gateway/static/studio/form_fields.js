"use strict";
// A control description as elements: a label with its input, a nested group, or the LoRAs of a model. Every field has
// `value` (undefined where nothing is set), `enable(on)`, `describe(control)`, `problems()` and `find(path)`.
class InputField {
  constructor(control, changed) {
    this.name = control.name;
    const tags = { choice: "select", textarea: "textarea" };
    this.input = make(tags[control.kind] || "input", { id: `field-${control.id || control.name}` });
    if (control.kind === "number") this.input.type = "number";
    if (control.kind === "switch") Object.assign(this.input, { type: "checkbox", checked: Boolean(control.initial) });
    this.text = make("span");
    this.help = make("small", { className: "help", ariaHidden: "true" }); // the input itself is described by it
    this.root = make("label", { className: "field" }, this.text, this.input, this.help);
    this.root.classList.toggle("switch", control.kind === "switch");
    this.root.classList.toggle("whole", control.kind !== "number");
    if (["text", "textarea"].includes(control.kind)) this.limit = new TextLimit(this.input);
    this.describe(control);
    this.input.addEventListener("input", changed);
  }

  // Label, help, bounds and options can change with the model and the preset; the value stays.
  describe(control) {
    this.control = control;
    if (this.text.textContent !== control.label) this.text.textContent = control.label;
    this.root.title = this.input.ariaDescription = control.help || "";
    show(this.help, control.help);
    if (control.options) setOptions(this.input, control.options);
    if (this.limit) this.limit.most = control.limit;
    for (const [name, value] of Object.entries(control.attributes || {})) {
      if (value === undefined) this.input.removeAttribute(name); else this.input.setAttribute(name, value);
    }
    if (control.placeholder !== undefined) this.input.placeholder = control.placeholder;
  }

  get value() {
    const { kind, initial = false } = this.control;
    if (kind === "switch") return this.input.checked === initial ? undefined : this.input.checked;
    if (this.input.value === "") return undefined;
    return kind === "number" ? Number(this.input.value) : this.input.value;
  }

  set value(value) {
    if (this.control.kind === "switch") this.input.checked = value ?? Boolean(this.control.initial);
    else if (value === undefined || this.input.tagName !== "SELECT") this.input.value = value ?? "";
    else selectOption(this.input, String(value));
    this.limit?.update();
  }

  enable(on) {
    this.enabled = on;
    this.root.hidden = this.input.disabled = !on;
  }

  problems() { return this.input.validity.valid ? [] : [[this.input, this.input.validationMessage]]; }
  find() { return this.input; }
}

class GroupField {
  constructor(control, changed) {
    this.name = control.name;
    this.prefix = `${control.id || control.name}-`;
    this.changed = changed;
    this.fields = new Map();
    this.root = make("div", { className: "group whole row" });
    this.describe(control);
  }

  describe(control) {
    this.control = control;
    this.active = arrange(this.root, this.fields, control.controls, this.changed, this.prefix);
  }

  get busy() { return this.active.some(field => field.busy); }

  get value() {
    const pairs = this.active.filter(each => each.enabled).map(each => [each.name, each.value]);
    const set = pairs.filter(([, value]) => value !== undefined);
    return set.length ? Object.fromEntries(set) : undefined;
  }

  set value(value) { for (const field of this.active) field.value = value?.[field.name] ?? undefined; }

  enable(on) {
    this.enabled = on;
    this.root.hidden = !on;
    enableNeeded(this.active, on);
  }

  problems() { return this.active.filter(each => each.enabled).flatMap(each => each.problems()); }
  find([name, ...rest]) { return this.active.find(each => each.enabled && each.name === name)?.find(rest); }
}

// Several groups of the same fields: those that are set, and an empty one for the next while there may be more.
class GroupsField {
  constructor(control, changed) {
    this.name = control.name;
    this.changed = changed;
    this.groups = [];
    this.root = make("div", { className: "groups whole" });
    this.describe(control);
    this.resize();
  }

  describe(control) {
    this.control = control;
    for (const group of this.groups) group.describe(control);
  }

  resize(wanted = this.groups.findLastIndex(each => each.value !== undefined) + 2) {
    const count = Math.max(1, Math.min(wanted, this.control.most));
    for (const group of this.groups.splice(count)) group.root.remove();
    while (this.groups.length < count) {
      const group = new GroupField({ ...this.control, id: `${this.name}-${this.groups.length}` }, this.changed);
      this.groups.push(group);
      this.root.append(group.root);
    }
  }

  get busy() { return this.groups.some(each => each.busy); }
  get used() { return this.groups.filter(each => each.value !== undefined); }

  get value() { return this.used.length ? this.used.map(each => each.value) : undefined; }

  set value(values) {
    const all = [values ?? []].flat(); // a form that was kept in the browser may have a single one alone
    this.resize(all.length + 1);
    for (const [index, group] of this.groups.entries()) {
      group.value = all[index];
      group.enable(true);
    }
  }

  enable(on) {
    this.enabled = on;
    this.root.hidden = !on;
    for (const group of this.groups) group.enable(on);
    this.resize();
    this.groups.at(-1).enable(on);
  }

  problems() { return this.groups.flatMap(each => each.problems()); }
  find([index = 0, ...rest]) { return (this.used[index] || this.groups[0]).find(rest.length ? rest : [this.first]); }
  get first() { return this.control.controls[0].name; }
}

class LorasField {
  constructor(control, changed) {
    this.name = control.name;
    this.changed = changed;
    this.root = make("div", { className: "whole row" });
    this.describe(control);
  }

  describe(control) {
    const before = this.control && this.value;
    const known = this.control && same(control.options, this.control.options);
    this.control = control;
    if (known) return;
    this.root.replaceChildren(...control.options.map(([id, title]) => this.row(id, title)));
    this.value = before;
  }

  row(value, title) {
    const weight = make("input", { type: "number", value: this.control.weight, ariaLabel: `Weight of ${title}` });
    for (const name of ["min", "max"]) weight[name] = this.control.attributes[name];
    const text = make("input", { type: "number", placeholder: "text", ariaLabel: `Text weight of ${title}`,
      title: this.control.textHelp });
    for (const name of ["min", "max"]) text[name] = weight[name];
    weight.step = text.step = 0.05;
    const box = make("input", { type: "checkbox", value });
    for (const input of [box, weight, text]) input.addEventListener("input", this.changed);
    return make("div", { className: "lora field" }, make("label", {}, box, title), make("label", {}, weight),
      make("label", {}, text));
  }

  get rows() { return [...this.root.children].map(row => row.querySelectorAll("input")); }
  get used() { return this.rows.filter(([box]) => box.checked); }

  get value() {
    const used = this.used.map(([box, weight, text]) => ({ model_id: box.value, weight: Number(weight.value),
      ...(text.value === "" ? {} : { text_weight: Number(text.value) }) }));
    return used.length ? used : undefined;
  }

  set value(loras) {
    for (const [box, weight, text] of this.rows) {
      const use = loras?.find(each => each.model_id === box.value);
      box.checked = Boolean(use);
      weight.value = use ? use.weight : this.control.weight;
      text.value = use?.text_weight ?? "";
    }
  }

  enable(on) {
    this.enabled = on;
    this.root.hidden = !on;
    for (const input of this.rows.flatMap(row => [...row])) input.disabled = !on;
  }

  problems() {
    if (this.used.length > this.control.most) return [[this.used[0][0], `at most ${this.control.most} LoRAs at once`]];
    return this.used.flatMap(([, ...weights]) => weights).filter(weight => !weight.validity.valid)
      .map(weight => [weight, weight.validationMessage]);
  }

  find([index = 0, name]) { return this.used[index]?.[{ weight: 1, text_weight: 2 }[name] ?? 0]; }
}

// The fields of these controls in this order under `root`; a field that was there before keeps its value.
function arrange(root, fields, controls, changed, prefix = "") {
  const active = controls.map(control => {
    const known = fields.get(control.name);
    if (known?.kind === control.kind) { known.describe(control); return known; }
    const field = newField({ ...control, id: prefix + control.name }, changed);
    fields.set(control.name, Object.assign(field, { kind: control.kind }));
    return field;
  });
  const roots = active.map(each => each.root);
  if (roots.length !== root.children.length || roots.some((each, index) => each !== root.children[index]))
    root.replaceChildren(...roots);
  return active;
}

function newField(control, changed) {
  const kinds = {
    upload: ImageField, uploads: ImagesField, group: GroupField, groups: GroupsField, loras: LorasField,
  };
  return new (kinds[control.kind] || InputField)(control, changed);
}

// A field that needs another one is offered once the other one has a value.
function enableNeeded(fields, on) {
  const set = name => fields.some(each => each.name === name && each.enabled && each.value !== undefined);
  for (const field of fields) field.enable(on && field.control.needs.every(set));
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// An unchanged list stays untouched: replacing it would close an open one.
function setOptions(select, pairs, first = "") {
  const before = select.value;
  if (same(pairs, [...select.options].map(option => [option.value, option.text]))) return;
  select.replaceChildren(...pairs.map(([name, title]) => new Option(title, name)));
  select.value = pairs.some(([name]) => name === before) ? before : first || pairs[0]?.[0] || "";
}

function selectOption(select, name) {
  if ([...select.options].some(option => option.value === name)) select.value = name;
}

// Shows an error beside its control, or removes it.
function mark(control, text) {
  const block = control.closest(".field");
  block.querySelector(":scope > small.error")?.remove();
  control.removeAttribute("aria-invalid");
  control.removeAttribute("aria-errormessage");
  if (!text) return;
  const id = `error-${control.id || control.value}`;
  block.append(make("small", { className: "error", id, role: "alert", textContent: text }));
  control.setAttribute("aria-invalid", "true");
  control.setAttribute("aria-errormessage", id);
}
