// The labels to look at, in the order in which they are shown; more are asked for as the end comes near.
import { fetchJson, withParameters } from "../shared/frame.js";

const PART = 60;
const OVERLAP = 5; // entries asked for again: where none of them comes, others have decided some, and the gap is looked for
const NEAR_END = 20;

export class ReviewQueue {
  /** `asked` is {kind, class, decided}. */
  constructor(asked) {
    this.asked = asked;
    this.entries = [];
    this.known = new Map();
    this.total = 0; // of the list as the server last told
    this.isWhole = false;
  }

  get(image, className) {
    return this.known.get(image + "\n" + className);
  }

  put(entry, place = this.entries.length) {
    const key = entry.image + "\n" + entry.class_name;
    if (this.known.has(key)) return false;
    this.known.set(key, entry);
    this.entries.splice(place, 0, entry);
    return true;
  }

  /** {status, reason} of the queue; its next part is in `entries` then. */
  async more() {
    if (this.isWhole) return { status: "ready" };
    const numOpen = this.asked.decided ? this.entries.length : this.entries.filter((entry) => !entry.decision).length;
    for (let offset = Math.max(0, numOpen - OVERLAP); ; offset = Math.max(0, offset - PART + OVERLAP)) {
      const parameters = { kind: this.asked.kind, class: this.asked.class, include_decided: this.asked.decided ? "true" : null, limit: PART, offset };
      const answer = await fetchJson("/api/review/queue?" + withParameters("", parameters));
      if (answer.status !== "ready") return answer;
      this.total = answer.total;
      const numNew = answer.entries.filter((entry) => this.put(entry)).length;
      if (offset > 0 && numNew === answer.entries.length) continue; // nothing known among them
      this.isWhole = offset + answer.entries.length >= answer.total;
      return answer;
    }
  }

  /** Ask for more where few are left after this place. */
  async near(place) {
    if (this.isWhole || this.loading || this.entries.length - place > NEAR_END) return;
    this.loading = true;
    try {
      await this.more();
    } finally {
      this.loading = false;
    }
  }

  /** The place of the next entry without a decision after `place`; the length where there is none. */
  nextOpen(place, isOpen) {
    for (let next = place + 1; next < this.entries.length; next++) if (isOpen(this.entries[next])) return next;
    return this.entries.length;
  }

  /** Ask anew what is known of one label; gives its entry, which is put at `place` where it was in no list. */
  async refresh(image, className, place) {
    const { row, classes } = await fetchJson("/api/review/labels?" + new URLSearchParams({ image }));
    const found = classes.find(({ class_name }) => class_name === className);
    if (!found) return undefined;
    const entry = this.get(image, className);
    if (entry) return Object.assign(entry, { decision: found.decision, number: found.number });
    this.put({ ...found, row, image, is_counted: false }, place);
    return this.get(image, className);
  }
}
