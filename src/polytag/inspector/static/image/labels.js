// On the page of one image: what the label of the chosen class is, who decided so, and deciding.
import { fetchJson, bind, element, notify } from "../shared/frame.js";
import { LABELS, decide, undo, when } from "../shared/labels.js";

/** Fill `place` for the class that `show(name)` names; entries of the list of classes are marked where a label is decided. */
export function showLabels(place, { imageId, entries }) {
  let known = new Map(); // class name -> what is given, decided, and the number of the last row
  let shown = "";

  function draw() {
    const label = known.get(shown);
    place.hidden = !label;
    if (!label) return;
    const { decision } = label;
    const decided = decision !== null && decision.label !== null;
    const told = decided
      ? `decided: ${LABELS[decision.label]}, by ${decision.reviewer}, ${when(decision.time)}${decision.note ? `. “${decision.note}”` : ""}`
      : "nobody has reviewed it";
    const button = (value, key) => {
      const is = decided && decision.label === value;
      const made = element("button", { type: "button", "aria-pressed": String(is) }, LABELS[value], " ", element("kbd", {}, key));
      made.addEventListener("click", () => set(value));
      return made;
    };
    place.replaceChildren(
      element("h3", {}, "Is ", element("b", {}, shown), " in this image?"),
      element("p", { class: "note small" }, `Labelled ${LABELS[label.given]}; ${told}.`),
      element("div", { class: "line" }, button(1, "1"), button(0, "0"), button(-1, "u")),
    );
    for (const entry of entries) {
      const its = known.get(entry.dataset.class)?.decision;
      entry.querySelector(".reviewed-label")?.remove();
      if (its && its.label !== null) entry.querySelector(".outcome").append(element("span", { class: "reviewed-label" }, ` · ${LABELS[its.label]}`));
    }
  }

  async function load() {
    const answer = await fetchJson("/api/review/labels?" + new URLSearchParams({ image: imageId }));
    known = new Map(answer.classes.map((each) => [each.class_name, each]));
    draw();
  }

  function keep(row) {
    const label = known.get(row.class_name);
    if (label) Object.assign(label, { decision: row, number: row.number });
    draw();
  }

  async function set(value) {
    const label = known.get(shown);
    if (!label) return;
    try {
      keep(await decide({ image: imageId, className: shown, label: value, basedOn: label.number }));
      notify(`${shown} is ${LABELS[value]}. z takes it back.`);
    } catch (error) {
      if (error.current) keep(error.current);
      notify(error.message);
    }
  }

  for (const [keys, value] of [[["1", "y"], 1], [["0", "n"], 0], ["u", -1]]) bind(keys, `the label of the chosen class: ${LABELS[value]}`, () => void set(value));
  bind("z", "take back the last decision", async () => {
    try {
      const row = await undo();
      notify(`Taken back: ${row.class_name} in ${row.image}.`);
      if (row.image === imageId) keep(row);
    } catch (error) {
      notify(error.message);
    }
  });
  load().catch(() => (place.hidden = true));
  return {
    show(name) {
      shown = name;
      draw();
    },
  };
}
