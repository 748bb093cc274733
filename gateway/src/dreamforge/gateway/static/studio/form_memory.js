"use strict";
// What is in the form outlives a reload. Each window keeps its own; a new window begins with the newest.
const MEMORY = "dreamforge.request";

let forgotten = false;

function rememberForm(state) {
  if (forgotten) return;
  for (const storage of ["sessionStorage", "localStorage"]) {
    try { window[storage].setItem(MEMORY, JSON.stringify(state)); } catch { /* storage is full or forbidden */ }
  }
}

// The next who uses this browser sees nothing of it.
function forgetForm() {
  forgotten = true;
  for (const storage of ["sessionStorage", "localStorage"]) {
    try { window[storage].removeItem(MEMORY); } catch { /* forbidden: nothing is kept there */ }
  }
}

function rememberedForm() {
  for (const storage of ["sessionStorage", "localStorage"]) {
    try {
      const state = JSON.parse(window[storage].getItem(MEMORY));
      if (state && typeof state === "object") return state;
    } catch { /* forbidden, or not ours */ }
  }
  return null;
}
