// What went wrong in the review, at the foot of the page: decisions that are not saved, and those that met another's.
import { element } from "../shared/frame.js";
import { LABELS, when } from "../shared/labels.js";

/** Show what is not saved and the conflicts; `act` says what the buttons do: retry, discard, close, look(conflict), leave(conflict). */
export function showTroubles({ jobs, error, warning, conflicts }, act) {
  const parts = [];
  if (error && jobs.length) {
    const [{ className, image, label }] = jobs;
    parts.push(
      element("p", {}, element("b", {}, jobs.length === 1 ? "1 decision is not saved" : `${jobs.length} decisions are not saved`), `: ${error.message}`),
      element("p", {}, "Kept on this page until it is. ", element("bdi", {}, `${className}, ${image}: ${LABELS[label]}`)),
      line(button("Try again", act.retry), button(jobs.length === 1 ? "Discard it" : "Discard the first", act.discard)));
  }
  if (warning) parts.push(element("p", {}, warning), line(button("Close", act.close)));
  replaceIfNew(document.getElementById("trouble"), parts);
  const list = conflicts.map((conflict) => {
    const { wanted, current } = conflict;
    const done = current?.label == null ? "took the decision back" : `decided ${LABELS[current.label]}`;
    const other = current ? `${current.reviewer} ${done}, ${when(current.time)}` : "it was changed";
    const leave = current?.label == null ? "Leave it" : `Leave it ${LABELS[current.label]}`;
    return element("li", {}, element("bdi", {}, `${wanted.className}, ${wanted.image}`), `: ${other}. Your “${LABELS[wanted.label]}” is not saved.`,
      line(button("Look at it", () => act.look(conflict)), button(leave, () => act.leave(conflict))));
  });
  replaceIfNew(document.getElementById("conflicts"), list.length ? [element("ul", {}, ...list)] : []);
}

function button(text, run) {
  const made = element("button", { type: "button" }, text);
  made.addEventListener("click", run);
  return made;
}

const line = (...children) => element("div", { class: "line" }, ...children);

/** An alert is read out when it changes, so it changes only when it says something else; and focus stays in it. */
function replaceIfNew(box, parts) {
  const text = parts.map((part) => part.textContent).join("\n");
  box.hidden = !parts.length;
  if (box.dataset.text === text) return;
  box.dataset.text = text;
  box.replaceChildren(...parts);
}
