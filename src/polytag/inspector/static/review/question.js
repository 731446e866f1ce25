// The question about the current label: what is given, what the model predicts, what is decided, and the note.
import { LABELS, byId, element, nameOf } from "../shared/dom.js";
import { changeText, decisionNodes, probabilityText } from "./text.js";

/** Show an entry with its unsaved decision (`job`) or `conflict`; `isHalted` where decisions cannot be saved now. */
export function showQuestion(entry, { job, conflict, isHalted }) {
  byId("question").replaceChildren("Is ", element("b", {}, nameOf(entry.class_name)), " in this image?");
  const given = entry.given === -1 ? ["The label is ", element("b", {}, "unknown")] : ["Labelled ", element("b", {}, LABELS[entry.given])];
  const model = entry.probability === null ? "." : `; the model says ${probabilityText(entry.probability)}.`;
  byId("given").replaceChildren(...given, model);
  byId("change").textContent = job ? "" : changeText(entry);
  const label = job ? job.label : conflict ? null : entry.decision?.label;
  for (const each of document.querySelectorAll(".answers button")) each.setAttribute("aria-pressed", String(Number(each.dataset.label) === label));
  byId("standing").classList.toggle("contested", Boolean(conflict) && !job);
  byId("standing").replaceChildren(...decisionNodes(entry, { job, conflict, isHalted }));
  if (document.activeElement !== byId("note")) byId("note").value = entry.draft ?? job?.note ?? entry.decision?.note ?? "";
  showNoteStatus(entry);
}

/** Show whether the note of an entry is saved. */
export function showNoteStatus(entry) {
  const isNew = entry.draft !== undefined && entry.draft.trim() !== (entry.decision?.note ?? "");
  byId("save-note").hidden = !(isNew && entry.decision);
  byId("note-status").textContent = !isNew ? "" : entry.decision ? "Not saved yet." : "It is saved with your decision.";
}

/** The text of the question for screen readers. */
export const questionText = () => ["question", "given", "standing"].map((id) => byId(id).textContent).join(" ");
