// Elements, templates, and the data that the server writes into every page.

export const version = document.body.dataset.version;

/** The words for labels and outcomes, from the table in words.py: {label, truth, outcome, filter, kind, order}. */
export const words = JSON.parse(document.getElementById("words").textContent);
export const LABELS = words.label;

export const byId = (id) => document.getElementById(id);

/** Return an element with attributes and children. A string child becomes a text node. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const BETWEEN_PARTS = /(?<=[_-])(?=[^\s_-])/; // as in report/names.py
const LONG_PART = 16;

/** Return the name of a class or run, which wraps at its spaces and after `_` and `-`, and never inside a word. */
export function nameOf(name) {
  const parts = name.split(BETWEEN_PARTS);
  const isLong = parts.some((part) => part.split(/\s+/).some((word) => word.length > LONG_PART));
  const made = element("bdi", { class: "name", title: isLong ? name : null });
  for (const part of parts) made.append(...(made.hasChildNodes() ? [element("wbr")] : []), part);
  return made;
}

/** Return a button that calls `run`. */
export function button(text, run, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", run);
  return made;
}

/** Return a copy of the element in a <template>. */
export function clone(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}
