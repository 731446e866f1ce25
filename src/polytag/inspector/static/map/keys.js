// The keys of the map: from point to point, zoom, and a rectangle in place of a lasso.
import { announce, bind, notify } from "../shared/frame.js";
import { byId } from "../shared/dom.js";

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const STEP = 0.05; // of the window
const FIRST = 0.3; // of the window: the side of a new rectangle
const LEAST = 0.01;

/**
 * `map` has view(), size() (width and height of the window in places), focused(), focusRow(row), middleRow(), points(), drawOpen(polygon),
 * select(polygon, isMore), open(row), zoom(factor), whole(), clear().
 */
export function bindMapKeys(map) {
  let rectangle = null; // {x, y, width, height} in places

  const cornersOf = ({ x, y, width, height }) => [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([dx, dy]) => [x + (dx * width) / 2, y + (dy * height) / 2]);
  const isOurs = ({ target }) => [document.body, byId("main"), byId("canvas")].includes(target);

  function begin() {
    const [width, height] = map.size();
    const row = map.focused();
    const middle = row < 0 ? map.view() : { x: map.points().x[row], y: map.points().y[row] };
    const side = FIRST * Math.min(width, height);
    rectangle = { x: middle.x, y: middle.y, width: side, height: side };
    byId("canvas").focus({ preventScroll: true });
    notify("A rectangle: arrows move it, with shift they resize it, enter selects what lies in it, esc ends it.");
    map.drawOpen(cornersOf(rectangle));
  }

  function change(key, isSize) {
    const [dx, dy] = DIRECTIONS[key];
    const [width, height] = map.size();
    if (isSize) {
      rectangle.width = Math.max(LEAST * width, rectangle.width + 2 * STEP * dx * width);
      rectangle.height = Math.max(LEAST * height, rectangle.height + 2 * STEP * dy * height);
    } else {
      rectangle.x += STEP * dx * width;
      rectangle.y += STEP * dy * height;
    }
    map.drawOpen(cornersOf(rectangle));
    announce(`${map.points().inside([cornersOf(rectangle)]).length.toLocaleString("en")} images in it`);
  }

  function end() {
    rectangle = null;
    map.drawOpen(null);
  }

  bind(Object.keys(DIRECTIONS), "from image to image; in a rectangle move it, with shift resize it", (event) => {
    if (!isOurs(event)) return false;
    if (rectangle) return change(event.key, event.shiftKey);
    const from = map.focused();
    const row = from < 0 ? map.middleRow() : map.points().next(from, DIRECTIONS[event.key]);
    if (row >= 0) map.focusRow(row);
  });
  bind("Enter", "open the image; in a rectangle select what lies in it, with shift some more", (event) => {
    if (!isOurs(event)) return false;
    if (rectangle) {
      const polygon = cornersOf(rectangle);
      end();
      return map.select(polygon, event.shiftKey);
    }
    if (map.focused() < 0) return false;
    map.open(map.focused());
  });
  bind("r", "a rectangle that selects", begin);
  bind(["+", "="], "zoom in", () => map.zoom(1.5));
  bind("-", "zoom out", () => map.zoom(1 / 1.5));
  bind("Home", "the whole map", () => map.whole());
  bind("Escape", "end the rectangle, or clear the selection", () => {
    if (rectangle) return end();
    return map.clear();
  });
}
