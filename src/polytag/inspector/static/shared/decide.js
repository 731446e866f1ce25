// Decisions about labels, for every page: the reviewer's name, a decision, and undoing one.
import { post } from "./api.js";
import { LABELS, element } from "./dom.js";
import { bind } from "./frame.js";

const STORAGE_KEY = "polytag.reviewer";
const MAX_NAME_LENGTH = 80;

let sessionName = ""; // used where the browser stores nothing

/** Return the reviewer's name, or "" where none is known. */
export function reviewer() {
  try {
    return localStorage.getItem(STORAGE_KEY) ?? sessionName;
  } catch {
    return sessionName;
  }
}

function setReviewer(name) {
  sessionName = name;
  try {
    localStorage.setItem(STORAGE_KEY, name);
  } catch {
    // the name holds until the page is left
  }
  document.dispatchEvent(new CustomEvent("polytag:reviewer", { detail: name }));
}

/** Return the reviewer's name; ask for it where none is known, or with `change`. "" where the dialog is closed without a name. */
export function requireReviewer({ change = false } = {}) {
  if (reviewer() && !change) return Promise.resolve(reviewer());
  const input = element("input", { name: "reviewer", required: true, maxLength: MAX_NAME_LENGTH, autocomplete: "name", value: reviewer(), id: "reviewer-name" });
  const dialog = element("dialog", { class: "naming", "aria-labelledby": "naming-title" },
    element("form", { method: "dialog" },
      element("h2", { id: "naming-title" }, "Who is reviewing?"),
      element("p", { class: "note" }, "The review stores this name with every decision. This browser remembers it."),
      element("label", { for: "reviewer-name" }, "Your name"), input,
      element("div", { class: "line" },
        element("button", { class: "main", value: "named" }, "Use this name"),
        element("button", { value: "", formnovalidate: "" }, "Not now"))));
  document.body.append(dialog);
  dialog.showModal();
  input.select();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const name = input.value.trim();
      dialog.remove();
      if (dialog.returnValue !== "named" || !name) return resolve("");
      setReviewer(name);
      resolve(name);
    });
  });
}

/**
 * Save a decision about a label: 1, 0 or -1. `basedOn` is the number of the last row that the page has seen of the label, 0 for
 * none. `by` names the reviewer where that is not the current one.
 * Returns the new row. Throws an Error where nothing was saved, with `current` where another decision came first.
 */
export async function decide({ image, className, label, basedOn, note = "", by = "" }) {
  const name = by || (await requireReviewer());
  if (!name) throw new Error("Nothing is saved: a decision needs a name.");
  try {
    return await post("/api/review/decisions", { image, class_name: className, label, based_on: basedOn, note, reviewer: name });
  } catch (error) {
    if (error.status === 409) error.current = error.answer.current;
    throw error;
  }
}

let turn = Promise.resolve();

/** Deciding and undoing take turns, in the order of their keys: what is undone is the decision before, and not one before that. */
export const inTurn = (action) => (turn = turn.then(action, action));

/** Undo the last thing that the reviewer did, or their decision or batch of this number. Returns the new row, or the new batch. */
export async function undo({ number = 0, batch = 0 } = {}) {
  const name = await requireReviewer();
  if (!name) throw new Error("Nothing is undone: this needs your name.");
  return post("/api/review/undo", { reviewer: name, number, batch });
}

/** What an undone batch was. */
export function undoneText({ num_labels, num_marks }) {
  const parts = [[num_labels, "label"], [num_marks, "tag or note"]].filter(([number]) => number);
  return `Undone: ${parts.map(([number, word]) => `${number.toLocaleString("en")} × ${word}`).join(", ") || "nothing was left to undo"}.`;
}

/** Bind the keys of the three labels. `describe(word)` describes one, `run(value, event)` decides. */
export function bindLabelKeys(describe, run) {
  for (const [keys, value] of [[["1", "y"], 1], [["0", "n"], 0], ["u", -1]]) {
    bind(keys, describe(LABELS[value], value), (event) => void run(value, event), { isHeld: false });
  }
}

/** Return hour and minute of a row, with the date unless it is today. */
export function timeText(time) {
  const date = new Date(time);
  const clock = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? clock : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${clock}`;
}
