"use strict";
// The page: the form, the jobs of the log, and who paints them, kept fresh while somebody looks.
const PAGE = 50;    // jobs of one answer, as the gateway gives by default
const STREAMS = 3;  // a browser opens six connections to a host at most: the rest is for calls and another window
const wish = new Wish($("wish"));
const cards = new Map();
let next = null, registry = "", registered = 0;

const studio = {
  reuse(request) { wish.fill(request); $("wish").scrollIntoView({ block: "nearest" }); },
  startable(request) { return wish.startable(request); },
  start(request, picture) { wish.start(request, picture); $("wish").scrollIntoView({ block: "nearest" }); },
  async repeat(card) {
    try {
      const repeated = await paint(wish.again(card.job.request), error => card.say(error.message));
      repeated.original = card.job.artifacts;
    } catch (error) { card.say(error.message); }
  },
};
studio.viewer = new Viewer($("viewer"), studio);

// What is far down is read when it comes near.
const near = new IntersectionObserver(entries => {
  for (const { target } of entries.filter(each => each.isIntersecting)) {
    near.unobserve(target);
    target.card.load();
  }
}, { rootMargin: "600px" });

const age = card => Date.parse(card.job.requested_at);

function add(job) {
  const card = new Card(job, studio);
  const after = [...$("jobs").children].find(each => age(each.card) < age(card));
  cards.set(job.job_id, card);
  $("jobs").insertBefore(card.root, after || null);
  if (!card.open) near.observe(card.root);
  $("empty").hidden = true;
  return card;
}

async function paint(body, delayed) {
  const { job_id, status } = await submit(body, delayed);
  const card = cards.get(job_id) || add({ job_id, status, request: body, requested_at: new Date().toISOString() });
  listen();
  card.root.scrollIntoView({ block: matchMedia("(max-width:52rem)").matches ? "start" : "nearest" });
  return card;
}

// The oldest open jobs are watched event by event, for they are the next to be painted.
function listen() {
  const open = [...cards.values()].filter(card => card.open).sort((a, b) => age(a) - age(b));
  const rank = card => ({ running: 0, assigned: 1 })[card.job.status] ?? 2;
  const wanted = document.hidden ? [] : open.sort((a, b) => rank(a) - rank(b)).slice(0, STREAMS);
  for (const card of open) if (card.watched && !wanted.includes(card)) card.pause();
  for (const card of wanted) if (!card.watched) card.watch();
  const first = open[0];
  document.title = first ? `${Math.round(first.progress * 100)} % · Dream Forge` : "Dream Forge";
  return open;
}

async function refresh() {
  const [page, fleet] = await Promise.all([call(`/v1/jobs?limit=${PAGE}`), call("/v1/runners")]);
  const first = !registered;
  draw(fleet.runners.filter(each => each.heartbeat));
  await catalog(fleet.runners);
  if (first) turn(page.next_cursor);
  for (const job of page.jobs) {
    if (cards.has(job.job_id)) cards.get(job.job_id).see(job); else add(job);
  }
  show($("empty"), cards.size ? "" : "Nothing has been painted yet. Say what you want to see, and press Paint.");
  const waiting = listen().filter(card => card.job.status === "queued" && Date.now() - age(card) > 1500);
  await Promise.all(waiting.slice(0, STREAMS).map(card => card.explain()));
}

// Models come and go with their runners, and seldom otherwise.
async function catalog(runners) {
  const now = JSON.stringify(runners.map(({ runner_id: id, heartbeat }) =>
    [id, heartbeat?.model_ids, heartbeat?.draining]));
  if (now === registry && Date.now() - registered < 30_000) return;
  const [{ models }, { presets }] = await Promise.all([call("/v1/models"), call("/v1/presets")]);
  wish.offer(models, presets);
  [registry, registered] = [now, Date.now()];
}

function draw(alive) {
  const active = alive.reduce((sum, each) => sum + each.heartbeat.active.length, 0);
  const busy = active ? `${count(active, "job")} in work` : "idle";
  show($("fleet").firstElementChild, alive.length ? `${count(alive.length, "runner")}, ${busy}`
    : "No runner is alive: jobs wait until one comes");
  const lines = alive.map(({ runner_id, device, heartbeat }) => `${runner_id}: ${device.name} (${device.kind}), ` +
    `${gibibytes(heartbeat.free_bytes)} free${heartbeat.draining ? ", finishing its last jobs" : ""}` +
    `${device.note ? `; ${device.note}` : ""}`);
  const list = $("fleet").lastElementChild;
  if (lines.join() !== [...list.children].map(each => each.textContent).join())
    list.replaceChildren(...lines.map(textContent => make("li", { textContent })));
}

function turn(cursor) {
  next = cursor;
  $("older").hidden = !next;
}

async function keepFresh() {
  for (;;) {
    try { await refresh(); show($("away"), ""); } catch (error) { show($("away"), `${error.message} Trying again.`); }
    const busy = [...cards.values()].some(card => card.open);
    await Promise.race([pause(document.hidden ? 15_000 : busy ? 2000 : 5000),
      new Promise(wake => document.addEventListener("visibilitychange", wake, { once: true }))]);
  }
}

$("wish").addEventListener("submit", async event => {
  event.preventDefault();
  $("paint").disabled = true;
  try {
    const body = await wish.body();
    if (body) await paint(body, error => show($("problem"), `${error.message} Trying again.`));
    if (body) show($("problem"), "");
  } catch (error) { wish.complain(error); }
  wish.shape();
});
$("wish").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("wish").requestSubmit($("paint"));
});
$("fresh").addEventListener("click", () => {
  wish.fill({ prompt: "", images: 1 });
  $("wish").reset();
  wish.shape();
});
$("older").addEventListener("click", async () => {
  $("older").disabled = true;
  try {
    const page = await call(`/v1/jobs?limit=${PAGE}&cursor=${encodeURIComponent(next)}`);
    page.jobs.filter(job => !cards.has(job.job_id)).forEach(add);
    turn(page.next_cursor);
  } catch (error) { show($("away"), error.message); }
  $("older").disabled = false;
});
keepFresh();
