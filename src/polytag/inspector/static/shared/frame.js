// The frame of every page: keys, the dialog that lists them, announcements to screen readers, and notices.
import { byId, element } from "./dom.js";
import { debounce } from "./debounce.js";

const NOTICE_MS = 6000;
const KEY_NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "space", Escape: "esc", Enter: "enter" };

// ---- announcements and notices ----

/** Announce a text to screen readers. */
export function announce(text) {
  byId("announcement").textContent = text;
}

const hideNotice = debounce(() => (byId("notice").hidden = true), NOTICE_MS);

/** Show a text at the foot of the page for a few seconds, and announce it. */
export function notify(text) {
  if (!byId("notice")) document.body.append(element("p", { id: "notice", class: "notice" }));
  byId("notice").textContent = text;
  byId("notice").hidden = false;
  announce(text);
  hideNotice();
}

// ---- keys ----

const bindings = [];

/** Bind keys, named as in KeyboardEvent.key, to a function; `description` is shown in the list of keys. */
export function bind(keys, description, run) {
  bindings.push({ keys: [keys].flat(), description, run });
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
  const found = bindings.find(({ keys }) => keys.includes(event.key));
  if (found && found.run(event) !== false) event.preventDefault();
});

function showKeys() {
  if (!byId("key-list")) document.body.append(keyDialog());
  byId("key-list").showModal();
}

function keyDialog() {
  const rows = bindings.flatMap(({ keys, description }) => [
    element("dt", {}, ...keys.map((key) => element("kbd", {}, KEY_NAMES[key] ?? key))), element("dd", {}, description)]);
  return element("dialog", { id: "key-list", "aria-labelledby": "key-title" },
    element("h2", { id: "key-title" }, "Keys"),
    element("dl", {}, ...rows),
    element("form", { method: "dialog" }, element("button", { class: "main" }, "Close")));
}

byId("keys").addEventListener("click", showKeys);
bind("?", "this list", showKeys);
bind("o", "overview", () => location.assign("/"));
bind("g", "images", () => location.assign("/ranking"));
bind("v", "review labels", () => location.assign("/review"));
bind("p", "predict on an image", () => location.assign("/predict"));
for (const each of document.querySelectorAll(".scriptless")) each.hidden = true;
