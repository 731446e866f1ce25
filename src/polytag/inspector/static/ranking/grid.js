// A grid of any number of cells. Only the cells near the window are in the document, and the window itself scrolls.
import { Retry, mayPass } from "../shared/retry.js";

const PAGE = 200; // cells per request
const MAX_PAGES = 60; // in memory
const GROUP = 8; // images a request, a divisor of PAGE: one request each costs the browser more than the image
const BEYOND = 0.75; // of the window: how far there are cells beyond it
const REST_MS = 250; // after a jump, until there are
const MAX_LOADING = 3; // groups while the window moves on: a group that waits can still be dropped. After a jump, all of the window

export class Grid {
  /**
   * `load(offset, limit, signal)` returns {total, images}, `make()` an empty cell, and `fill(cell, image, index)` shows an image
   * in it: it writes the address into `data-source` of the <img>, which the grid loads when its turn comes. `loadThumbnails(images)`
   * returns addresses with the content of several in them, null where there is none; the first address then has what to show.
   * `onUnloaded(error, again)` is called when cells of the document cannot be loaded, and with null once they are; it is tried again.
   */
  constructor(list, { load, make, fill, loadThumbnails, onUnloaded }) {
    Object.assign(this, { list, load, make, fill, loadThumbnails, isTakenOver: false, isJump: false });
    this.cells = new Map(); // by index
    this.drawn = new Set(); // addresses of images that the server drew and the browser has: they appear at once
    this.left = new Map(); // cells by index whose request failed
    this.retry = new Retry({ again: () => this.again(), onState: (error) => onUnloaded(error, () => this.retry.now()) });
    this.total = 0;
    this.focused = -1;
    this.loading = 0;
    this.first = 0; // the first cell in the window
    this.update = this.update.bind(this);
    this.afterRest = this.afterRest.bind(this);
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
    const pages = this.forget();
    const answer = await this.page(Math.floor((position.index ?? 0) / PAGE));
    if (pages !== this.pages) return;
    this.total = answer.total;
    if (!this.isTakenOver) this.takeOver();
    for (const [index, cell] of this.cells) this.drop(index, cell);
    this.settle();
    this.layout();
    this.moveTo(position);
  }

  /** Show no cell, until another list is shown. */
  clear() {
    this.abort?.abort();
    this.forget();
    this.total = 0;
    this.focused = -1;
    if (!this.isTakenOver) this.takeOver();
    for (const [index, cell] of this.cells) this.drop(index, cell);
    this.settle();
    this.layout();
  }

  /**
   * Scroll so that `above` pixels of the list are above the window, or to the cell `index`, or to the top; not at all with `keep`.
   * Focus the cell `focus`, with `id` only if it shows this image.
   */
  moveTo({ above = null, index = 0, keep = false, focus = -1, id = "" }) {
    if (above !== null) scrollTo({ top: above > 0 ? scrollY + this.top() + above : 0 });
    else if (index > 0) this.scrollTo(index);
    else if (!keep && this.top() < 0) scrollTo({ top: 0 });
    this.update();
    if (focus >= 0 && focus < this.total) this.focus(focus, id);
  }

  async focus(index, id) {
    await this.page(Math.floor(index / PAGE)).catch(() => {});
    if (id && this.at(index)?.id !== id) return;
    this.focused = index;
    this.update();
    this.cells.get(index)?.querySelector("a")?.focus({ preventScroll: true });
  }

  /** Replace the cells that the server drew, once the first answer has arrived. */
  takeOver() {
    this.isTakenOver = true;
    for (const image of this.list.querySelectorAll("img")) if (image.complete && image.naturalWidth) this.drawn.add(image.getAttribute("src"));
    this.list.replaceChildren();
    this.list.classList.add("virtual");
  }

  /** Forget what is loaded; returns the pages to come. */
  forget() {
    this.part = null; // after a jump: {first, last, loading} of the window alone, which the server answers sooner than a page
    return (this.pages = new Map());
  }

  page(number) {
    if (!this.pages.has(number)) {
      if (this.pages.size >= MAX_PAGES) this.pages.delete(this.pages.keys().next().value);
      const pages = this.pages;
      const loading = this.answered(number * PAGE, PAGE);
      loading.catch(() => pages.delete(number));
      pages.set(number, loading);
    }
    return this.pages.get(number);
  }

  /** Return the promise of a part of the list, which has its `answer` once that has arrived. */
  answered(offset, limit) {
    const loading = this.load(offset, limit, this.abort.signal);
    loading.then((answer) => {
      loading.answer = answer;
      if (this.left.size) this.again(); // who answers now may answer for those as well
    }, () => {});
    return loading;
  }

  /** Load the window after a jump, unless a page of it is loaded or loading; in whole groups, as their images load together. */
  loadPart(first, last) {
    if (first >= last || this.pages.has(Math.floor(first / PAGE)) || this.pages.has(Math.floor((last - 1) / PAGE))) return;
    if (this.part && this.part.first <= first && last <= this.part.last) return;
    [first, last] = [Math.floor(first / GROUP) * GROUP, Math.ceil(last / GROUP) * GROUP];
    const part = (this.part = { first, last, loading: this.answered(first, last - first) });
    part.loading.catch(() => this.part === part && (this.part = null));
  }

  /** Return the promise of what holds the image of a cell. */
  holding(index) {
    const number = Math.floor(index / PAGE);
    return this.isInPart(index) && !this.pages.has(number) ? this.part.loading : this.page(number);
  }

  isInPart(index) {
    return Boolean(this.part) && index >= this.part.first && index < this.part.last;
  }

  /** Return the image of a cell; undefined while it is loading. */
  at(index) {
    const page = this.pages.get(Math.floor(index / PAGE))?.answer;
    if (page || !this.isInPart(index)) return page?.images[index % PAGE];
    return this.part.loading.answer?.images[index - this.part.first];
  }

  /** Return the first loaded image that passes a test. */
  find(test) {
    for (const { images } of this.answers()) {
      const found = images.find(test);
      if (found) return found;
    }
    return undefined;
  }

  /** Return the images from one index to another, both included; loads what is not there. */
  async between(first, last) {
    const found = [];
    for (let number = Math.floor(first / PAGE); number <= Math.floor(last / PAGE); number++) {
      const { images } = await this.page(number);
      found.push(...images.slice(Math.max(0, first - number * PAGE), last + 1 - number * PAGE));
    }
    return found;
  }

  /** Load the list again and fill its cells anew; the window and the focus stay where they are. */
  async reload() {
    this.abort.abort();
    this.abort = new AbortController();
    const pages = this.forget();
    const { total } = await this.page(Math.floor(this.first / PAGE));
    if (pages !== this.pages) return;
    this.total = total;
    for (const [index, element] of this.cells) {
      if (index >= total) this.drop(index, element);
      else this.fillLater(index, element);
    }
    this.layout();
  }

  /** Fill a cell as soon as what holds its image is loaded. */
  async fillLater(index, element) {
    try {
      await this.holding(index);
    } catch (error) {
      return this.leave([[index, element]], error);
    }
    this.fillIfLoaded(index, element);
    this.settle();
    queueMicrotask(() => this.loadImages()); // after all cells of the answer are filled
  }

  /** Keep cells that could not be loaded, to load them again. */
  leave(cells, error) {
    const own = cells.filter(([index, element]) => element && this.cells.get(index) === element);
    if (!own.length || error.name === "AbortError") return; // else another list is shown by now, or comes
    for (const [index, element] of own) this.left.set(index, element);
    this.retry.failed(error);
  }

  /** Load again what could not be loaded. */
  again() {
    const left = [...this.left];
    this.left.clear();
    for (const [index, element] of left) {
      if (this.at(index)) this.fillIfLoaded(index, element);
      else this.fillLater(index, element);
    }
    this.loadImages();
    if (!left.length) this.retry.done();
  }

  settle() {
    if (!this.left.size) this.retry.done();
  }

  fillIfLoaded(index, element) {
    const image = this.at(index);
    if (image && this.cells.get(index) === element) this.fill(element, image, index);
  }

  /** The answers that are loaded. */
  answers() {
    return [...this.pages.values(), this.part?.loading].map((loading) => loading?.answer).filter(Boolean);
  }

  layout() {
    if (!this.isTakenOver) return;
    const style = getComputedStyle(this.list);
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
    this.retry.soon();
    const above = -this.top();
    this.inView = [Math.floor(above / this.rowHeight) * this.columns, Math.ceil((above + innerHeight) / this.rowHeight) * this.columns];
    this.isJump = !this.showsSome(); // what is beyond the window waits until its own cells are there
    const overscan = this.isJump ? 0 : innerHeight * BEYOND;
    const first = Math.max(0, Math.floor((above - overscan) / this.rowHeight) * this.columns);
    const last = Math.min(this.total, Math.ceil((above + innerHeight + overscan) / this.rowHeight) * this.columns);
    clearTimeout(this.rest);
    if (this.isJump && first < last) this.rest = setTimeout(this.afterRest, REST_MS);
    for (const [index, element] of this.cells) {
      if ((index < first || index >= last) && index !== this.focused) this.drop(index, element);
    }
    if (this.isJump) this.loadPart(first, last);
    const fresh = document.createDocumentFragment();
    for (let index = first; index < last; index++) {
      if (!this.cells.has(index)) fresh.append(this.add(index));
    }
    this.list.append(fresh);
    for (const index of this.isJump ? [] : [first, last - 1, last + PAGE / 2, first - PAGE / 2]) {
      if (index >= 0 && index < this.total) this.page(Math.floor(index / PAGE)); // the pages of the window, and the next ones ahead of it
    }
    this.loadImages();
    this.first = Math.max(0, Math.floor(above / this.rowHeight + 0.2) * this.columns);
  }

  /** Show what is beyond the window too, once its own images are there. */
  afterRest() {
    if (this.loading) this.rest = setTimeout(this.afterRest, REST_MS);
    else this.update();
  }

  /** Whether some of the cells are in the window. */
  showsSome() {
    const [first, last] = this.inView;
    for (const index of this.cells.keys()) if (index >= first && index < last) return true;
    return false;
  }

  add(index) {
    const element = this.make();
    element.dataset.index = index;
    element.setAttribute("aria-posinset", index + 1);
    element.setAttribute("aria-setsize", this.total);
    this.position(index, element);
    this.cells.set(index, element);
    if (this.at(index)) this.fillIfLoaded(index, element);
    else this.fillLater(index, element);
    return element;
  }

  /** Load a few groups of images, those in the window first and then the nearest. So a fast scroll builds up no queue of what it has passed. */
  loadImages() {
    const free = (this.isJump ? Infinity : MAX_LOADING) - this.loading;
    if (free <= 0) return;
    const [first, last] = this.inView;
    const distances = new Map(); // of the groups that wait
    for (const [index, element] of this.cells) {
      const image = element.querySelector("img");
      if (!waits(image) || this.left.has(index)) continue;
      if (this.drawn.has(image.dataset.source)) {
        image.src = image.dataset.asked = image.dataset.source;
        continue;
      }
      const [group, distance] = [Math.floor(index / GROUP), Math.max(first - index, index - last + 1, 0)];
      distances.set(group, Math.min(distance, distances.get(group) ?? Infinity));
    }
    const nearest = [...distances].sort(([, one], [, other]) => one - other).slice(0, free);
    for (const [group] of nearest) this.loadGroup(group);
  }

  /** The same images make a group however the window came to them, so that the browser has kept the answer. */
  async loadGroup(group) {
    const wanted = []; // [image, the <img> that waits for it, if any, and its address]
    for (let index = group * GROUP; index < Math.min(this.total, (group + 1) * GROUP); index++) {
      const element = this.cells.get(index)?.querySelector("img");
      if (element && waits(element)) element.dataset.asked = element.dataset.source;
      wanted.push([this.at(index), element, element?.dataset.source]);
    }
    this.loading++;
    try {
      const images = wanted.map(([image]) => image);
      const found = images.every(Boolean) ? await this.loadThumbnails(images).catch(refused) : []; // else the list is loading again
      for (const [place, [, element, source]] of wanted.entries()) if (element?.dataset.asked) show(element, source, found[place] ?? null);
      this.settle();
    } catch (error) {
      for (const [, element, source] of wanted) if (element?.dataset.asked === source) delete element.dataset.asked; // it waits again
      this.leave(wanted.map(([, element], place) => [group * GROUP + place, element?.closest("li")]), error);
    }
    this.loading--;
    this.loadImages();
  }

  drop(index, element) {
    element.remove();
    this.cells.delete(index);
    this.left.delete(index);
  }

  /** Fill the cells in the document again; with `isStale(cell, image)`, those alone that do not show what they should. */
  refresh(isStale = () => true) {
    for (const [index, element] of this.cells) {
      const image = this.at(index);
      if (image && isStale(element, image)) this.fill(element, image, index);
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

const waits = ({ dataset }) => dataset.source && dataset.source !== dataset.asked;

/** No images, where the server refuses those of a group; other failures may pass. */
function refused(error) {
  if (mayPass(error)) throw error;
  return [];
}

/** Show what an <img> has asked for, the image of `source`; where that is nothing, the server's own answer to its address. */
function show(image, source, address) {
  if (image.dataset.asked === source && image.dataset.source === source) image.src = address ?? source; // else it waits for another image by now
}
