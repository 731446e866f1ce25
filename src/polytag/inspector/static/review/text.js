// What the review says about a label.
import { element } from "../shared/frame.js";
import { LABELS, when } from "../shared/labels.js";

/** Two decimals, three near certainty, and never a certainty that is none. */
export function numberOf(value) {
  if (value >= 0.9995) return ">0.999";
  return value < 0.0005 ? "<0.001" : value.toFixed(value > 0.995 || value < 0.005 ? 3 : 2);
}

/** What stands about a label: a decision on its way (`job`), one that met another's (`conflict`), or what is decided; as nodes. */
export function standingOf(entry, { job, conflict, isHalted }) {
  const strong = (text) => element("b", {}, text);
  if (job) return [isHalted ? "Not saved yet: " : "Saving: ", strong(LABELS[job.label]), "."];
  const { decision } = entry;
  const by = decision && [strong(LABELS[decision.label]), ", by ", element("bdi", {}, decision.author || decision.reviewer), `, ${when(decision.time)}`];
  if (conflict) {
    const other = conflict.current;
    const theirs = decision ? by : [other ? `taken back, by ${other.reviewer}, ${when(other.time)}` : "nothing"];
    return ["Decided meanwhile: ", ...theirs, decision?.note ? `: “${decision.note}”` : "", ". You chose ", strong(LABELS[conflict.wanted.label]), ", which is not saved. Decide again, or skip."];
  }
  if (!decision) return [];
  return ["Decided: ", ...by, decision.label === entry.given ? ". The label was right." : "."];
}
