"use strict";
// Where the gateway asks for API keys: a dialog as soon as it does, and the end of a session. The key is in a cookie
// that no script can read; this page never keeps it.
class Session {
  constructor(dialog, signOut) {
    this.dialog = dialog;
    this.signOut = signOut;
    this.key = dialog.querySelector("input");
    dialog.querySelector("form").addEventListener("submit", event => {
      event.preventDefault();
      this.begin();
    });
    signOut.addEventListener("click", () => this.end());
    onUnauthorized = () => this.ask();
  }

  get needed() { return this.dialog.open; }

  ask() {
    if (!this.needed) this.dialog.showModal();
  }

  say(text) { show(this.dialog.querySelector(".error"), text); }

  async begin() {
    try {
      await call("v1/session", { method: "POST", ...json({ key: this.key.value.trim() }) });
      location.reload();
    } catch (error) {
      this.say(error.status === 401 ? "This key is unknown, expired or revoked." : error.message);
      this.key.select();
    }
  }

  // Whether there is a session to end, and whose it is.
  async look() {
    const { authentication, tenant } = await call("v1/me");
    this.signOut.hidden = authentication === "none";
    this.signOut.title = tenant ? `of tenant ${tenant}` : "";
  }

  async end() {
    try {
      await call("v1/session", { method: "DELETE" });
      forgetForm();
      location.reload();
    } catch (error) { show($("unavailable"), error.message); }
  }
}
