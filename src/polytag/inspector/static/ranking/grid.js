// A grid of any number of cells. Only the cells near the window are in the document, and the window itself scrolls.

const PAGE = 200; // cells per request
const MAX_PAGES = 60; // in memory
const MAX_LOADING = 12; // images: a browser opens six connections to a server, and an image that waits can still be dropped

export class Grid {
  /**
   * `load(offset, limit, signal)` returns {total, images}, `make()` an empty cell, and `fill(cell, image, index)` shows an image
   * in it: it writes the address into `data-source` of the <img>, which the grid loads when its turn comes.
   */
  constructor(list, { load, make, fill }) {
    Object.assign(this, { list, load, make, fill, isTakenOver: false });
    this.cells = new Map(); // by index
    this.total = 0;
    this.focused = -1;
    this.loading = 0;
    this.first = 0; // the first cell in the window
    this.update = this.update.bind(this);
    addEventListener("scroll", this.update, { passive: true });
    new ResizeObserver(() => this.layout()).observe(list);
    list.addEventListener("focusin", (event) => {
      const cell = event.target.closest("li");
      if (cell && this.isTakenOver) this.focused = Number(cell.dataset.index);
    });
  }

  /** Load another list and show it at a position, as `moveTo` does. */
  async show(position = {}) {
    this.abort?.abort();
    this.abort = new AbortController();
    const pages = (this.pages = new Map());
    const answer = await this.page(Math.floor((position.index ?? 0) / PAGE));
    if (pages !== this.pages) return;
    this.total = answer.total;
    if (!this.isTakenOver) this.takeOver();
    for (const [index, cell] of this.cells) this.drop(index, cell);
    this.layout();
    this.moveTo(position);
  }

  /** Scroll so that `above` pixels of the list are above the window, or to the cell `index`, or to the top; not at all with `keep`. */
  moveTo({ above = null, index = 0, keep = false }) {
    if (above !== null) scrollTo({ top: above > 0 ? scrollY + this.top() + above : 0 });
    else if (index > 0) this.scrollTo(index);
    else if (!keep && this.top() < 0) scrollTo({ top: 0 });
    this.update();
  }

  /** Replace the cells that the server drew, once the first answer has arrived. */
  takeOver() {
    this.isTakenOver = true;
    this.list.replaceChildren();
    this.list.classList.add("virtual");
  }

  page(number) {
    if (!this.pages.has(number)) {
      if (this.pages.size >= MAX_PAGES) this.pages.delete(this.pages.keys().next().value);
      const pages = this.pages;
      const loading = this.load(number * PAGE, PAGE, this.abort.signal).catch((error) => {
        pages.delete(number);
        throw error;
      });
      loading.then((answer) => (loading.answer = answer), () => {});
      pages.set(number, loading);
    }
    return this.pages.get(number);
  }

  /** Return the image of a cell; undefined while it is loading. */
  at(index) {
    return this.pages.get(Math.floor(index / PAGE))?.answer?.images[index % PAGE];
  }

  /** Return the first loaded image that passes a test. */
  find(test) {
    for (const { answer } of this.pages.values()) {
      const found = answer?.images.find(test);
      if (found) return found;
    }
    return undefined;
  }

  layout() {
    if (!this.isTakenOver) return;
    const style = getComputedStyle(document.documentElement);
    const length = (name) => parseFloat(style.getPropertyValue(name));
    const [cell, gap] = [length("--cell"), length("--gap")];
    const width = this.list.clientWidth;
    this.columns = Math.max(1, Math.floor((width + gap) / (cell + gap)));
    this.cellWidth = (width - gap * (this.columns - 1)) / this.columns;
    this.rowHeight = this.cellWidth + length("--caption") + gap;
    this.gap = gap;
    this.list.style.height = Math.ceil(this.total / this.columns) * this.rowHeight + "px";
    for (const [index, element] of this.cells) this.position(index, element);
    this.update();
  }

  position(index, element) {
    const row = Math.floor(index / this.columns);
    element.style.width = this.cellWidth + "px";
    element.style.transform = `translate(${(index % this.columns) * (this.cellWidth + this.gap)}px, ${row * this.rowHeight}px)`;
  }

  top() {
    return this.list.getBoundingClientRect().top;
  }

  update() {
    if (!this.pages || !this.columns) return;
    const above = -this.top();
    const overscan = innerHeight * 0.75;
    const first = Math.max(0, Math.floor((above - overscan) / this.rowHeight) * this.columns);
    const last = Math.min(this.total, Math.ceil((above + innerHeight + overscan) / this.rowHeight) * this.columns);
    for (const [index, element] of this.cells) {
      if ((index < first || index >= last) && index !== this.focused) this.drop(index, element);
    }
    const fresh = document.createDocumentFragment();
    for (let index = first; index < last; index++) {
      if (!this.cells.has(index)) fresh.append(this.add(index));
    }
    this.list.append(fresh);
    for (const index of [last + PAGE / 2, first - PAGE / 2]) {
      if (index >= 0 && index < this.total) this.page(Math.floor(index / PAGE)); // load the next page ahead of the window
    }
    this.inView = [Math.floor(above / this.rowHeight) * this.columns, Math.ceil((above + innerHeight) / this.rowHeight) * this.columns];
    this.loadImages();
    this.first = Math.max(0, Math.floor(above / this.rowHeight + 0.2) * this.columns);
  }

  add(index) {
    const element = this.make();
    element.dataset.index = index;
    element.setAttribute("aria-posinset", index + 1);
    element.setAttribute("aria-setsize", this.total);
    this.position(index, element);
    this.cells.set(index, element);
    const loading = this.page(Math.floor(index / PAGE));
    const fill = (answer) => {
      const image = answer.images[index % PAGE];
      if (image && this.cells.get(index) === element) this.fill(element, image, index);
    };
    if (loading.answer) fill(loading.answer);
    else loading.then((answer) => {
      fill(answer);
      queueMicrotask(() => this.loadImages()); // after all cells of the answer are filled
    }, () => {});
    return element;
  }

  /** Load a few images, those in the window first and then the nearest. So a fast scroll builds up no queue of what it has passed. */
  loadImages() {
    if (this.loading >= MAX_LOADING) return;
    const [first, last] = this.inView;
    const distance = (index) => Math.max(first - index, index - last + 1, 0);
    const waiting = [];
    for (const [index, element] of this.cells) {
      const image = element.querySelector("img");
      if (image.dataset.source && image.getAttribute("src") !== image.dataset.source) waiting.push([distance(index), image]);
    }
    waiting.sort(([one], [other]) => one - other);
    for (const [, image] of waiting) {
      if (this.loading >= MAX_LOADING) return;
      this.loadImage(image);
    }
  }

  loadImage(image) {
    image.src = image.dataset.source;
    if (image.complete) return; // from the cache of the browser
    this.loading++;
    image.onload = image.onerror = () => {
      image.onload = image.onerror = null;
      this.loading--;
      this.loadImages();
    };
  }

  drop(index, element) {
    element.remove();
    this.cells.delete(index);
  }

  /** Fill every cell in the document again. */
  refresh() {
    for (const [index, element] of this.cells) {
      const image = this.at(index);
      if (image) this.fill(element, image, index);
    }
    if (this.inView) this.loadImages();
  }

  scrollTo(index) {
    const tools = document.querySelector(".tools");
    const covered = tools && getComputedStyle(tools).position === "sticky" ? tools.offsetHeight : 0;
    scrollTo({ top: scrollY + this.top() + Math.floor(index / this.columns) * this.rowHeight - covered - 8 });
    this.update();
  }

  /** Move the focus by a number of cells; the window follows. */
  move(step) {
    const visible = Math.max(0, Math.floor(-this.top() / this.rowHeight) * this.columns);
    const wanted = this.focused < 0 ? visible : Math.min(this.total - 1, Math.max(0, this.focused + step));
    if (!this.total) return;
    this.focused = wanted;
    const top = this.top() + Math.floor(wanted / this.columns) * this.rowHeight;
    if (top < 120 || top + this.rowHeight > innerHeight) this.scrollTo(Math.max(0, wanted - (step > 0 ? this.columns : 0)));
    this.update();
    this.cells.get(wanted)?.querySelector("a")?.focus({ preventScroll: true });
  }
}
