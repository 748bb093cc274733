"use strict";
// One image or video, large, with its recipe: first what a person has set.
const FIRST = ["prompt", "negative_prompt", "seed", "model_id", "steps", "guidance_scale", "sampler", "strength"];
const inOrder = recipe =>
  ({ ...Object.fromEntries(FIRST.filter(name => name in recipe).map(name => [name, recipe[name]])), ...recipe });

class ImageViewer {
  constructor(dialog, studio) {
    this.dialog = dialog;
    const part = name => dialog.querySelector(name);
    part(".close").addEventListener("click", () => dialog.close());
    part(".back").addEventListener("click", () => this.turn(-1));
    part(".next").addEventListener("click", () => this.turn(1));
    part(".seed").addEventListener("click", event => copy(String(this.image.seed), event.target));
    part(".recipe").addEventListener("click", event =>
      copy(JSON.stringify(this.image.recipe, null, 2), event.target));
    part(".use").addEventListener("click", () => {
      dialog.close();
      studio.reuse({ ...this.job.request, seed: this.image.seed, images: 1 });
    });
    part(".start").addEventListener("click", () => {
      dialog.close();
      studio.startFrom(this.job.request, this.image);
    });
    keepTrying(part("img"));
    dialog.addEventListener("close", () => this.stop());
    this.canStart = () => studio.canStartFrom(this.job.request);
    dialog.addEventListener("click", event => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", event => {
      if (event.key === "ArrowLeft") this.turn(-1);
      if (event.key === "ArrowRight") this.turn(1);
    });
  }

  stop() {
    const video = this.dialog.querySelector("video");
    video.pause();
    video.removeAttribute("src");
    video.load();
  }

  get image() { return this.job.artifacts[this.index]; }

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
    const { image, dialog, job } = this, part = name => dialog.querySelector(name);
    const video = isVideo(image);
    part("img").hidden = video;
    part("video").hidden = !video;
    // Until it is played, a video is the image that stands for it.
    Object.assign(part("img"), { src: video ? thumbnailOf(image) : addressOf(image), alt: job.request.prompt });
    if (video) Object.assign(part("video"), { src: addressOf(image), poster: thumbnailOf(image),
      ariaLabel: job.request.prompt });
    else this.stop();
    part("h2").textContent = job.request.prompt;
    part(".file").href = addressOf(image);
    part(".start").hidden = video || !this.canStart();
    part(".back").disabled = this.index === 0;
    part(".next").disabled = this.index === job.artifacts.length - 1;
    const rows = [["image", `${this.index + 1} of ${job.artifacts.length}`], ...pairs(inOrder(image.recipe)),
      ["sha256", image.sha256]].filter(([, text]) => text !== "");
    part("dl").replaceChildren(...rows.flatMap(([name, text]) =>
      [make("dt", { textContent: name.replaceAll("_", " ") }), make("dd", { textContent: text })]));
  }
}
