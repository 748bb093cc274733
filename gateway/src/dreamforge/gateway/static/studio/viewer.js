"use strict";
// One picture, large, with its recipe: first what a person has set.
const FIRST = ["prompt", "negative_prompt", "seed", "model_id", "steps", "guidance_scale", "sampler", "strength"];
const inOrder = recipe =>
  ({ ...Object.fromEntries(FIRST.filter(name => name in recipe).map(name => [name, recipe[name]])), ...recipe });

class Viewer {
  constructor(dialog, studio) {
    this.dialog = dialog;
    const part = name => dialog.querySelector(name);
    part(".close").addEventListener("click", () => dialog.close());
    part(".back").addEventListener("click", () => this.turn(-1));
    part(".next").addEventListener("click", () => this.turn(1));
    part(".seed").addEventListener("click", event => copy(String(this.picture.seed), event.target));
    part(".recipe").addEventListener("click", event =>
      copy(JSON.stringify(this.picture.recipe, null, 2), event.target));
    part(".use").addEventListener("click", () => {
      dialog.close();
      studio.reuse({ ...this.job.request, seed: this.picture.seed, images: 1 });
    });
    part(".start").addEventListener("click", () => {
      dialog.close();
      studio.start(this.job.request, this.picture);
    });
    this.startable = () => studio.startable(this.job.request);
    dialog.addEventListener("click", event => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", event => {
      if (event.key === "ArrowLeft") this.turn(-1);
      if (event.key === "ArrowRight") this.turn(1);
    });
  }

  get picture() { return this.job.artifacts[this.index]; }

  open(job, index) {
    this.job = job;
    this.index = index;
    this.draw();
    this.dialog.showModal();
  }

  turn(by) {
    const to = this.index + by;
    if (to < 0 || to >= this.job.artifacts.length) return;
    this.index = to;
    this.draw();
  }

  draw() {
    const { picture, dialog, job } = this, part = name => dialog.querySelector(name);
    Object.assign(part("img"), { src: picture.url, alt: job.request.prompt });
    part("h2").textContent = job.request.prompt;
    part(".file").href = picture.url;
    part(".start").hidden = !this.startable();
    part(".back").disabled = this.index === 0;
    part(".next").disabled = this.index === job.artifacts.length - 1;
    const rows = [["picture", `${this.index + 1} of ${job.artifacts.length}`], ...pairs(inOrder(picture.recipe)),
      ["sha256", picture.sha256]].filter(([, text]) => text !== "");
    part("dl").replaceChildren(...rows.flatMap(([name, text]) =>
      [make("dt", { textContent: name.replaceAll("_", " ") }), make("dd", { textContent: text })]));
  }
}
