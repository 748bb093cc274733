"use strict";
// One job on the page: a fold of its events on top of what was read of it.
const PREVIEW = /^data:image\/(jpeg|png|webp);base64,/; // only what a runner sends, never an address

class JobCard {
  // `job` is a summary that was read in an `epoch` of the stream; `studio` has reuse(request), repeat(card) and viewer.
  constructor(job, epoch, studio) {
    this.studio = studio;
    this.job = job;
    this.version = job.version || 0;
    this.epoch = epoch;
    this.deleted = false;
    this.root = $("card").content.firstElementChild.cloneNode(true);
    this.root.id = job.job_id;
    this.root.card = this;
    this.part(".raw").href = `v1/jobs/${job.job_id}`;
    const cancel = () => call(`v1/jobs/${this.id}/cancel`, { method: "POST" });
    this.on(".cancel", () => this.command(".cancel", cancel));
    this.on(".hold", () => this.command(".hold", () => this.hold()));
    this.on(".raise", () => this.command(".raise", () => this.changePriority(1)));
    this.on(".lower", () => this.command(".lower", () => this.changePriority(-1)));
    this.on(".delete", () => this.command(".delete", () => this.toggleDeleted()));
    this.on(".reuse", () => studio.reuse({ ...this.job.request, seed: undefined }));
    this.on(".of-batch", () => studio.batch.open(this.job.batch_id));
    this.on(".repeat", () => studio.repeat(this));
    this.part(".history").addEventListener("toggle", () => this.showHistory());
    this.say(describeJob(job));
    this.draw();
  }

  part(name) { return this.root.querySelector(name); }
  on(name, action) { this.part(name).addEventListener("click", action); }
  get id() { return this.job.job_id; }
  get open() { return !TERMINAL_STATUSES.includes(this.job.status); }

  say(text) { show(this.part(".message"), text); }

  draw() {
    const { job, part } = { job: this.job, part: name => this.part(name) };
    this.root.dataset.status = job.status;
    part("h2").textContent = job.request.prompt;
    part(".request").textContent = describeRequest(job.request);
    const at = job.finished_at || job.started_at || job.requested_at;
    part(".state").textContent = `${stateOf(job)}${at ? ` · ${describeTime(at)}` : ""}`;
    part(".state").title = at || "";
    part("progress").hidden = !this.open || job.status === "queued";
    part("progress").value = this.progress;
    part(".cancel").hidden = !this.open;
    part(".cancel").disabled = Boolean(job.cancel_requested);
    part(".priority").hidden = part(".hold").hidden = job.status !== "queued" && !(this.open && job.held_since);
    part("output").textContent = this.priority;
    part(".raise").disabled = this.priority === 9;
    part(".lower").disabled = this.priority === 0;
    part(".hold").disabled = false;
    part(".hold").textContent = job.held_since ? "Release" : "Hold";
    part(".of-batch").hidden = !job.batch_id;
    part(".of-batch").textContent = `Batch, job ${(job.batch_index ?? 0) + 1}`;
    part(".delete").disabled = false;
    part(".delete").textContent = this.deleted ? "Undo" : "Delete";
    const content = ["h2", ".request", ".images", ".warnings", ".history"];
    content.forEach(name => part(name).classList.toggle("gone", this.deleted));
    part(".repeat").hidden = this.open;
    part(".repeat").textContent = job.status === "succeeded" ? "Generate the same again" : "Try again";
  }

  get priority() { return this.job.priority ?? JOB_PARAMETERS.priority.default; }

  get progress() {
    const step = this.job.step;
    return step ? (step.image_index + (step.together ?? 1) * step.step / step.steps) / step.images : 0;
  }

  // A summary that was read in an epoch, if it is newer than what the events have told.
  update(job, epoch) {
    if (job.version < this.version || !this.open || this.deleted) return;
    this.epoch = epoch;
    const told = job.version === this.version, before = job.attempt === this.job.attempt ? this.job.step : null;
    const step = job.step?.at > (before?.at ?? "") ? job.step : before; // lists are without steps
    if (told && step === this.job.step) return;
    this.version = job.version;
    this.job = { ...job, step, artifacts: this.job.artifacts };
    if (job.status !== "queued" || job.failure_message) this.say(describeJob(job));
    this.draw();
    if (!told && job.status !== "queued") this.load(job.version);
  }

  // An event of the stream. What was read before the stream began anew may have missed some: then it is read again.
  tell(name, data, epoch) {
    if (!this.open || this.deleted) return;
    if (name === "step") {
      if (data.attempt === this.job.attempt) this.apply(name, data);
    } else if (data.sequence > this.version) {
      if (this.epoch === epoch) this.apply(name, data);
      else this.load(data.sequence);
    }
  }

  apply(name, data) {
    if (name !== "step") {
      this.version = data.sequence;
      if (this.part(".history").open && !this.reading) this.record(name, data);
    }
    const ended = TERMINAL.includes(name), text = describeEvent(name, data);
    const own = {
      requested: () => ({ request: data.request, requested_at: data.at, priority: data.priority,
        batch_id: data.batch?.batch_id, batch_index: data.batch?.index }),
      assigned: () => ({ runner_id: data.runner_id, attempt: data.attempt }),
      started: () => { this.begin(); return { started_at: data.at, step: null }; },
      step: () => { this.preview(data); return { step: data }; },
      warned: () => this.addWarning(data),
      artifact: () => this.addImage(data),
      "attempt-failed": () => { this.showImages(); return { step: null }; },
      "cancel-requested": () => ({ cancel_requested: true }),
      held: () => ({ held_since: data.at }),
      released: () => ({ held_since: null }),
      "priority-changed": () => ({ priority: data.priority }),
    }[name]?.();
    const status = STATUS_TABLE[name]?.status ?? this.job.status;
    this.job = { ...this.job, status, ...own, ...(ended ? { finished_at: data.at } : {}) };
    if (!["warned", "artifact"].includes(name)) this.say(text);
    if (ended || ["started", "warned", "attempt-failed"].includes(name)) announce(text);
    this.draw();
    if (ended) this.load(data.sequence);
  }

  begin() {
    this.clear();
    this.showImages(this.job.request.images ?? 1);
  }

  // Each attempt starts empty, except for the images that an earlier one has finished.
  clear() {
    this.part(".images").replaceChildren();
    this.part(".warnings").replaceChildren();
    this.part(".warnings").hidden = true;
  }

  addWarning(warning) {
    this.part(".warnings").append(make("li", { textContent: describeWarning(warning) }));
    this.part(".warnings").hidden = false;
  }

  // The finished images, and with `places` one for each image, so that nothing moves when it arrives.
  showImages(places = 0) {
    const finished = new Map((this.job.artifacts ?? []).map(each => [each.index, each]));
    const indexes = places ? Array.from({ length: places }, (_, index) => index) : [...finished.keys()];
    this.part(".images").replaceChildren(...indexes.map(index =>
      finished.has(index) ? this.figure(finished.get(index)) : this.place(this.job.request)));
  }

  place({ width_px = 1, height_px = 1 }) {
    const place = make("div", { className: "open" });
    place.style.aspectRatio = `${width_px} / ${height_px}`;
    return make("figure", { className: "pending" }, place);
  }

  // An image is shown when it is finished, also while others are rendered.
  addImage(data) {
    const image = { ...data, artifact_id: `${this.id}-${data.attempt}-${data.index}` };
    const others = (this.job.artifacts ?? []).filter(each => each.index !== data.index);
    this.part(".images").children[data.index]?.replaceWith(this.figure(image));
    return { artifacts: [...others, image].sort((one, other) => one.index - other.index) };
  }

  preview({ image_index, preview }) {
    const figure = this.part(".images").children[image_index], place = figure?.firstElementChild;
    if (!figure?.classList.contains("pending") || typeof preview !== "string" || !PREVIEW.test(preview)) return;
    if (!place.firstElementChild) place.append(make("img", { alt: "preview" }));
    place.firstElementChild.src = preview;
  }

  // All of it, images and warnings too, from the tables once they have them.
  async load(sequence = 0) {
    const epoch = this.studio.epoch;
    let job;
    try {
      job = await read(`v1/jobs/${this.id}?min_sequence=${sequence}`);
    } catch (error) { this.say(error.message); return; }
    if (job.version < this.version) return; // a newer event was told meanwhile: it is applied, or read by another call
    const { step, status } = this.job;
    if (step?.attempt === job.attempt && step.at > (job.step?.at ?? "")) job.step = step;
    [this.job, this.version, this.epoch] = [job, job.version, epoch];
    this.clear();
    this.job.warnings.forEach(each => this.addWarning(each));
    this.showImages(job.status === "running" ? job.request.images ?? 1 : 0);
    if (runs(this) || job.status !== status) this.say(describeJob(job));
    const { original, job: { artifacts } } = this;
    if (original?.length && artifacts.length) show(this.part(".comparison"), describeComparison(original, artifacts));
    this.draw();
  }

  figure(artifact) {
    const { width_px: width, height_px: height, seed, index } = artifact, src = thumbnailOf(artifact);
    const image = make("img", { src, width, height, loading: "lazy", alt: this.job.request.prompt });
    const words = `${isVideo(artifact) ? "Video" : "Image"} ${index + 1}, large, with its recipe`, unread = make("span", { className: "unread" });
    const open = make("button", { className: "open", ariaLabel: words }, image, unread);
    const copied = make("button", { textContent: `seed ${seed}`, title: "Copy the seed" });
    keepTrying(image, failed => { unread.textContent = failed ? "This image cannot be read now; trying again." : ""; });
    open.addEventListener("click", () =>
      this.studio.viewer.open(this.job, this.job.artifacts.findIndex(each => each.index === index)));
    copied.addEventListener("click", () => copy(String(seed), copied));
    return make("figure", {}, open, make("figcaption", {}, copied));
  }

  // What a button requests for the job; its event comes back through the log.
  async command(button, request) {
    this.part(button).disabled = true;
    try { await request(); }
    catch (error) { this.say(error.message); this.part(button).disabled = false; }
  }

  changePriority(by) {
    const change = json({ priority: this.priority + by });
    return call(`v1/jobs/${this.id}/priority`, { method: "POST", ...change });
  }

  hold() {
    return this.job.held_since ? call(`v1/jobs/${this.id}/release`, { method: "POST" })
      : call(`v1/jobs/${this.id}/hold`, { method: "POST" });
  }

  // Deletes the job, or undoes that; the next visit of the page does not show a deleted one.
  async toggleDeleted() {
    const undo = this.deleted;
    const answer = undo ? await call(`v1/jobs/${this.id}/undelete`, { method: "POST" })
      : await call(`v1/jobs/${this.id}`, { method: "DELETE" });
    this.deleted = !undo;
    this.say(undo ? describeEvent("erasure-undone", answer) : describeEvent("erasure-requested", answer));
    this.draw();
    if (undo) this.load(answer.sequence);
  }

  // Why it waits, as the scheduler sees it now.
  async explain() {
    const { status, summary } = await call(`v1/jobs/${this.id}/why`);
    if (this.job.status === "queued" && status === "queued" && !this.job.held_since) this.say(summary);
  }

  record(name, data) {
    const textContent = `${describeTime(data.at)} · ${describeEvent(name, data)}`;
    this.part(".history ol").append(make("li", { textContent }));
  }

  // From the log, when it is opened. What comes after what is known now is recorded as it is told.
  async showHistory() {
    this.reading?.abort();
    if (!this.part(".history").open) return;
    const reading = this.reading = new AbortController();
    this.part(".history ol").replaceChildren();
    this.explainWhole();
    for await (const { name, data } of events(`v1/jobs/${this.id}/events`, { last: "" }, reading.signal)) {
      if (name === "step") continue;
      this.record(name, data);
      if (data.sequence >= this.version) break;
    }
    reading.abort();
    if (this.reading === reading) this.reading = null;
  }

  async explainWhole() {
    try {
      const { summary, attempts } = await call(`v1/jobs/${this.id}/why`);
      this.part(".why").textContent = [...attempts.map(each => each.summary), summary].join(" ");
    } catch (error) { this.part(".why").textContent = error.message; }
  }
}
