// Selects images in the grid by keys and mouse: one, a range, all of the filter.
import { announce, bind, notify } from "../shared/frame.js";

const MAX_RANGE = 10_000;

/**
 * Bind keys and clicks that select; returns what the arrow keys call after they have moved the focus. `whenDrawn(action)` lets a key wait
 * for the list that is being drawn.
 */
export function bindSelecting(grid, selection, whenDrawn) {
  let anchor = -1; // where a range begins
  let before = null; // the selected rows that a range is added to
  let numRanges = 0; // a range whose images are still on their way gives way to what comes after it

  function toggle(index) {
    const image = grid.at(index);
    if (!image) return;
    numRanges++;
    selection.toggle(image.row);
    anchor = index;
    before = null;
  }

  async function selectTo(index) {
    if (anchor < 0) anchor = index;
    before ??= selection.isAll ? new Set() : new Set(selection.rows);
    const [first, last, range] = [Math.min(anchor, index), Math.max(anchor, index), ++numRanges];
    if (last - first >= MAX_RANGE) return notify(`A range has at most ${MAX_RANGE.toLocaleString("en")} images. The key a selects all of the filter.`);
    const images = await grid.between(first, last);
    if (range !== numRanges) return;
    selection.replace([...before, ...images.map(({ row }) => row)]);
    announce(`${selection.num.toLocaleString("en")} selected`);
  }

  grid.list.addEventListener("click", (event) => {
    const cell = event.target.closest("li");
    const isButton = event.target.closest(".pick");
    if (!cell || !(isButton || event.shiftKey)) return;
    event.preventDefault();
    const index = Number(cell.dataset.index);
    if (event.shiftKey) {
      if (anchor < 0 && grid.focused >= 0) anchor = grid.focused;
      selectTo(index).catch((error) => notify(error.message));
    } else toggle(index);
  });

  const isElsewhere = ({ target }) => target !== document.body && target.id !== "main" && !grid.list.contains(target);
  const toggleFocused = whenDrawn(() => (grid.focused < 0 ? notify("Choose an image with the arrow keys first.") : toggle(grid.focused)));
  bind(" ", "select the image, or let go of it", (event) => !isElsewhere(event) && toggleFocused(event)); // the space key presses buttons
  bind("a", "select all images of this filter", whenDrawn(() => grid.total && selection.all(grid.total)));
  bind("Escape", "clear the selection", () => {
    if (!selection.num) return false;
    anchor = -1;
    numRanges++;
    selection.clear();
  });

  /** `event` is that of the arrow key; `from` is the cell that had the focus. */
  return (event, from) => {
    if (!event.shiftKey) return (anchor = -1);
    if (anchor < 0) {
      anchor = from < 0 ? grid.focused : from;
      before = null;
    }
    selectTo(grid.focused).catch((error) => notify(error.message));
  };
}
