"use strict";
// The page: the form, the jobs of the log and the runners, refreshed while the page is visible.
const PAGE = 50;    // jobs of one response, as the gateway gives by default
const EXPLAINED = 2; // jobs of which it is asked at once why they wait
const AGAIN = 1000; // milliseconds until a stream that was refused, or given up, is asked for again
const STAYS_SECONDS = 60; // that a job which has ended keeps its place among the running ones
const form = new RequestForm($("request"));
const cards = new Map();
const session = new Session($("sign-in"), $("sign-out"));
new WebhooksView($("webhooks"));
const queue = new QueueControl($("queue"), error => show($("unavailable"), error.message));
let next = null, registry = "", registered = 0;

const studio = {
  epoch: 0, // how often the stream has begun anew
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
studio.batch = new BatchView($("batch-view"), studio);
const several = new BatchForm($("batch"), () => form.model?.parameters);

// Cards far down are loaded when they come near.
const near = new IntersectionObserver(entries => {
  for (const { target } of entries.filter(each => each.isIntersecting)) {
    near.unobserve(target);
    target.card.load();
  }
}, { rootMargin: "600px" });

const age = card => Date.parse(card.job.requested_at);

// Running jobs come first, however many wait; one that has just ended stays where it was seen. Then the newest.
function isFirst(card) {
  if (runs(card)) card.ran = Date.now();
  return card.ran !== undefined && Date.now() - card.ran < STAYS_SECONDS * 1000;
}

const isBefore = (one, other) => one.first === other.first ? age(one) > age(other) : one.first;

function place(card) {
  card.first = isFirst(card);
  const next = [...$("jobs").children].find(each => each.card !== card && isBefore(card, each.card)) || null;
  if (!card.root.isConnected || next !== card.root.nextElementSibling) $("jobs").insertBefore(card.root, next);
}

// A card moves when its job starts and some time after it has ended, but not while the keyboard is in it.
function placeAgain() {
  for (const card of cards.values())
    if (card.first !== isFirst(card) && !card.root.contains(document.activeElement)) place(card);
}

function add(job, epoch) {
  const card = new JobCard(job, epoch, studio);
  cards.set(job.job_id, card);
  place(card);
  if (!card.open) near.observe(card.root);
  else if (runs(card)) card.load(job.version);
  $("empty").hidden = true;
  return card;
}

async function submitJob(body, delayed) {
  const { epoch } = studio;
  const { job_id, status } = await submit(body, delayed);
  const requested_at = new Date().toISOString(), { priority } = body;
  const card = cards.get(job_id) || add({ job_id, status, request: body, priority, requested_at }, epoch);
  showProgress();
  card.root.scrollIntoView({ block: matchMedia("(max-width:52rem)").matches ? "start" : "nearest" });
  return card;
}

// One connection tells of all jobs, for a browser opens six to a host at most, and every window needs one. A page that
// is hidden gives it up: what it misses then, it reads.
async function listen() {
  const lost = () => [...cards.values()].filter(runs).forEach(card => card.say("Connection lost; reconnecting."));
  for (;;) {
    const stop = new AbortController(), hide = () => document.hidden && stop.abort();
    document.addEventListener("visibilitychange", hide);
    if (!document.hidden && !session.needed) {
      for await (const { name, data } of events("v1/events", { last: "" }, stop.signal, lost)) {
        if (name === "begin") studio.epoch++;
        else cards.get(data.job_id)?.tell(name, data, studio.epoch);
      }
    }
    document.removeEventListener("visibilitychange", hide);
    await pause(AGAIN);
  }
}

// In the title, that of the job that is or will be next; all open jobs.
function showProgress() {
  const rank = card => ({ running: 0, assigned: 1 })[card.job.status] ?? 2;
  const open = [...cards.values()].filter(card => card.open)
    .sort((a, b) => rank(a) - rank(b) || age(a) - age(b));
  const first = open[0];
  document.title = first ? `${Math.round(first.progress * 100)} % · Dream Forge` : "Dream Forge";
  return open;
}

async function refresh() {
  const { epoch } = studio;
  const [page, running, fleet, { held }] = await Promise.all([call(`v1/jobs?limit=${PAGE}&steps=false`),
    call(`v1/jobs?limit=${PAGE}&status=running`), call("v1/runners"), call("v1/queue")]);
  const first = !registered;
  showRunners(fleet.runners.filter(each => each.heartbeat));
  queue.update(held);
  await refreshCatalog(fleet.runners);
  if (first) showOlder(page.next_cursor);
  const listed = new Map([...page.jobs, ...running.jobs].map(job => [job.job_id, job]));
  for (const job of listed.values()) {
    if (cards.has(job.job_id)) cards.get(job.job_id).update(job, epoch); else add(job, epoch);
  }
  const missed = card => card.open && !card.deleted && (runs(card) || card.epoch !== epoch) && !listed.has(card.id);
  await Promise.all([...cards.values()].filter(missed).slice(0, PAGE).map(card => renew(card, epoch)));
  placeAgain();
  show($("empty"), cards.size ? "" : "No jobs yet. Describe an image and press Generate.");
  const waiting = showProgress().filter(card => card.job.status === "queued" && Date.now() - age(card) > 1500);
  await Promise.all(waiting.slice(0, EXPLAINED).map(card => card.explain()));
}

// One that is not in the lists; another window may have deleted it.
async function renew(card, epoch) {
  try { card.update(await call(`v1/jobs/${card.id}`), epoch); } catch (error) {
    if (error.status !== 404) throw error;
    card.epoch = epoch;
  }
}

// Models come and go with their runners, and seldom otherwise.
async function refreshCatalog(runners) {
  const now = JSON.stringify(runners.map(({ runner_id: id, heartbeat }) =>
    [id, heartbeat?.model_ids, heartbeat?.draining]));
  if (now === registry && Date.now() - registered < 30_000) return;
  await session.look();
  const [{ models }, { presets }] = await Promise.all([call("v1/models"), call("v1/presets")]);
  form.offer(models, presets);
  [registry, registered] = [now, Date.now()];
}

const doing = ({ health, starting, draining }) => health?.reason ? `, ${health.state}: ${health.reason}`
  : starting ? ", starting" : draining ? ", finishing its last jobs" : "";

function showRunners(alive) {
  const active = alive.reduce((sum, each) => sum + each.heartbeat.active.length, 0);
  const busy = active ? `${count(active, "job")} running` : "idle";
  show($("fleet").firstElementChild, alive.length ? `${count(alive.length, "runner")}, ${busy}`
    : "No runner is available: jobs wait until one starts");
  const lines = alive.map(({ runner_id, device, heartbeat }) => `${runner_id}: ${device.name} (${device.kind}), ` +
    `${gibibytes(heartbeat.free_bytes)} free${doing(heartbeat)}` +
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
  let problem = "";
  for (;;) {
    const before = problem;
    problem = "";
    try { if (!session.needed) await refresh(); }
    catch (error) { if (!session.needed) problem = `${error.message} Retrying.`; }
    show($("unavailable"), problem);
    if (before && !problem) readImagesAgain();
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
    const delayed = error => show($("problem"), `${error.message} Retrying.`);
    const batch = body && several.body(body);
    if (batch) studio.batch.open((await submit(batch, delayed, postBatch)).batch_id);
    else if (body) await submitJob(body, delayed);
    if (body) form.sent();
  } catch (error) { form.explain(error); }
  form.update();
  session.look().catch(() => {});
});
form.form.addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.form.requestSubmit($("submit"));
});
$("reset").addEventListener("click", () => { form.reset(); several.clear(); });
// A file that is dropped beside a field would be opened by the browser in place of this page.
const carriesFiles = event => event.dataTransfer?.types.includes("Files");
addEventListener("dragover", event => carriesFiles(event) && event.preventDefault());
addEventListener("drop", event => {
  if (!carriesFiles(event) || event.defaultPrevented) return;
  event.preventDefault();
  form.take(event.dataTransfer.files);
});
$("older").addEventListener("click", async () => {
  $("older").disabled = true;
  const { epoch } = studio;
  try {
    const page = await call(`v1/jobs?limit=${PAGE}&steps=false&cursor=${encodeURIComponent(next)}`);
    page.jobs.filter(job => !cards.has(job.job_id)).forEach(job => add(job, epoch));
    showOlder(page.next_cursor);
  } catch (error) { show($("unavailable"), error.message); }
  $("older").disabled = false;
});
refreshForever();
listen();
