"use strict";
// One batch as a grid of its images: a column for each value of the last parameter, a row for each of the others.
const BATCH_PAUSE = 1500;

// The headings of the columns; none where the jobs just follow each other.
function columnsOf({ grid = [] }) {
  const last = grid[grid.length - 1];
  return last && last.values.length > 1 ? last.values.map(value => `${words(last.parameter)} ${value}`) : [];
}

// What a job was given, but for what its column says.
function describeChosen(values, without = "") {
  const own = Object.entries(values).filter(([name]) => name !== without)
    .sort(([one], [other]) => (other === "prompt") - (one === "prompt"));
  return own.map(([name, value]) => name === "prompt" ? value
    : `${words(name).toLowerCase()} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
}

function describeBatch({ counts, jobs }) {
  const parts = Object.entries(counts).map(([status, number]) => `${number} ${STATES[status]}`);
  return `${count(jobs, "job")}: ${parts.join(", ")}.`;
}

class BatchView {
  constructor(dialog, studio) {
    this.dialog = dialog;
    this.studio = studio;
    this.part(".close").addEventListener("click", () => dialog.close());
    this.part(".cancel").addEventListener("click", () => this.cancel());
    dialog.addEventListener("close", () => { this.id = null; });
    dialog.addEventListener("click", event => event.target === dialog && dialog.close());
  }

  part(name) { return this.dialog.querySelector(name); }

  open(id) {
    this.id = id;
    this.cells = new Map();
    this.part(".cells").replaceChildren();
    show(this.part(".message"), "Reading the batch.");
    for (const name of ["h2", ".hint"]) this.part(name).textContent = "";
    this.part(".download").href = `v1/batches/${id}/images.zip`;
    if (!this.dialog.open) this.dialog.showModal();
    this.watch(id);
  }

  // Reads it again and again until its last job has ended, or another one is shown.
  async watch(id) {
    while (this.id === id) {
      try {
        const batch = await read(`v1/batches/${id}`);
        if (this.id !== id) return;
        this.draw(batch);
        if (TERMINAL_STATUSES.includes(batch.status)) return;
      } catch (error) { show(this.part(".message"), error.message); if (error instanceof Problem) return; }
      await pause(BATCH_PAUSE);
    }
  }

  draw(batch) {
    const { template, members } = batch, images = members.reduce((sum, each) => sum + each.images.length, 0);
    const ended = members.filter(each => TERMINAL_STATUSES.includes(each.status)).length;
    this.part("h2").textContent = template.template?.prompt || template.request.prompt || "Several prompts";
    this.part(".hint").textContent = (template.grid ?? [])
      .map(axis => `${words(axis.parameter)}: ${axis.values.join(", ")}`).join(" · ");
    show(this.part(".message"), describeBatch(batch));
    this.part("progress").value = ended / batch.jobs;
    this.part("progress").hidden = ended === batch.jobs;
    this.part(".cancel").hidden = ended === batch.jobs;
    this.part(".download").hidden = images === 0;
    if (!this.cells.size) this.lay(batch);
    for (const member of members) this.drawCell(member);
  }

  // The cells, once: columns have headings where there are several values.
  lay(batch) {
    const columns = columnsOf(batch.template), cells = this.part(".cells"), grid = batch.template.grid ?? [];
    this.column = columns.length ? grid[grid.length - 1].parameter : "";
    cells.classList.toggle("aligned", columns.length > 0);
    cells.style.setProperty("--columns", columns.length || 1);
    cells.append(...columns.map(textContent => make("p", { className: "heading", textContent })));
    for (const member of batch.members) {
      const cell = make("figure", { className: "pending" });
      this.cells.set(member.index, { cell, shown: "" });
      cells.append(cell);
    }
  }

  drawCell(member) {
    const found = this.cells.get(member.index), now = `${member.status} ${member.images.length}`;
    if (!found || found.shown === now) return;
    found.shown = now;
    const text = describeChosen(member.values, this.column) || `seed ${member.seed}`;
    const caption = make("figcaption", {}, make("small", { textContent: text, title: describeChosen(member.values) }));
    const waiting = make("div", { className: "open waiting", textContent: STATES[member.status],
      title: member.failure_message || "" });
    found.cell.className = member.images.length ? "" : "pending";
    const images = member.images.map(image => this.image(member, image));
    found.cell.replaceChildren(...(images.length ? images : [waiting]), caption);
  }

  image(member, image) {
    const { width_px: width, height_px: height } = image;
    const picture = make("img", { src: thumbnailOf(image), width, height, loading: "lazy", alt: member.prompt });
    const label = `${describeChosen(member.values) || member.prompt}, large, with its recipe`;
    const open = make("button", { className: "open", ariaLabel: label }, picture);
    keepTrying(picture);
    open.addEventListener("click", async () => {
      try {
        const job = await read(`v1/jobs/${member.job_id}`);
        this.studio.viewer.open(job, job.artifacts.findIndex(each => each.index === image.index));
      } catch (error) { show(this.part(".message"), error.message); }
    });
    return open;
  }

  async cancel() {
    this.part(".cancel").disabled = true;
    try { await call(`v1/batches/${this.id}/cancel`, { method: "POST" }); announce("The batch is cancelled."); }
    catch (error) { show(this.part(".message"), error.message); }
    this.part(".cancel").disabled = false;
  }
}
