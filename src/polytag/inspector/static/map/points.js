// The points of the map: where they are, which is nearest, which lie in a polygon. No drawing, no page.
import { EXTENT } from "./state.js";

const CELLS = 128; // along each side of the index
const CELL = (EXTENT + 1) / CELLS;

export class Points {
  /** `x` and `y` are places by row, -1 for an image that has none. */
  constructor(x, y) {
    this.x = Float32Array.from(x);
    this.y = Float32Array.from(y);
    this.keep(null);
    this.index();
  }

  get length() {
    return this.x.length;
  }

  /** Show only these rows, or all with null. */
  keep(passing) {
    this.isShown = new Uint8Array(this.length).fill(passing ? 0 : 1);
    for (const row of passing ?? []) this.isShown[row] = 1;
    for (let row = 0; row < this.length; row++) if (this.x[row] < 0) this.isShown[row] = 0;
  }

  /** Sort the rows by the cell that they lie in. */
  index() {
    const { x, y, length } = this;
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    const cellOf = (row) => Math.floor(y[row] / CELL) * CELLS + Math.floor(x[row] / CELL);
    for (let row = 0; row < length; row++) if (x[row] >= 0) this.starts[cellOf(row) + 1]++;
    for (let cell = 0; cell < CELLS * CELLS; cell++) this.starts[cell + 1] += this.starts[cell];
    this.rows = new Uint32Array(this.starts.at(-1));
    const next = this.starts.slice();
    for (let row = 0; row < length; row++) if (x[row] >= 0) this.rows[next[cellOf(row)]++] = row;
  }

  /** Call `run(row)` for the shown points in a rectangle of places. */
  within(left, low, right, high, run) {
    const cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value / CELL)));
    for (let line = cell(low); line <= cell(high); line++) {
      const end = this.starts[line * CELLS + cell(right) + 1];
      for (let place = this.starts[line * CELLS + cell(left)]; place < end; place++) {
        const row = this.rows[place];
        if (this.isShown[row] && this.x[row] >= left && this.x[row] <= right && this.y[row] >= low && this.y[row] <= high) run(row);
      }
    }
  }

  around(x, y, reach, run) {
    this.within(x - reach, y - reach, x + reach, y + reach, run);
  }

  /** The shown point that is nearest to a place, at most `reach` away; -1 for none. */
  nearest(x, y, reach) {
    let found = -1;
    let least = reach * reach;
    this.around(x, y, reach, (row) => {
      const distance = (this.x[row] - x) ** 2 + (this.y[row] - y) ** 2;
      if (distance <= least) [found, least] = [row, distance];
    });
    return found;
  }

  /** The next shown point from that of a row in a direction, [1, 0] for right: the nearest within 45 degrees of it; -1 for none. */
  next(from, [dx, dy]) {
    let found = -1;
    let least = Infinity;
    for (let reach = CELL; reach < 4 * EXTENT && least > reach; reach *= 2) {
      this.around(this.x[from], this.y[from], reach, (row) => {
        const [across, up] = [this.x[row] - this.x[from], this.y[row] - this.y[from]];
        const along = across * dx + up * dy;
        const aside = Math.abs(across * dy - up * dx);
        const distance = Math.hypot(along, 2 * aside);
        if (along > 0 && aside <= along && distance < least) [found, least] = [row, distance];
      });
    }
    return found;
  }

  /** The shown rows that lie in one of the polygons, in order. */
  inside(polygons) {
    const found = new Set();
    for (const polygon of polygons) {
      const [xs, ys] = [0, 1].map((side) => polygon.map((corner) => corner[side]));
      this.within(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (row) => {
        if (isInside(xs, ys, this.x[row], this.y[row])) found.add(row);
      });
    }
    return [...found].sort((one, other) => one - other);
  }
}

/** Whether a place lies in a polygon: a ray from it crosses the sides an odd number of times. */
function isInside(xs, ys, x, y) {
  let is = false;
  for (let one = 0, other = xs.length - 1; one < xs.length; other = one++) {
    const isCrossed = ys[one] > y !== ys[other] > y && x < ((xs[other] - xs[one]) * (y - ys[one])) / (ys[other] - ys[one]) + xs[one];
    if (isCrossed) is = !is;
  }
  return is;
}
