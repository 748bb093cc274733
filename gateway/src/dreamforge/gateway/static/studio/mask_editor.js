"use strict";
// Draws a mask over the image to start from. White is rendered again, black stays.
class MaskEditor {
  constructor(start, field) {
    this.start = start;
    this.field = field;
    this.canvas = make("canvas", { hidden: true });
    this.drawn = false;
    this.draw = make("button", { type: "button", textContent: "Draw the mask", ariaPressed: "false",
      onclick: () => this.use(this.canvas.hidden) });
    this.wipe = make("button", { type: "button", textContent: "Clear", hidden: true,
      onclick: () => { this.clear(); this.field.set(""); } });
    this.size = make("input", { type: "range", min: 2, max: 40, value: 12 });
    this.brush = make("label", { hidden: true }, "Brush", this.size);
    field.root.prepend(make("div", { className: "tools" }, this.draw, this.wipe, this.brush));
    start.image.after(this.canvas);
    start.image.addEventListener("load", () => this.clear());
    this.canvas.addEventListener("pointerdown", event => {
      this.canvas.setPointerCapture(event.pointerId);
      this.last = this.at(event);
      this.stroke(event);
    });
    this.canvas.addEventListener("pointermove", event => event.buttons && this.stroke(event));
  }

  use(on) {
    this.draw.ariaPressed = String(on);
    this.canvas.hidden = this.wipe.hidden = this.brush.hidden = !on;
    if (on && !this.canvas.width) this.clear();
  }

  clear() {
    this.canvas.width = this.start.image.naturalWidth; // also empties it
    this.canvas.height = this.start.image.naturalHeight;
    this.drawn = false;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  stroke(event) {
    const context = this.canvas.getContext("2d"), to = this.at(event);
    context.strokeStyle = "white";
    context.lineCap = "round";
    context.lineWidth = this.size.value / 100 * Math.min(this.canvas.width, this.canvas.height);
    context.beginPath();
    context.moveTo(...this.last);
    context.lineTo(...to);
    context.stroke();
    this.last = to;
    this.drawn = true;
  }

  // Uploads what was drawn as the mask, once, when it is needed.
  async finish() {
    if (!this.drawn || this.canvas.hidden || !this.field.enabled) return;
    const whole = make("canvas", { width: this.canvas.width, height: this.canvas.height });
    const context = whole.getContext("2d");
    context.fillRect(0, 0, whole.width, whole.height);
    context.drawImage(this.canvas, 0, 0);
    const blob = await new Promise(done => whole.toBlob(done, "image/png"));
    this.field.set((await upload(blob)).sha256);
    this.drawn = false;
  }
}
