"use strict";
// The page: the form, the jobs of the log and the runners, refreshed while the page is visible.
const PAGE = 50;    // jobs of one response, as the gateway gives by default
const STREAMS = 3;  // a browser opens six connections to a host at most: the rest is for calls and another window
const form = new RequestForm($("request"));
const cards = new Map();
const queue = new QueueControl($("queue"), error => show($("unavailable"), error.message));
let next = null, registry = "", registered = 0;

const studio = {
  reuse(request) { form.fill(request); form.form.scrollIntoView({ block: "nearest" }); },
  canStartFrom(request) { return form.canStartFrom(request); },
  startFrom(request, image) { form.startFrom(request, image); form.form.scrollIntoView({ block: "nearest" }); },
  async repeat(card) {
    try {
      const repeated = await submitJob(sameAgain(card.job.request), error => card.say(error.message));
      repeated.original = card.job.artifacts;
    } catch (error) { card.say(error.message); }
  },
};
studio.viewer = new ImageViewer($("viewer"), studio);

// Cards far down are loaded when they come near.
const near = new IntersectionObserver(entries => {
  for (const { target } of entries.filter(each => each.isIntersecting)) {
    near.unobserve(target);
    target.card.load();
  }
}, { rootMargin: "600px" });

const age = card => Date.parse(card.job.requested_at);

function add(job) {
  const card = new JobCard(job, studio);
  const after = [...$("jobs").children].find(each => age(each.card) < age(card));
  cards.set(job.job_id, card);
  $("jobs").insertBefore(card.root, after || null);
  if (!card.open) near.observe(card.root);
  $("empty").hidden = true;
  return card;
}

async function submitJob(body, delayed) {
  const { job_id, status } = await submit(body, delayed);
  const requested_at = new Date().toISOString(), { priority } = body;
  const card = cards.get(job_id) || add({ job_id, status, request: body, priority, requested_at });
  follow();
  card.root.scrollIntoView({ block: matchMedia("(max-width:52rem)").matches ? "start" : "nearest" });
  return card;
}

// The events of the oldest open jobs are followed, for they are the next to be rendered.
function follow() {
  const open = [...cards.values()].filter(card => card.open).sort((a, b) => age(a) - age(b));
  const rank = card => ({ running: 0, assigned: 1 })[card.job.status] ?? 2;
  const chosen = document.hidden ? [] : open.sort((a, b) => rank(a) - rank(b)).slice(0, STREAMS);
  for (const card of open) if (card.followed && !chosen.includes(card)) card.pause();
  for (const card of chosen) if (!card.followed) card.follow();
  const first = open[0];
  document.title = first ? `${Math.round(first.progress * 100)} % · Dream Forge` : "Dream Forge";
  return open;
}

async function refresh() {
  const [page, fleet, { held }] =
    await Promise.all([call(`/v1/jobs?limit=${PAGE}`), call("/v1/runners"), call("/v1/queue")]);
  const first = !registered;
  showRunners(fleet.runners.filter(each => each.heartbeat));
  queue.update(held);
  await refreshCatalog(fleet.runners);
  if (first) showOlder(page.next_cursor);
  for (const job of page.jobs) {
    if (cards.has(job.job_id)) cards.get(job.job_id).update(job); else add(job);
  }
  show($("empty"), cards.size ? "" : "No jobs yet. Describe an image and press Generate.");
  const waiting = follow().filter(card => card.job.status === "queued" && Date.now() - age(card) > 1500);
  await Promise.all(waiting.slice(0, STREAMS).map(card => card.explain()));
}

// Models come and go with their runners, and seldom otherwise.
async function refreshCatalog(runners) {
  const now = JSON.stringify(runners.map(({ runner_id: id, heartbeat }) =>
    [id, heartbeat?.model_ids, heartbeat?.draining]));
  if (now === registry && Date.now() - registered < 30_000) return;
  const [{ models }, { presets }] = await Promise.all([call("/v1/models"), call("/v1/presets")]);
  form.offer(models, presets);
  [registry, registered] = [now, Date.now()];
}

function showRunners(alive) {
  const active = alive.reduce((sum, each) => sum + each.heartbeat.active.length, 0);
  const busy = active ? `${count(active, "job")} running` : "idle";
  show($("fleet").firstElementChild, alive.length ? `${count(alive.length, "runner")}, ${busy}`
    : "No runner is available: jobs wait until one starts");
  const lines = alive.map(({ runner_id, device, heartbeat }) => `${runner_id}: ${device.name} (${device.kind}), ` +
    `${gibibytes(heartbeat.free_bytes)} free${heartbeat.draining ? ", finishing its last jobs" : ""}` +
    `${device.note ? `; ${device.note}` : ""}`);
  const list = $("fleet").lastElementChild;
  if (lines.join() !== [...list.children].map(each => each.textContent).join())
    list.replaceChildren(...lines.map(textContent => make("li", { textContent })));
}

function showOlder(cursor) {
  next = cursor;
  $("older").hidden = !next;
}

async function refreshForever() {
  for (;;) {
    let problem = "";
    try { await refresh(); } catch (error) { problem = `${error.message} Retrying.`; }
    show($("unavailable"), problem);
    const busy = [...cards.values()].some(card => card.open);
    await Promise.race([pause(document.hidden ? 15_000 : busy ? 2000 : 5000),
      new Promise(wake => document.addEventListener("visibilitychange", wake, { once: true }))]);
  }
}

form.form.addEventListener("submit", async event => {
  event.preventDefault();
  $("submit").disabled = true;
  try {
    const body = await form.body();
    if (body) await submitJob(body, error => show($("problem"), `${error.message} Retrying.`));
    if (body) show($("problem"), "");
  } catch (error) { form.explain(error); }
  form.update();
});
form.form.addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.form.requestSubmit($("submit"));
});
$("reset").addEventListener("click", () => form.reset());
$("older").addEventListener("click", async () => {
  $("older").disabled = true;
  try {
    const page = await call(`/v1/jobs?limit=${PAGE}&cursor=${encodeURIComponent(next)}`);
    page.jobs.filter(job => !cards.has(job.job_id)).forEach(add);
    showOlder(page.next_cursor);
  } catch (error) { show($("unavailable"), error.message); }
  $("older").disabled = false;
});
refreshForever();
