// Decides the label of the focused image from the grid.
import { LABELS } from "../shared/dom.js";
import { bindLabelKeys, decide, undo } from "../shared/decide.js";
import { bind, notify } from "../shared/frame.js";

/** Bind the keys that decide and undo; `classOf()` returns the class of the ranking. */
export function bindDecisions(grid, classOf) {
  const update = (image, row) => Object.assign(image, { reviewed: row.label, decision: row.number });

  async function decideFocused(label) {
    const image = grid.focused < 0 ? undefined : grid.at(grid.focused);
    if (!image) return notify("Choose an image with the arrow keys first.");
    const className = classOf();
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
      const image = row.class_name === classOf() ? grid.find(({ id }) => id === row.image) : undefined;
      if (image) update(image, row);
      notify(`Undone: ${row.class_name} in ${row.image}.`);
    } catch (error) {
      notify(error.message);
    }
    grid.refresh();
  }

  bindLabelKeys((word) => `the label of the chosen image: ${word}`, decideFocused);
  bind("z", "undo the last decision", undoLast);
}
