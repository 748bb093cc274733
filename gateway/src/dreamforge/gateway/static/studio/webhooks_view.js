"use strict";
// The tenant's webhooks and what became of their deliveries; they are made by API or command. Read when it is opened.
class WebhooksView {
  constructor(root) {
    this.list = root.querySelector("ul");
    this.problem = root.querySelector("p");
    root.addEventListener("toggle", () => root.open && this.refresh());
  }

  async refresh() {
    try {
      const { webhooks } = await call("v1/webhooks");
      this.list.replaceChildren(...webhooks.map(each => this.webhook(each)));
      show(this.problem, webhooks.length ? "" : "None. `dreamforge webhooks create URL` makes one.");
    } catch (error) { show(this.problem, error.message); }
  }

  webhook({ webhook_id: id, name, url, kinds, failing_jobs: failing, parked }) {
    const log = make("ul");
    const details = make("details", {}, make("summary", { textContent: "Deliveries" }), log);
    details.addEventListener("toggle", () => details.open && this.showDeliveries(id, log));
    const again = make("button", { textContent: `Send again what is parked (${parked})`,
      hidden: !parked, onclick: () => this.replay(id, again) });
    const state = failing ? `, ${count(failing, "job")} waiting for another try` : "";
    return make("li", {}, `${name || url}: ${kinds.join(", ")}${state} `, again, details);
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
