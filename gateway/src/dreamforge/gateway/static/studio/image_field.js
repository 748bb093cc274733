"use strict";
// A field that takes an image: chosen, dropped or pasted, uploaded once, then named by its hash. An image that was
// rendered here has its hash already.
class ImageField {
  constructor(control, changed) {
    this.name = control.name;
    this.changed = changed;
    this.text = make("span");
    this.input = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/avif", id: `field-${control.id}` });
    this.image = make("img");
    const remove = make("button", { type: "button", textContent: "Remove", onclick: () => this.set("") });
    this.frame = make("div", { className: "frame" }, this.image);
    this.chosen = make("div", { className: "chosen", hidden: true }, this.frame, remove);
    this.root = make("div", { className: "field picture whole" }, make("label", {}, this.text, this.input), this.chosen);
    this.sha256 = "";
    this.describe(control);
    this.input.addEventListener("change", () => this.input.files[0] && this.upload(this.input.files[0]));
    this.image.addEventListener("load", () => this.shape());
    keepTrying(this.image);
    this.acceptDrops();
  }

  // The frame has the shape of the image at every width, so that what is drawn over it stays on it.
  shape() {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    this.frame.style.aspectRatio = `${width} / ${height}`;
    this.frame.style.width = `min(100%, ${16 * width / height}rem)`;
  }

  acceptDrops() {
    const over = on => this.root.classList.toggle("over", on);
    this.root.addEventListener("dragover", event => { event.preventDefault(); over(true); });
    this.root.addEventListener("dragleave", () => over(false));
    this.root.addEventListener("drop", event => {
      event.preventDefault();
      over(false);
      if (event.dataTransfer.files[0]) this.upload(event.dataTransfer.files[0]);
    });
  }

  describe(control) {
    this.control = control;
    this.text.textContent = this.image.alt = control.label;
    this.input.title = "Choose an image, drop it here, or paste it";
  }

  get busy() { return this.pending !== undefined; }
  get value() { return this.sha256 || undefined; }
  get address() { return this.sha256 && this.image.getAttribute("src"); }
  set value(sha256) { this.set(sha256 || ""); }

  enable(on) {
    this.enabled = on;
    this.root.hidden = this.input.disabled = !on;
  }

  problems() { return []; }
  find() { return this.input; }

  async upload(blob) {
    const pending = this.pending = upload(blob);
    mark(this.input, "");
    this.changed();
    try {
      const { sha256 } = await pending;
      if (this.pending === pending) this.set(sha256);
    } catch (error) {
      if (this.pending === pending) this.set("");
      mark(this.input, error.message);
    }
  }

  // `url` is where the image can be seen, if it was not uploaded.
  set(sha256, url = uploadOf(sha256)) {
    this.pending = undefined;
    this.sha256 = sha256;
    if (!sha256) this.input.value = "";
    if (sha256 && this.address !== url) this.image.src = url;
    this.chosen.hidden = !sha256;
    mark(this.input, "");
    this.changed();
  }
}

// Several images in their order: one empty field more than there are images, up to what the model takes.
class ImagesField {
  constructor(control, changed) {
    this.name = control.name;
    this.changed = () => { this.arrange(); changed(); };
    this.id = control.id;
    this.made = 0;
    this.fields = [];
    this.root = make("div", { className: "whole row" });
    this.describe(control);
  }

  describe(control) {
    this.control = control;
    this.arrange();
  }

  get filled() { return this.fields.filter(field => field.value || field.busy); }

  arrange() {
    const kept = this.filled.slice(0, this.control.most);
    const empty = this.fields.find(field => !kept.includes(field) && !field.value && !field.busy);
    if (kept.length < this.control.most) kept.push(empty || this.field());
    this.fields = kept;
    kept.forEach((field, index) => field.describe({ ...this.control, label: `${this.control.label} ${index + 1}` }));
    const roots = kept.map(field => field.root);
    if (roots.length !== this.root.children.length || roots.some((each, index) => each !== this.root.children[index]))
      this.root.replaceChildren(...roots);
  }

  field() { return new ImageField({ ...this.control, id: `${this.id}-${this.made++}` }, () => this.changed()); }

  get busy() { return this.fields.some(field => field.busy); }

  get value() {
    const values = this.fields.map(field => field.value).filter(Boolean);
    return values.length ? values : undefined;
  }

  set value(values) {
    this.fields = (values || []).map(value => Object.assign(this.field(), { value }));
    this.arrange();
  }

  enable(on) {
    this.enabled = on;
    this.root.hidden = !on;
    for (const field of this.fields) field.enable(on);
  }

  problems() { return []; }
  find([index = 0]) { return this.fields[index]?.input; }
}
