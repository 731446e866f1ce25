// The texts of the review about one label.
import { timeText } from "../shared/decide.js";
import { LABELS, element } from "../shared/dom.js";

/** Return two decimals, three near 0 and 1, and never a rounded 0 or 1. */
export function probabilityText(value) {
  if (value >= 0.9995) return ">0.999";
  return value < 0.0005 ? "<0.001" : value.toFixed(value > 0.995 || value < 0.005 ? 3 : 2);
}

/** Return nodes that describe the state of a label: an unsaved decision (`job`), a conflict, or the decision. */
export function decisionNodes(entry, { job, conflict, isHalted }) {
  const strong = (text) => element("b", {}, text);
  if (job) return [isHalted ? "Not saved yet: " : "Saving: ", strong(LABELS[job.label]), "."];
  const { decision } = entry;
  const by = decision && [strong(LABELS[decision.label]), ", by ", element("bdi", {}, decision.author || decision.reviewer), `, ${timeText(decision.time)}`];
  if (conflict) {
    const other = conflict.current;
    const theirs = decision ? by : [other ? `undone, by ${other.reviewer}, ${timeText(other.time)}` : "nothing"];
    return ["Decided meanwhile: ", ...theirs, decision?.note ? `: “${decision.note}”` : "", ". You chose ", strong(LABELS[conflict.wanted.label]), ", which is not saved. Decide again, or skip."];
  }
  if (!decision) return [];
  return ["Decided: ", ...by, decision.label === entry.given ? ". The label was right." : "."];
}

/** Return what becomes of mAP if a label is wrong as it stands, or "" where that is not known. */
export function changeText({ given, map_change: change, decision }) {
  if (change === undefined || change === null || decision) return "";
  const number = Math.abs(change).toFixed(4);
  const text = Number(number) ? (change > 0 ? "+" : "−") + number : "unchanged to four places";
  return `If ${given === -1 ? "it is present" : "that is wrong"}: mAP ${text}`;
}
