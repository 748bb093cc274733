"use strict";
// One job on the page: a fold of its events while it is watched, else what its summary says.
const PREVIEW = /^data:image\/(jpeg|png|webp);base64,/; // only what a runner sends, never an address

class Card {
  // `job` is a summary; `studio` has reuse(request), repeat(card) and viewer.
  constructor(job, studio) {
    this.studio = studio;
    this.job = job;
    this.version = job.version || 0;
    this.spot = { last: "" };
    this.root = $("card").content.firstElementChild.cloneNode(true);
    this.root.id = job.job_id;
    this.root.card = this;
    this.part(".raw").href = `/v1/jobs/${job.job_id}`;
    this.on(".stop", () => this.cancel());
    this.on(".reuse", () => studio.reuse({ ...this.job.request, seed: undefined }));
    this.on(".repeat", () => studio.repeat(this));
    this.part(".story").addEventListener("toggle", () => this.tell());
    this.say(stands(job));
    this.draw();
  }

  part(name) { return this.root.querySelector(name); }
  on(name, action) { this.part(name).addEventListener("click", action); }
  get id() { return this.job.job_id; }
  get open() { return !TERMINAL.includes(this.job.status); }
  get watched() { return Boolean(this.watching); }

  say(text) { show(this.part(".said"), text); }

  draw() {
    const { job, part } = { job: this.job, part: name => this.part(name) };
    this.root.dataset.status = job.status;
    part("h2").textContent = job.request.prompt;
    part(".facts").textContent = facts(job.request);
    const at = job.finished_at || job.started_at || job.requested_at;
    part(".state").textContent = `${STATES[job.status]}${at ? ` · ${when(at)}` : ""}`;
    part(".state").title = at || "";
    part("progress").hidden = !this.open || job.status === "queued";
    part("progress").value = this.progress;
    part(".stop").hidden = !this.open;
    part(".stop").disabled = Boolean(job.cancel_requested);
    part(".repeat").hidden = this.open;
    part(".repeat").textContent = job.status === "succeeded" ? "Paint the same again" : "Try again";
  }

  get progress() {
    const step = this.job.step;
    return step ? (step.image_index + step.step / step.steps) / step.images : 0;
  }

  // A newer summary; whoever listens to the events knows better.
  see(job) {
    if (this.watched || job.version < this.version || !this.open) return;
    this.version = job.version;
    this.job = { ...job, artifacts: this.job.artifacts };
    if (job.status !== "queued" || job.failure_message) this.say(stands(job));
    this.draw();
    if (!this.open) this.load(job.version);
  }

  // Events until the end, or until `pause` is called: then the place is kept.
  async watch() {
    this.watching = new AbortController();
    const { signal } = this.watching;
    const lost = () => this.say("Connection lost; trying again.");
    for await (const { name, data } of events(this.id, this.spot, signal, lost)) this.hear(name, data);
    if (!signal.aborted) this.watching = null;
  }

  pause() {
    this.watching?.abort();
    this.watching = null;
  }

  hear(name, data) {
    const { job } = this, empty = () => this.part(".pictures").replaceChildren();
    if (name !== "step") { this.version = data.sequence; this.record(name, data); }
    const change = {
      requested: () => ({ request: data.request, requested_at: data.at, status: "queued" }),
      assigned: () => ({ status: "assigned", runner_id: data.runner_id, attempt: data.attempt }),
      started: () => { this.begin(); return { status: "running", started_at: data.at, step: null }; },
      step: () => { this.preview(data); return { step: data }; },
      warned: () => { this.warn(data); return {}; },
      "attempt-failed": () => { empty(); return { status: "queued", step: null }; },
      "cancel-requested": () => ({ cancel_requested: true }),
      succeeded: () => ({ status: "succeeded", finished_at: data.at }),
      failed: () => ({ status: "failed", finished_at: data.at }),
      cancelled: () => ({ status: "cancelled", finished_at: data.at }),
    }[name];
    if (change) this.job = { ...job, ...change() };
    if (!["warned", "artifact"].includes(name)) this.say(told(name, data));
    if (["started", "warned", "attempt-failed", ...TERMINAL].includes(name)) announce(told(name, data));
    this.draw();
    if (TERMINAL.includes(name)) this.load(data.sequence);
  }

  begin() {
    this.clear();
    this.lay(this.job.request);
  }

  // Each attempt starts afresh: what an earlier one was warned of is not about the picture that comes.
  clear() {
    this.part(".pictures").replaceChildren();
    this.part(".warned").replaceChildren();
    this.part(".warned").hidden = true;
  }

  warn(warning) {
    this.part(".warned").append(make("li", { textContent: warned(warning) }));
    this.part(".warned").hidden = false;
  }

  // A place for each picture, so that nothing jumps when it comes.
  lay({ images = 1, width_px = 1, height_px = 1 }) {
    this.part(".pictures").append(...Array.from({ length: images }, () => {
      const place = make("div", { className: "open" });
      place.style.aspectRatio = `${width_px} / ${height_px}`;
      return make("figure", { className: "coming" }, place);
    }));
  }

  preview({ image_index, preview }) {
    const place = this.part(".pictures").children[image_index]?.firstElementChild;
    if (!place || typeof preview !== "string" || !PREVIEW.test(preview)) return;
    if (!place.firstElementChild) place.append(make("img", { alt: "what it looks like so far" }));
    place.firstElementChild.src = preview;
  }

  // The end: its pictures and warnings, from the tables once they have them.
  async load(sequence = 0) {
    try {
      this.job = await read(`/v1/jobs/${this.id}?min_sequence=${sequence}`);
    } catch (error) { this.say(error.message); return; }
    this.clear();
    this.job.warnings.forEach(each => this.warn(each));
    this.part(".pictures").append(...this.job.artifacts.map((each, index) => this.figure(each, index)));
    const { original, job: { artifacts } } = this;
    if (original?.length && artifacts.length) show(this.part(".compared"), compared(original, artifacts));
    this.draw();
  }

  figure(artifact, index) {
    const { width_px: width, height_px: height, url: src, seed } = artifact;
    const image = make("img", { src, width, height, loading: "lazy", alt: this.job.request.prompt });
    const words = `Picture ${index + 1}, large, with its recipe`;
    const open = make("button", { className: "open", ariaLabel: words }, image);
    const copied = make("button", { textContent: `seed ${seed}`, title: "Copy the seed" });
    image.addEventListener("error", () => open.replaceChildren("This picture cannot be read now."));
    open.addEventListener("click", () => this.studio.viewer.open(this.job, index));
    copied.addEventListener("click", () => copy(String(seed), copied));
    return make("figure", {}, open, make("figcaption", {}, copied));
  }

  async cancel() {
    this.part(".stop").disabled = true;
    try { await call(`/v1/jobs/${this.id}/cancel`, { method: "POST" }); }
    catch (error) { this.say(error.message); this.part(".stop").disabled = false; }
  }

  // Why it waits, as the scheduler sees it now.
  async explain() {
    const { status, summary } = await call(`/v1/jobs/${this.id}/why`);
    if (this.job.status === "queued" && status === "queued") this.say(summary);
  }

  record(name, data) {
    this.part(".story ol").append(make("li", { textContent: `${when(data.at)} · ${told(name, data)}` }));
  }

  // From the log, when somebody wants to know.
  async tell() {
    if (!this.part(".story").open) return;
    try {
      const { summary, attempts } = await call(`/v1/jobs/${this.id}/why`);
      this.part(".why").textContent = [...attempts.map(each => each.summary), summary].join(" ");
    } catch (error) { this.part(".why").textContent = error.message; }
    if (this.open || this.telling) return;
    this.telling = new AbortController();
    for await (const { name, data } of events(this.id, this.spot, this.telling.signal))
      if (name !== "step") this.record(name, data);
    this.telling = null;
  }
}
