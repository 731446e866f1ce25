// The images behind the points: as cells, as the ranking shows them.
import { fetchJson } from "../shared/api.js";
import { fillCell, makeCell } from "../ranking/cell.js";

const MAX_CACHED = 2000;

export class Images {
  /** `queryOf()` returns the query of the ranking, `hrefOf(image)` the address of its page; `settings()` {className, threshold, comparedName}. */
  constructor({ queryOf, hrefOf, settings }) {
    Object.assign(this, { queryOf, hrefOf, settings, cached: new Map() });
  }

  /** Forget what is known: another class is shown, or a decision was made. */
  clear() {
    this.cached = new Map(); // answers that are on their way are of the one before
  }

  /** The images of some rows, in this order. */
  async of(rows) {
    const { cached } = this;
    const missing = rows.filter((row) => !cached.has(row));
    if (missing.length) {
      const query = this.queryOf();
      for (const row of missing) query.append("row", row);
      const { images } = await fetchJson(`/api/map/images?${query}`);
      if (cached !== this.cached) return [];
      if (cached.size > MAX_CACHED) cached.clear();
      for (const image of images) cached.set(image.row, image);
    }
    return rows.map((row) => cached.get(row)).filter(Boolean);
  }

  /** An image as a cell of the ranking, without the mark that selects it. */
  cell(image) {
    const cell = makeCell();
    fillCell(cell, image, { ...this.settings(), href: this.hrefOf(image), isSelected: false });
    const shown = cell.querySelector("img");
    shown.src = shown.dataset.source;
    cell.lastElementChild.remove();
    return cell;
  }
}
