"use strict";
// Holds and releases the queue of the whole fleet; queues of tenants that are held can be released here, too.
class QueueControl {
  constructor(root, failed) {
    this.state = make("span");
    this.button = make("button", { onclick: () => this.toggle() });
    this.tenants = make("span");
    this.failed = failed;
    root.append(this.state, this.button, this.tenants);
    root.hidden = true;
    this.root = root;
  }

  // `held` as in GET /v1/queue: [{tenant, held_since}], tenant null for every queue.
  update(held) {
    const fleet = held.find(each => each.tenant === null);
    this.held = Boolean(fleet);
    show(this.state, fleet && `Held since ${describeTime(fleet.held_since)}: no job is assigned.`);
    this.button.textContent = fleet ? "Release the queue" : "Hold the queue";
    this.button.title = fleet ? "Waiting jobs are assigned again" : "No waiting job is assigned until the release";
    this.button.disabled = false;
    const names = held.map(each => each.tenant).filter(name => name !== null);
    if (names.join() !== this.names) this.tenants.replaceChildren(...names.map(name => this.tenant(name)));
    this.names = names.join();
    this.root.hidden = false;
  }

  tenant(name) {
    const release = make("button", { textContent: `Release the queue of ${name}` });
    const ofTenant = json({ tenant: name });
    release.onclick = () => this.command(release, () => call("v1/queue/release", { method: "POST", ...ofTenant }));
    return release;
  }

  toggle() {
    return this.command(this.button, () => this.held ? call("v1/queue/release", { method: "POST" })
      : call("v1/queue/hold", { method: "POST" }));
  }

  async command(button, request) {
    button.disabled = true;
    try { this.update((await request()).held); }
    catch (error) { this.failed(error); button.disabled = false; }
  }
}
