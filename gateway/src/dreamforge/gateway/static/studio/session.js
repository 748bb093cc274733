"use strict";
// Where the gateway asks who this is: a dialog as soon as it does, and the end of a session. The key, or the sign-in at
// a provider, is in a cookie that no script can read; this page never keeps it.
const SIGN_IN_FAILED = {
  refused: "The sign-in was refused.",
  expired: "The sign-in took too long, or was begun in another browser.",
  unavailable: "The provider of the sign-in does not answer.",
};

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

  async ask() {
    if (this.needed) return;
    this.dialog.showModal();
    const failed = SIGN_IN_FAILED[new URLSearchParams(location.search).get("sign_in")];
    if (failed) this.say(failed);
    try {
      const { keys, oidc } = await call("v1/session");
      this.dialog.querySelector(".by-key").hidden = !keys;
      this.key.required = keys;
      const link = this.dialog.querySelector(".by-oidc");
      link.hidden = !oidc;
      if (oidc) link.href = oidc;
    } catch { /* the form for a key stays as it is */ }
  }

  say(text) { show(this.dialog.querySelector(".error"), text); }

  async begin() {
    try {
      if (!ownsForm(await call("v1/session", { method: "POST", ...json({ key: this.key.value.trim() }) }))) forgetForm();
      location.replace(location.pathname);
    } catch (error) {
      this.say(error.status === 401 ? "This key is unknown, expired or revoked." : error.message);
      this.key.select();
    }
  }

  // Whether there is a session to end, whose it is, and what its tenant uses.
  async look() {
    const who = await me();
    if (!ownsForm(who)) {
      forgetForm();
      location.reload();
      return;
    }
    const { authentication, subject, tenant, quotas, metadata } = who;
    show($("quotas"), [describeQuotas(quotas), metadata === "none" && "downloads without recipes"]
      .filter(Boolean).join(" · "));
    this.signOut.hidden = authentication === "none";
    this.signOut.title = [subject, tenant && `of tenant ${tenant}`].filter(Boolean).join(" ");
  }

  async end() {
    try {
      await call("v1/session", { method: "DELETE" });
      forgetForm();
      location.reload();
    } catch (error) { show($("unavailable"), error.message); }
  }
}
