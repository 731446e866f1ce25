// The keys of every page. A key that is pressed while the page, or the next one, is loading is held until its time comes.
import { pageAddress } from "./address.js";
import { byId, element } from "./dom.js";

const KEY_NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "space", Escape: "esc", Enter: "enter" };
const STORAGE_KEY = "polytag.keys";
const LEAVING_MS = 5000; // after which a page that was to be left counts as the place to stay
const SEARCH_MS = 1000; // between two letters that search the list of a select together
const STEP_MS = 100; // between a key in a select and the change that it makes
const MAY_BE_BOUND = /^(.|Arrow.*|Home|Escape|Backspace)$/u;

const early = window.earlyKeys ?? [];
removeEventListener("keydown", early.hold);

const bindings = [];

/**
 * Bind keys, named as in KeyboardEvent.key, to a function; `description` is shown in the list of keys. What a key saves is not held:
 * with `isHeld` false it counts only for what is shown when it is pressed.
 */
export function bind(keys, description, run, { isHeld = true } = {}) {
  bindings.push({ keys: [keys].flat(), description, run, isHeld });
}

const find = (key) => bindings.find(({ keys }) => keys.includes(key));

document.addEventListener("keydown", (event) => {
  if (!isOurs(event)) return;
  if (leftAt !== null) return holdForNextPage(event);
  const found = find(event.key);
  if (found && found.run(event) !== false) event.preventDefault();
});

/** Whether a key is the page's, and not that of a field, a dialog or the browser. */
function isOurs(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return false;
  if (isPastChoice(event)) event.preventDefault(); // else the letter would choose another entry
  else if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return false;
  }
  if (document.querySelector("dialog[open]")) return false;
  return !(event.target.matches?.("input[type=range]") && event.key.startsWith("Arrow"));
}

function isTyping(target) {
  return target.matches?.("textarea, select, input:not([type=checkbox]):not([type=radio]):not([type=range]):not([type=file])");
}

// ---- selects: a letter searches the list, and once something is chosen it is the page's again ----

const isChosen = new WeakSet(); // selects in which something was chosen since they were focused or opened
let searchedAt = -Infinity;
let lastKey = { target: null, key: "", at: -Infinity };

/** Whether a letter in a select comes after the choice, and does not continue a search. */
function isPastChoice({ target, key, timeStamp }) {
  if (!target.matches?.("select")) return false;
  const isLetter = key.length === 1 && key !== " ";
  if (isLetter && isChosen.has(target) && timeStamp - searchedAt > SEARCH_MS) return true;
  lastKey = { target, key, at: timeStamp };
  if (key === " " || key === "Enter") isChosen.delete(target); // it opens the list
  if (isLetter) searchedAt = timeStamp;
  return false;
}

document.addEventListener("change", ({ target, timeStamp }) => {
  if (!target.matches("select")) return;
  isChosen.add(target);
  const isStep = lastKey.target === target && timeStamp - lastKey.at < STEP_MS && !["Enter", " "].includes(lastKey.key);
  if (!isStep) target.blur(); // it was chosen from the open list, and arrows are the page's again
});
for (const name of ["focusin", "pointerdown"]) document.addEventListener(name, ({ target }) => isChosen.delete(target));

// ---- keys that come too early ----

let leftAt = null; // the timer of a page that is being left

/** Go to another page of the inspector. Keys that are pressed until it is there are held for it. */
export function leaveTo(address) {
  leave();
  location.assign(address);
}

function leave() {
  clearTimeout(leftAt);
  leftAt = setTimeout(() => (leftAt = null), LEAVING_MS);
}

addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  const isOther = event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button;
  if (link && !isOther && !link.target && link.pathname + link.search !== location.pathname + location.search) leave();
});

addEventListener("pageshow", ({ persisted }) => {
  if (!persisted) return;
  clearTimeout(leftAt);
  leftAt = null;
});

function holdForNextPage(event) {
  if (!MAY_BE_BOUND.test(event.key)) return;
  event.preventDefault();
  if (event.repeat) return; // a key that is held down
  store([...stored(), event.key]);
}

function store(keys) {
  try {
    if (keys.length) sessionStorage.setItem(STORAGE_KEY, JSON.stringify({ keys, at: Date.now() }));
    else sessionStorage.removeItem(STORAGE_KEY);
  } catch {
    // without storage they are lost
  }
}

function stored() {
  try {
    const { keys, at } = JSON.parse(sessionStorage.getItem(STORAGE_KEY)) ?? {};
    return Date.now() - at < LEAVING_MS ? keys : [];
  } catch {
    return [];
  }
}

/** Run the keys that were held; those after one that leaves the page are held for the next one. */
function runHeld() {
  const keys = [...stored(), ...early.filter((event) => !event.repeat && isOurs(event)).map(({ key }) => key)];
  store([]);
  for (const [index, key] of keys.entries()) {
    if (leftAt !== null) return store(keys.slice(index));
    const found = find(key);
    if (found?.isHeld) found.run({ key, target: document.body, shiftKey: false, repeat: false });
  }
}

setTimeout(runHeld); // once the page has bound its keys

// ---- the list of keys ----

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
bind("o", "overview", () => leaveTo(pageAddress("/")));
bind("i", "images", () => leaveTo(pageAddress("/ranking")));
bind("v", "review labels", () => leaveTo(pageAddress("/review")));
bind("p", "predict on an image", () => leaveTo(pageAddress("/predict")));
