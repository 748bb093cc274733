"use strict";
// Draws a mask over the image to start from. White is rendered again, black stays. Strokes are kept as lines, so that
// each can be taken back.
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function drawStroke(context, { width, points: [first, ...others] }) {
  Object.assign(context, { strokeStyle: "white", fillStyle: "white", lineWidth: width, lineCap: "round",
    lineJoin: "round" });
  context.beginPath();
  if (!others.length) {
    context.arc(...first, width / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.moveTo(...first);
  for (const point of others) context.lineTo(...point);
  context.stroke();
}

class MaskEditor {
  constructor(start, field) {
    this.start = start;
    this.field = field;
    this.strokes = [];
    this.canvas = make("canvas", { hidden: true, tabIndex: 0, role: "application", ariaLabel: "Mask: drag to draw. " +
      "Arrow keys move the brush, with Shift they draw, the space bar draws a dot, Ctrl+Z takes the last stroke back." });
    this.draw = make("button", { type: "button", textContent: "Draw the mask", ariaPressed: "false",
      onclick: () => this.use(this.canvas.hidden) });
    this.back = make("button", { type: "button", textContent: "Undo", hidden: true, onclick: () => this.undo() });
    this.wipe = make("button", { type: "button", textContent: "Clear", hidden: true, onclick: () => this.clear() });
    this.size = make("input", { type: "range", min: 2, max: 40, value: 12 });
    this.brush = make("label", { hidden: true }, "Brush", this.size);
    field.root.prepend(make("div", { className: "tools" }, this.draw, this.back, this.wipe, this.brush));
    start.image.after(this.canvas);
    start.image.addEventListener("load", () => this.fit());
    this.listen();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", event => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.at = null;
      this.begin(this.pointOf(event));
      this.drawing = event.pointerId;
    });
    canvas.addEventListener("pointermove", event =>
      event.pointerId === this.drawing && this.extend(this.pointOf(event)));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { this.drawing = null; });
    canvas.addEventListener("keydown", event => this.press(event));
    canvas.addEventListener("blur", () => { this.at = null; this.redraw(); });
  }

  use(on) {
    this.draw.ariaPressed = String(on);
    this.canvas.hidden = this.back.hidden = this.wipe.hidden = this.brush.hidden = !on;
    if (on && !this.canvas.width) this.fit();
    this.redraw();
  }

  // Another image: the canvas has its size, and what was drawn over the one before is gone.
  fit() {
    const { naturalWidth: width, naturalHeight: height } = this.start.image;
    if (width === this.canvas.width && height === this.canvas.height && this.over === this.start.value) return;
    this.over = this.start.value;
    Object.assign(this.canvas, { width, height });
    this.clear();
  }

  clear() {
    this.strokes = [];
    this.changed();
  }

  undo() {
    this.strokes.pop();
    this.changed();
  }

  // What was drawn differs from the mask that was uploaded.
  changed() {
    if (this.uploaded && this.field.value === this.uploaded) this.field.set("");
    this.uploaded = null;
    this.redraw();
  }

  redraw() {
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const stroke of this.strokes) drawStroke(context, stroke);
    this.back.disabled = this.wipe.disabled = !this.strokes.length;
    if (!this.at) return;
    context.strokeStyle = "black"; // where the keys have the brush
    context.lineWidth = Math.max(1, this.width / 8);
    context.beginPath();
    context.arc(...this.at, this.width / 2, 0, 2 * Math.PI);
    context.stroke();
  }

  // Of the brush, in pixels of the image.
  get width() { return this.size.value / 100 * Math.min(this.canvas.width, this.canvas.height); }

  pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  begin(point) {
    this.strokes.push({ width: this.width, points: [point] });
    this.changed();
  }

  extend(point) {
    this.strokes.at(-1).points.push(point);
    this.redraw();
  }

  press(event) {
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) this.undo();
    else if (event.key === " ") this.begin(this.place());
    else if (event.key in ARROWS) this.move(ARROWS[event.key], event.shiftKey);
    else return;
    event.preventDefault();
  }

  place() { return this.at ??= [this.canvas.width / 2, this.canvas.height / 2]; }

  move([right, down], drawing) {
    const [x, y] = this.place(), { width, height } = this.canvas, inside = (to, most) => Math.min(most, Math.max(0, to));
    if (drawing && this.strokes.at(-1)?.points.at(-1) !== this.at) this.begin(this.at);
    this.at = [inside(x + right * this.width / 2, width), inside(y + down * this.width / 2, height)];
    if (drawing) this.extend(this.at); else this.redraw();
  }

  // Uploads what was drawn as the mask, once, when it is needed.
  async finish() {
    if (!this.strokes.length || this.uploaded || this.canvas.hidden || !this.field.enabled) return;
    const whole = make("canvas", { width: this.canvas.width, height: this.canvas.height });
    const context = whole.getContext("2d");
    context.fillRect(0, 0, whole.width, whole.height);
    for (const stroke of this.strokes) drawStroke(context, stroke);
    const blob = await new Promise(done => whole.toBlob(done, "image/png"));
    this.uploaded = (await upload(blob)).sha256;
    this.field.set(this.uploaded);
  }
}
