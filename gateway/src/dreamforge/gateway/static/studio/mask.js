"use strict";
// Drawing the part to paint anew, over the picture to start from. White is painted anew, black stays.
class Mask {
  constructor(start, field) {
    this.start = start;
    this.field = field;
    this.canvas = make("canvas", { hidden: true });
    this.drawn = false;
    start.image.after(this.canvas);
    start.image.addEventListener("load", () => this.wipe());
    $("draw").addEventListener("click", () => this.use($("draw").getAttribute("aria-pressed") !== "true"));
    $("wipe").addEventListener("click", () => { this.wipe(); this.field.set(""); });
    this.canvas.addEventListener("pointerdown", event => {
      this.canvas.setPointerCapture(event.pointerId);
      this.last = this.at(event);
      this.stroke(event);
    });
    this.canvas.addEventListener("pointermove", event => event.buttons && this.stroke(event));
  }

  use(on) {
    $("draw").setAttribute("aria-pressed", String(on));
    this.canvas.hidden = $("wipe").hidden = $("brush").hidden = !on;
    if (on && !this.canvas.width) this.wipe();
  }

  wipe() {
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
    const ink = this.canvas.getContext("2d"), to = this.at(event);
    ink.strokeStyle = "white";
    ink.lineCap = "round";
    ink.lineWidth = $("brush").firstElementChild.value / 100 * Math.min(this.canvas.width, this.canvas.height);
    ink.beginPath();
    ink.moveTo(...this.last);
    ink.lineTo(...to);
    ink.stroke();
    this.last = to;
    this.drawn = true;
  }

  // What was drawn becomes the mask, once, when it is needed.
  async keep() {
    if (!this.drawn || this.canvas.hidden) return;
    const whole = make("canvas", { width: this.canvas.width, height: this.canvas.height });
    const ink = whole.getContext("2d");
    ink.fillRect(0, 0, whole.width, whole.height);
    ink.drawImage(this.canvas, 0, 0);
    const blob = await new Promise(done => whole.toBlob(done, "image/png"));
    this.field.set((await upload(blob)).sha256);
    this.drawn = false;
  }
}
