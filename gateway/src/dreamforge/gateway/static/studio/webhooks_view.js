"use strict";
// The tenant's webhooks and what became of their deliveries; they are made by API or command. Read when it is opened.
class WebhooksView {
  constructor(root) {
    this.list = root.querySelector("ul");
    this.problem = root.querySelector("p");
    this.items = new Map(); // by webhook: what is open or has the focus stays when the list is read again
    root.addEventListener("toggle", () => root.open && this.refresh());
  }

  async refresh() {
    try {
      const { webhooks } = await call("v1/webhooks");
      const items = webhooks.map(each => this.item(each)), shown = this.list.children;
      if (items.length !== shown.length || items.some((item, index) => item !== shown[index]))
        this.list.replaceChildren(...items);
      show(this.problem, webhooks.length ? "" : "None. `dreamforge webhooks create URL` makes one.");
    } catch (error) { show(this.problem, error.message); }
  }

  item({ webhook_id: id, name, url, kinds, failing_jobs: failing, parked }) {
    if (!this.items.has(id)) this.items.set(id, this.newItem(id));
    const item = this.items.get(id), [text, again] = item.childNodes;
    const state = failing ? `, ${count(failing, "job")} waiting for another try` : "";
    text.textContent = `${name || url}: ${kinds.join(", ")}${state} `;
    Object.assign(again, { textContent: `Send again what is parked (${parked})`, hidden: !parked, disabled: false });
    return item;
  }

  newItem(id) {
    const log = make("ul");
    const details = make("details", {}, make("summary", { textContent: "Deliveries" }), log);
    details.addEventListener("toggle", () => details.open && this.showDeliveries(id, log));
    const again = make("button", { onclick: () => this.replay(id, again) });
    return make("li", {}, "", again, details);
  }

  async showDeliveries(id, log) {
    try {
      const { deliveries } = await call(`v1/webhooks/${id}/deliveries`);
      log.replaceChildren(...deliveries.map(each => make("li", { textContent: describeDelivery(each) })));
    } catch (error) { show(this.problem, error.message); }
  }

  async replay(id, button) {
    button.disabled = true;
    try {
      await call(`v1/webhooks/${id}/replay`, { method: "POST", ...json({}) });
      await this.refresh();
    } catch (error) { show(this.problem, error.message); button.disabled = false; }
  }
}

const describeDelivery = ({ at, status, kind, job_id: job, reason }) =>
  [describeTime(at), status, kind, job, reason].filter(Boolean).join(" · ");
