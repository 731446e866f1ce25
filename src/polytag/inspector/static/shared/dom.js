// Elements, templates, and the data that the server writes into every page.

export const version = document.body.dataset.version;

/** The words for labels and outcomes, from the table in words.py: {label, truth, outcome, filter, kind}. */
export const words = JSON.parse(document.getElementById("words").textContent);
export const LABELS = words.label;

export const byId = (id) => document.getElementById(id);

/** Return an element with attributes and children. A string child becomes a text node. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made && typeof value !== "string") made[key] = value;
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
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
