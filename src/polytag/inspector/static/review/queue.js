// The labels to review, in the order in which the page shows them. The next part is loaded as the end comes near.
import { withParameters } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";

const PART = 60;
const OVERLAP = 5; // entries loaded again: where none of them is known, other reviewers have decided some, and the gap is loaded
const NEAR_END = 20;

export class ReviewQueue {
  /** `filters` is {kind, order, class, decided}, and the `reviewer` who gives second opinions, else "". */
  constructor(filters) {
    this.filters = filters;
    this.entries = [];
    this.byKey = new Map();
    this.total = 0; // of the list, by the last answer of the server
    this.isWhole = false;
  }

  get(image, className) {
    return this.byKey.get(image + "\n" + className);
  }

  indexOf(entry) {
    return this.entries.indexOf(entry);
  }

  put(entry, index = this.entries.length) {
    const key = entry.image + "\n" + entry.class_name;
    if (this.byKey.has(key)) return false;
    this.byKey.set(key, entry);
    this.entries.splice(index, 0, entry);
    return true;
  }

  /** The entries that are in the list of the server. */
  numListed() {
    return this.filters.decided ? this.entries.length : this.entries.filter((entry) => !entry.decision).length;
  }

  /** Load the next part into `entries`; returns the {status, reason} of the queue. */
  async more() {
    if (this.isWhole) return { status: "ready" };
    const { kind, order, class: className, decided, reviewer } = this.filters;
    let isEnd = false;
    for (let offset = Math.max(0, this.numListed() - OVERLAP); ; offset = Math.max(0, offset - PART + OVERLAP)) {
      const parameters = { kind, order, class: className, include_decided: decided ? "true" : null, reviewer: reviewer || null, limit: PART, offset };
      const answer = await fetchJson("/api/review/queue?" + withParameters("", parameters));
      if (answer.status !== "ready") return answer;
      this.total = answer.total;
      const numNew = answer.entries.filter((entry) => this.put(entry)).length;
      isEnd ||= offset + answer.entries.length >= answer.total;
      const isShort = isEnd && this.numListed() < answer.total; // the order by mAP changes with the decisions
      if (offset > 0 && (numNew === answer.entries.length || isShort)) continue; // no overlap: load the part before it
      this.isWhole = isEnd;
      return answer;
    }
  }

  /** Load more where few entries are left after this index. */
  async loadAhead(index) {
    if (this.isWhole || this.isLoading || this.entries.length - index > NEAR_END) return;
    this.isLoading = true;
    try {
      await this.more();
    } finally {
      this.isLoading = false;
    }
  }

  /** Return the index of the next entry after `index` that passes a test; the length where there is none. */
  next(index, isOpen) {
    const found = this.entries.findIndex((entry, each) => each > index && isOpen(entry));
    return found < 0 ? this.entries.length : found;
  }

  /**
   * Load the decision about one label again, for a second opinion only where the reviewer has given one. Returns its entry, which is
   * inserted at `index` where the list lacks it.
   */
  async refresh(image, className, index) {
    const { row, classes } = await fetchJson("/api/review/labels?" + withParameters("", { image, reviewer: this.filters.reviewer || null }));
    const found = classes.find(({ class_name }) => class_name === className);
    if (!found) return undefined;
    const entry = this.get(image, className);
    if (entry) return Object.assign(entry, { decision: found.decision, number: found.number });
    this.put({ ...found, row, image, is_counted: false }, index);
    return this.get(image, className);
  }
}
