// Deciding what a label is, for any page: the reviewer's name, a decision, and taking one back.
import { fetchJson, element } from "./frame.js";

const KEY = "polytag.reviewer";
const LONGEST_NAME = 80;
export const LABELS = { 1: "present", 0: "absent", "-1": "unknown" };

let unkept = ""; // the name where the browser keeps nothing

/** The reviewer's name, or "" where nobody has given one. */
export function reviewer() {
  try {
    return localStorage.getItem(KEY) ?? unkept;
  } catch {
    return unkept;
  }
}

function setReviewer(name) {
  unkept = name;
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // it holds until the page is left
  }
  document.dispatchEvent(new CustomEvent("polytag:reviewer", { detail: name }));
}

/** The reviewer's name, asked for where there is none, or `anew`; "" where the question is not answered. */
export function named({ anew = false } = {}) {
  if (reviewer() && !anew) return Promise.resolve(reviewer());
  const input = element("input", { name: "reviewer", required: true, maxLength: LONGEST_NAME, autocomplete: "name", value: reviewer(), id: "reviewer-name" });
  const dialog = element("dialog", { class: "naming", "aria-labelledby": "naming-title" },
    element("form", { method: "dialog" },
      element("h2", { id: "naming-title" }, "Who is deciding?"),
      element("p", { class: "note" }, "The name stands beside every decision in the review. This browser remembers it."),
      element("label", { for: "reviewer-name" }, "Your name"), input,
      element("div", { class: "line" },
        element("button", { class: "main", value: "named" }, "Decide as this"),
        element("button", { value: "", formnovalidate: "" }, "Not now"))));
  document.body.append(dialog);
  dialog.showModal();
  input.select();
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      const name = input.value.trim();
      dialog.remove();
      if (dialog.returnValue !== "named" || !name) return done("");
      setReviewer(name);
      done(name);
    });
  });
}

async function write(path, body) {
  const answer = await fetchJson(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  document.dispatchEvent(new CustomEvent("polytag:decided", { detail: answer }));
  return answer;
}

/**
 * Say what a label is: 1, 0 or -1; `basedOn` is the number of the last row that was seen of it, 0 for none; `by` is the
 * reviewer, where that is not who is at the page now.
 * Gives the row that was written; throws an Error where nothing was, with `current` where another decision came first,
 * and with `isUnnamed` where the reviewer gave no name.
 */
export async function decide({ image, className, label, basedOn, note = "", by = "" }) {
  const name = by || (await named());
  if (!name) throw Object.assign(new Error("Nothing is saved: a decision needs a name."), { isUnnamed: true });
  try {
    return await write("/api/review/decisions", { image, class_name: className, label, based_on: basedOn, note, reviewer: name });
  } catch (error) {
    if (error.status === 409) error.current = error.answer.current;
    throw error;
  }
}

/** Take back the reviewer's last decision, or theirs of this number; gives the row that says so. */
export async function undo({ number = 0 } = {}) {
  const name = await named();
  if (!name) throw Object.assign(new Error("Nothing is taken back: this needs your name."), { isUnnamed: true });
  return write("/api/review/undo", { reviewer: name, number });
}

/** Hour and minute of a row, with the day where it is another. */
export function when(time) {
  const date = new Date(time);
  const clock = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? clock : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${clock}`;
}
