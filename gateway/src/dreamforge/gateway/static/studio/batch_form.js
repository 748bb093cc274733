"use strict";
// Several jobs at once: templates and up to two parameters with several values, which become one batch.
const PROMPTS = ["prompt", "negative_prompt"];

// The parameters that can have several values: numbers and choices, as [name, title].
function axesOf(schema) {
  return Object.entries(schema?.properties ?? {})
    .filter(([name, rule]) => name !== "model_id" && !fixed(rule) && (rule.enum || ["integer", "number"].includes(rule.type)))
    .map(([name, rule]) => [name, rule.title || words(name)]);
}

// The values of a text, by the type of the parameter. Error: one that is no number.
function valuesOf(text, rule) {
  const parts = text.split(",").map(each => each.trim()).filter(Boolean);
  if (rule.enum) return parts;
  const wrong = parts.find(each => !Number.isFinite(Number(each)));
  if (wrong !== undefined) throw new Error(`${wrong} is no number.`);
  return parts.map(Number);
}

// The body of a batch from that of a job: what the grid sets, and templates, are taken out of the request.
function batchBody(body, { template, samples, axes }) {
  const grid = Object.fromEntries(axes), request = { ...body }, templates = {};
  for (const name of Object.keys(grid)) delete request[name];
  for (const name of template ? PROMPTS : []) {
    if (request[name]) templates[name] = request[name];
    delete request[name];
  }
  return { request, template: templates, grid, ...(template && samples ? { samples } : {}) };
}

class BatchForm {
  // `schema()` is that of the chosen model.
  constructor(root, schema) {
    this.root = root;
    this.schema = schema;
    this.template = root.querySelector("[name=template]");
    this.samples = root.querySelector("[name=samples]");
    this.rows = [...root.querySelectorAll(".axis")].map(row =>
      ({ select: row.querySelector("select"), input: row.querySelector("input") }));
    root.addEventListener("toggle", () => this.offer());
    root.addEventListener("change", () => this.update());
    for (const { select } of this.rows) select.addEventListener("focus", () => this.offer());
    this.offer();
  }

  // The parameters of the model; a choice that is still there stays.
  offer() {
    const options = [["", "nothing"], ...axesOf(this.schema())];
    for (const { select } of this.rows) setOptions(select, options);
    this.update();
  }

  update() {
    this.samples.closest(".field").hidden = !this.template.checked;
    for (const { select, input } of this.rows) {
      const rule = this.schema()?.properties[select.value];
      input.disabled = !rule;
      input.placeholder = rule?.enum ? rule.enum.slice(0, 3).join(", ") : "10, 20, 30";
    }
  }

  get used() { return this.template.checked || this.rows.some(({ select }) => select.value); }

  // The body of a batch, or null where one job is asked for. Error: values that cannot be read, at their field.
  body(body) {
    if (!this.used) return null;
    const axes = [];
    for (const { select, input } of this.rows.filter(each => each.select.value)) {
      try {
        const values = valuesOf(input.value, this.schema().properties[select.value]);
        if (!values.length) throw new Error("Write the values with commas between them.");
        axes.push([select.value, values]);
      } catch (error) {
        mark(input, error.message);
        this.root.open = true;
        input.focus();
        throw error;
      }
    }
    axes.reverse(); // the one across changes fastest
    return batchBody(body, { template: this.template.checked, samples: Number(this.samples.value) || null, axes });
  }

  clear() {
    this.template.checked = false;
    this.samples.value = "";
    for (const { select, input } of this.rows) { select.value = ""; input.value = ""; }
    this.root.open = false;
    this.update();
  }
}
