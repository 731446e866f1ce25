// The problems of the review, at the foot of the page: decisions that are not saved, and conflicts with other reviewers.
import { timeText } from "../shared/decide.js";
import { LABELS, button, byId, element } from "../shared/dom.js";

/** Show unsaved decisions, a warning and conflicts. `actions` are those of the buttons: retry, discard, close, look(conflict), leave(conflict). */
export function showProblems({ jobs, error, warning, conflicts }, actions) {
  const parts = [];
  if (error && jobs.length) parts.push(...unsavedNodes(jobs, error, actions));
  if (warning) parts.push(element("p", {}, warning), line(button("Close", actions.close)));
  replaceIfNew(byId("trouble"), parts);
  const list = conflicts.map((conflict) => conflictNode(conflict, actions));
  replaceIfNew(byId("conflicts"), list.length ? [element("ul", {}, ...list)] : []);
}

function unsavedNodes(jobs, error, { retry, discard }) {
  const [{ className, image, label }] = jobs;
  const title = jobs.length === 1 ? "1 decision is not saved" : `${jobs.length} decisions are not saved`;
  return [
    element("p", {}, element("b", {}, title), `: ${error.message}`),
    element("p", {}, "This page holds it until it is saved. ", element("bdi", {}, `${className}, ${image}: ${LABELS[label]}`)),
    line(button("Try again", retry), button(jobs.length === 1 ? "Discard it" : "Discard the first", discard))];
}

function conflictNode(conflict, { look, leave }) {
  const { wanted, current } = conflict;
  const action = current?.label == null ? "undid the decision" : `decided ${LABELS[current.label]}`;
  const other = current ? `${current.reviewer} ${action}, ${timeText(current.time)}` : "it was changed";
  const leaveText = current?.label == null ? "Leave it" : `Leave it ${LABELS[current.label]}`;
  return element("li", {}, element("bdi", {}, `${wanted.className}, ${wanted.image}`), `: ${other}. Your “${LABELS[wanted.label]}” is not saved.`,
    line(button("Look at it", () => look(conflict)), button(leaveText, () => leave(conflict))));
}

const line = (...children) => element("div", { class: "line" }, ...children);

/** Replace the content of an alert only where its text changes: a screen reader reads every change, and the focus stays inside. */
function replaceIfNew(box, parts) {
  const text = parts.map((part) => part.textContent).join("\n");
  box.hidden = !parts.length;
  if (box.dataset.text === text) return;
  box.dataset.text = text;
  box.replaceChildren(...parts);
}
