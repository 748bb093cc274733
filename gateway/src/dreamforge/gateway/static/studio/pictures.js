"use strict";
// A field that takes a picture: chosen, dropped or pasted, sent once, then named by its hash. One that was painted
// here has its hash already.
class PictureField {
  constructor(block, changed) {
    this.changed = changed;
    this.block = block;
    this.file = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp" });
    this.hash = make("input", { type: "hidden", name: block.dataset.picture });
    this.image = make("img", { alt: block.dataset.words });
    const remove = make("button", { type: "button", textContent: "Remove", onclick: () => this.set("") });
    this.frame = make("div", { className: "frame", hidden: true }, this.image, remove);
    block.append(make("label", {}, block.dataset.words, this.file), this.hash, this.frame);
    this.file.addEventListener("change", () => this.file.files[0] && this.bring(this.file.files[0]));
    block.addEventListener("dragover", event => { event.preventDefault(); block.classList.add("over"); });
    block.addEventListener("dragleave", () => block.classList.remove("over"));
    block.addEventListener("drop", event => {
      event.preventDefault();
      block.classList.remove("over");
      if (event.dataTransfer.files[0]) this.bring(event.dataTransfer.files[0]);
    });
  }

  get busy() { return this.coming !== undefined; }

  async bring(blob) {
    const coming = this.coming = upload(blob);
    mark(this.file, "");
    this.changed();
    try {
      const { sha256 } = await coming;
      if (this.coming === coming) this.set(sha256);
    } catch (error) {
      if (this.coming === coming) this.set("");
      mark(this.file, error.message);
    }
  }

  // `from` is where the picture can be seen, if it was not sent.
  set(sha256, from = `/v1/uploads/${sha256}`) {
    this.coming = undefined;
    this.hash.value = sha256;
    if (!sha256) this.file.value = "";
    if (sha256) this.image.src = from;
    this.frame.hidden = !sha256;
    mark(this.file, "");
    this.changed();
  }
}

// An error beside its control, or none.
function mark(control, text) {
  const block = control.closest(".lora") || control.closest("label, .picture");
  block.querySelector(":scope > small.error")?.remove();
  control.removeAttribute("aria-invalid");
  control.removeAttribute("aria-describedby");
  if (!text) return;
  const id = `error-${control.name || block.dataset.picture || control.value}`;
  block.append(make("small", { className: "error", id, textContent: text }));
  control.setAttribute("aria-invalid", "true");
  control.setAttribute("aria-describedby", id);
}
