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
