"use strict";
// What is in the form outlives a reload. Each window keeps its own; a new window begins with the newest.
const MEMORY = "dreamforge.request", OWNER = "dreamforge.request.owner";

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

// Whether what is remembered is of the same sign-in; from now on it is of this one.
function ownsForm({ tenant, key_id, subject }) {
  const owner = JSON.stringify([tenant ?? null, key_id ?? null, subject ?? null]);
  let own = true;
  for (const storage of ["sessionStorage", "localStorage"]) {
    try {
      const before = window[storage].getItem(OWNER);
      own &&= before === null || before === owner;
      window[storage].setItem(OWNER, owner);
    } catch { /* forbidden: nothing is kept there */ }
  }
  return own;
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
