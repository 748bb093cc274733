"use strict";
// A field that takes an image: chosen, dropped or pasted, uploaded once, then named by its hash. An image that was
// rendered here has its hash already.
class ImageField {
  constructor(control, changed) {
    this.name = control.name;
    this.changed = changed;
    this.text = make("span");
    this.input = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp", id: `field-${control.id}` });
    this.image = make("img");
    const remove = make("button", { type: "button", textContent: "Remove", onclick: () => this.set("") });
    this.frame = make("div", { className: "frame", hidden: true }, this.image, remove);
    this.root = make("div", { className: "field picture whole" }, make("label", {}, this.text, this.input), this.frame);
    this.sha256 = "";
    this.describe(control);
    this.input.addEventListener("change", () => this.input.files[0] && this.upload(this.input.files[0]));
    this.acceptDrops();
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
  set(sha256, url = `/v1/uploads/${sha256}`) {
    this.pending = undefined;
    this.sha256 = sha256;
    if (!sha256) this.input.value = "";
    if (sha256) this.image.src = url;
    this.frame.hidden = !sha256;
    mark(this.input, "");
    this.changed();
  }
}
