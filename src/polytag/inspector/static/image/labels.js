// The label of the chosen class of one image: what is given, what is decided and by whom, and deciding.
import { fetchJson } from "../shared/api.js";
import { LABELS, button, element, nameOf } from "../shared/dom.js";
import { bindLabelKeys, decide, inTurn, timeText, undo, undoneText } from "../shared/decide.js";
import { bind, notify } from "../shared/frame.js";
import { NOT_SHOWN, stateOf } from "../shared/shown.js";

/** Fill `place` for the class that `show(name)` names, and mark the `entries` of the list of classes that are decided. */
export function showLabels(place, { image, imageId, entries }) {
  let labels = new Map(); // by class name: {given, decision, number of the last row}
  let shown = "";

  const isDecided = (label) => label?.decision != null && label.decision.label !== null;

  function draw() {
    const label = labels.get(shown);
    place.hidden = !label;
    if (!label) return;
    const choice = (value, key) => {
      const isPressed = isDecided(label) && label.decision.label === value;
      const made = button(LABELS[value] + " ", () => set(value), { "aria-pressed": String(isPressed), disabled: Boolean(unseen()) });
      made.append(element("kbd", {}, key));
      return made;
    };
    place.replaceChildren(
      element("h3", {}, "Is ", element("b", {}, nameOf(shown)), " in this image?"),
      element("p", { class: "note small" }, `Labelled ${LABELS[label.given]}; ${decisionText(label.decision)}.`),
      element("div", { class: "line" }, choice(1, "1"), choice(0, "0"), choice(-1, "u")),
      ...(unseen() ? [unseenNode()] : []),
    );
    for (const entry of entries) markEntry(entry, labels.get(entry.dataset.class));
  }

  const unseen = () => ({ missing: NOT_SHOWN.missing, failed: NOT_SHOWN.failed })[image.dataset.state];

  function unseenNode() {
    const next = document.getElementById("next")?.href;
    return element("div", { class: "unseen" }, element("p", {}, unseen()), next ? element("a", { class: "button", href: next }, "Next image") : null);
  }

  function decisionText(decision) {
    if (decision === null || decision.label === null) return "nobody has reviewed it";
    const note = decision.note ? `. “${decision.note}”` : "";
    return `decided: ${LABELS[decision.label]}, by ${decision.reviewer}, ${timeText(decision.time)}${note}`;
  }

  function markEntry(entry, label) {
    entry.querySelector(".reviewed-label")?.remove();
    if (!isDecided(label)) return;
    entry.querySelector(".outcome").append(element("span", { class: "reviewed-label" }, ` · ${LABELS[label.decision.label]}`));
  }

  async function load() {
    const { classes } = await fetchJson("/api/review/labels?" + new URLSearchParams({ image: imageId }));
    labels = new Map(classes.map((each) => [each.class_name, each]));
    draw();
  }

  function update(row) {
    const label = labels.get(row.class_name);
    if (label) Object.assign(label, { decision: row, number: row.number });
    draw();
  }

  /** Decide about the class that is chosen now, also where other decisions are still on their way. */
  function set(value) {
    const [className, seen] = [shown, stateOf(image)];
    return inTurn(() => decideAbout(className, value, seen));
  }

  async function decideAbout(className, value, seen) {
    const label = labels.get(className);
    if (!label) return;
    const state = await seen;
    if (state !== "shown") return notify(NOT_SHOWN[state]);
    try {
      update(await decide({ image: imageId, className, label: value, basedOn: label.number }));
      notify(`${className} is ${LABELS[value]}. z undoes it.`);
    } catch (error) {
      if (error.current) update(error.current);
      notify(error.message);
    }
  }

  async function undoLast() {
    try {
      const row = await undo();
      if (row.batch !== undefined) {
        await load();
        return notify(undoneText(row));
      }
      notify(`Undone: ${row.class_name} in ${row.image}.`);
      if (row.image === imageId) update(row);
    } catch (error) {
      notify(error.message);
    }
  }

  bindLabelKeys((word) => `the label of the chosen class: ${word}`, set);
  bind("z", "undo the last decision", () => void inTurn(undoLast), { isHeld: false });
  load().catch(() => (place.hidden = true));
  image.addEventListener("polytag:state", draw);
  return {
    show(name) {
      shown = name;
      draw();
    },
  };
}
