"use strict";
// Small helpers over the document.
const $ = id => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function show(element, text) {
  if (element.textContent !== (text || "")) element.textContent = text || "";
  element.hidden = !text;
}

// For screen readers: what happened, never each step.
const announce = text => { $("announcement").textContent = text; };

async function copy(text, button) {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else { // not a secure context: from another machine, over plain HTTP
    const area = make("textarea", { value: text });
    button.after(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = button.textContent;
  button.textContent = "Copied";
  announce("Copied");
  setTimeout(() => { button.textContent = before; }, 1200);
}
