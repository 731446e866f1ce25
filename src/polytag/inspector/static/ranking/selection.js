// Which images are selected: some rows, or all of a filter but some. All of a million images are one flag and a number.

export class Selection {
  /** `onChange()` is called after every change. */
  constructor(onChange) {
    this.onChange = onChange;
    this.empty();
  }

  empty() {
    this.rows = new Set(); // the selected rows; with `isAll` those that are not selected
    this.isAll = false;
    this.total = 0; // of the filter, with `isAll`
  }

  get num() {
    return this.isAll ? this.total - this.rows.size : this.rows.size;
  }

  has(row) {
    return this.rows.has(row) !== this.isAll;
  }

  toggle(row) {
    this.put([row], !this.has(row));
  }

  /** Select these rows, or let go of them. */
  put(rows, isSelected = true) {
    for (const row of rows) this.rows[isSelected === this.isAll ? "delete" : "add"](row);
    this.onChange();
  }

  /** Put another set of selected rows in place of this one. */
  replace(rows) {
    this.empty();
    this.put(rows);
  }

  all(total) {
    this.empty();
    Object.assign(this, { isAll: true, total });
    this.onChange();
  }

  clear() {
    this.empty();
    this.onChange();
  }

  /** The selection as the API takes it, in a ranking. */
  request(ranking) {
    return { ranking, is_all: this.isAll, rows: [...this.rows], total: this.num };
  }
}
