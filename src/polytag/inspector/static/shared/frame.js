// What every page has: its keys, a dialog that lists them, and a place for what is said to a screen reader.

const bound = [];

/** Bind keys (as KeyboardEvent.key names them) to what they do on this page; `description` is shown in the list. */
export function bind(keys, description, run) {
  bound.push({ keys: [keys].flat(), description, run });
}

/** Tell a screen reader. */
export function announce(text) {
  document.getElementById("announcement").textContent = text;
}

/** Tell everybody, for a while, at the foot of the page. */
export function notify(text) {
  let place = document.getElementById("notice");
  if (!place) document.body.append((place = element("p", { id: "notice", class: "notice" })));
  place.textContent = text;
  place.hidden = false;
  announce(text);
  clearTimeout(notify.later);
  notify.later = setTimeout(() => (place.hidden = true), 6000);
}

export const version = document.body.dataset.version;

/** Ask the API; throws an Error whose message can be shown, with the status and the answer. */
export async function fetchJson(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("polytag does not answer: is it still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const detail = typeof answer.detail === "string" ? answer.detail : answer.detail?.[0]?.msg;
  throw Object.assign(new Error(detail || `refused (${response.status})`), { status: response.status, answer });
}

/** An element with attributes and children; a text child stays a text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made && typeof value !== "string") made[key] = value;
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const SIGNS = { 1: "y", 0: "n", "-1": "u" };

/** The sign of a truth: tick, cross or question mark. */
export function sign(truth) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "sign");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", "#" + SIGNS[truth]);
  svg.append(use);
  return svg;
}

/** Replace the parameters of an address; undefined, null and "" take one away, an array gives several. */
export function withParameters(query, changes) {
  const parameters = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    parameters.delete(name);
    for (const each of [value].flat()) if (each !== undefined && each !== null && each !== "") parameters.append(name, each);
  }
  return parameters;
}

function isTyping(target) {
  return target.matches?.("textarea, select, input:not([type=checkbox]):not([type=radio]):not([type=range]):not([type=file])");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  if (event.target.matches?.("input[type=range]") && event.key.startsWith("Arrow")) return;
  const found = bound.find(({ keys }) => keys.includes(event.key));
  if (found && found.run(event) !== false) event.preventDefault();
});

const NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "space", Escape: "esc", Enter: "enter" };

function showKeys() {
  let dialog = document.getElementById("key-list");
  if (!dialog) {
    const list = element("dl");
    for (const { keys, description } of bound) {
      const names = keys.map((key) => element("kbd", {}, NAMES[key] ?? key));
      list.append(element("dt", {}, ...names), element("dd", {}, description));
    }
    const form = element("form", { method: "dialog" }, element("button", { class: "main" }, "Close"));
    dialog = element("dialog", { id: "key-list", "aria-labelledby": "key-title" }, element("h2", { id: "key-title" }, "Keys"), list, form);
    document.body.append(dialog);
  }
  dialog.showModal();
}

document.getElementById("keys").addEventListener("click", showKeys);
bind("?", "this list", showKeys);
bind("o", "overview", () => location.assign("/"));
bind("g", "images", () => location.assign("/ranking"));
bind("v", "review labels", () => location.assign("/review"));
bind("p", "predict on an image", () => location.assign("/predict"));
for (const each of document.querySelectorAll(".scriptless")) each.hidden = true;
