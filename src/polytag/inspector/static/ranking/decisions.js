// Decides labels from the grid: of the selected images, or of the focused one.
import { LABELS } from "../shared/dom.js";
import { bindLabelKeys, decide, inTurn, undo, undoneText } from "../shared/decide.js";
import { bind, notify } from "../shared/frame.js";
import { NOT_SHOWN, stateOf } from "../shared/shown.js";

/** Bind the keys that decide and undo; `classOf()` returns the class of the ranking, `onBatch()` is called where a batch was undone. */
export function bindDecisions(grid, { classOf, selection, bar, onBatch }) {
  const update = (image, row) => Object.assign(image, { reviewed: row.label, decision: row.number });

  /** Decide about the image that has the focus now, also where other decisions are still on their way. */
  function decideFocused(label) {
    const image = grid.focused < 0 ? undefined : grid.at(grid.focused);
    if (!image) return notify("Choose an image with the arrow keys first.");
    const [className, seen] = [classOf(), stateOf(grid.cells.get(grid.focused).querySelector("img"))];
    return inTurn(() => decideAbout(image, { className, label, seen }));
  }

  async function decideAbout(image, { className, label, seen }) {
    const state = await seen;
    if (state !== "shown") return notify(NOT_SHOWN[state]);
    try {
      update(image, await decide({ image: image.id, className, label, basedOn: image.decision }));
      notify(`${image.id}: ${className} is ${LABELS[label]}. z undoes it.`);
    } catch (error) {
      if (error.current) update(image, error.current);
      notify(error.current ? `${error.message} The page now shows that decision. Decide again to change it.` : error.message);
    }
    grid.refresh();
  }

  async function undoLast() {
    try {
      const row = await undo();
      if (row.batch !== undefined) {
        await onBatch();
        return notify(undoneText(row));
      }
      const image = row.class_name === classOf() ? grid.find(({ id }) => id === row.image) : undefined;
      if (image) update(image, row);
      notify(`Undone: ${row.class_name} in ${row.image}.`);
    } catch (error) {
      notify(error.message);
    }
    grid.refresh();
  }

  const decideHere = (label) => (selection.num ? bar.label(label) : decideFocused(label));
  bindLabelKeys((word) => `the label of the selected images, or of the chosen one: ${word}`, decideHere);
  bind("z", "undo the last decision", () => void inTurn(undoLast), { isHeld: false });
}
