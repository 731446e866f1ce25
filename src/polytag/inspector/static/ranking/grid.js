// A grid of very many cells, of which only those near the window are in the document; the window itself scrolls.

const PAGE = 200; // cells asked for at once
const IMAGES = 12; // loaded at once: six connections lead to a server, and what has not begun can still be chosen anew

export class Grid {
  /** `load(offset, limit, signal)` gives {total, images}; `make()` a cell's element, `fill(element, image)` what it shows;
   *  the address of its image goes into the image's `data-source`, and is loaded when its turn has come. */
  constructor(list, { load, make, fill, onPlace }) {
    Object.assign(this, { list, load, make, fill, onPlace, isTakenOver: false });
    this.cells = new Map();
    this.total = 0;
    this.focused = -1;
    this.loading = 0;
    this.update = this.update.bind(this);
    addEventListener("scroll", this.update, { passive: true });
    new ResizeObserver(() => this.layout()).observe(list);
    list.addEventListener("focusin", (event) => {
      const cell = event.target.closest("li");
      if (cell && this.isTakenOver) this.focused = Number(cell.dataset.index);
    });
  }

  /** Show another ranking, from its first cell or from a given one. */
  async show({ from = 0, keepScroll = false } = {}) {
    this.abort?.abort();
    this.abort = new AbortController();
    const mine = (this.pages = new Map());
    const first = await this.page(Math.floor(from / PAGE));
    if (mine !== this.pages) return;
    this.total = first.total;
    if (!this.isTakenOver) this.takeOver();
    for (const [index, cell] of this.cells) this.drop(index, cell);
    this.layout();
    if (from > 0) this.scrollTo(from);
    else if (!keepScroll && this.top() < 0) scrollTo({ top: 0 });
    this.update();
  }

  /** Until the first answer is here, what the server drew stays. */
  takeOver() {
    this.isTakenOver = true;
    this.list.replaceChildren();
    this.list.classList.add("virtual");
  }

  page(number) {
    if (!this.pages.has(number)) {
      if (this.pages.size > 60) this.pages.delete(this.pages.keys().next().value);
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

  /** What is known of a cell's image; undefined while it is being loaded. */
  at(index) {
    return this.pages.get(Math.floor(index / PAGE))?.answer?.images[index % PAGE];
  }

  /** The first image that is known here and passes a test. */
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
    for (const [index, element] of this.cells) this.place(index, element);
    this.update();
  }

  place(index, element) {
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
      if (index >= 0 && index < this.total) this.page(Math.floor(index / PAGE)); // what comes next is known before it comes
    }
    this.inView = [Math.floor(above / this.rowHeight) * this.columns, Math.ceil((above + innerHeight) / this.rowHeight) * this.columns];
    this.loadImages();
    const place = Math.max(0, Math.floor(above / this.rowHeight + 0.2) * this.columns);
    if (place !== this.lastPlace) this.onPlace?.((this.lastPlace = place));
  }

  add(index) {
    const element = this.make();
    element.dataset.index = index;
    element.setAttribute("aria-posinset", index + 1);
    element.setAttribute("aria-setsize", this.total);
    this.place(index, element);
    this.cells.set(index, element);
    const loading = this.page(Math.floor(index / PAGE));
    const fill = (answer) => {
      const image = answer.images[index % PAGE];
      if (image && this.cells.get(index) === element) this.fill(element, image, index);
    };
    if (loading.answer) fill(loading.answer);
    else loading.then((answer) => {
      fill(answer);
      queueMicrotask(() => this.loadImages()); // once all cells of the answer are filled
    }, () => {});
    return element;
  }

  /** Load a few images: of the cells in the window first, then of the nearest. However fast it flies, no queue of what it passed builds up. */
  loadImages() {
    if (this.loading >= IMAGES) return;
    const [first, last] = this.inView;
    const distance = (index) => Math.max(first - index, index - last + 1, 0);
    const waiting = [];
    for (const [index, element] of this.cells) {
      const image = element.querySelector("img");
      if (image.dataset.source && image.getAttribute("src") !== image.dataset.source) waiting.push([distance(index), image]);
    }
    waiting.sort(([one], [other]) => one - other);
    for (const [, image] of waiting) {
      if (this.loading >= IMAGES) return;
      this.loadImage(image);
    }
  }

  loadImage(image) {
    image.src = image.dataset.source;
    if (image.complete) return; // the browser had it
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

  /** Fill every cell in the document anew. */
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

  /** Move the focus by so many cells; the window follows. */
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
