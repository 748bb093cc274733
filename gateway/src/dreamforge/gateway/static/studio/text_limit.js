"use strict";
// The limit of a text: what is too long is said beside it, and never cut. Characters are counted as the gateway counts
// them, by code points.
const characters = text => [...text].length;

class TextLimit {
  constructor(input) {
    this.input = input;
    this.count = make("span", { className: "count", id: `${input.id}-count`, hidden: true });
    input.after(this.count);
    input.addEventListener("input", () => this.update());
  }

  set most(most) {
    this.limit = most;
    this.update();
  }

  update() {
    const { input, limit, count } = this, length = characters(input.value), over = limit !== undefined && length > limit;
    input.setCustomValidity(over ? `At most ${limit} characters, and it has ${length}.` : "");
    show(count, limit !== undefined && length > 0.8 * limit ? `${length} of ${limit} characters` : "");
    count.classList.toggle("over", over);
    if (over && !this.over) announce(input.validationMessage);
    this.over = over;
  }
}
