// The decisions that are made on this page: saving, undoing, conflicts with other reviewers, and what could not be saved.
import { requireReviewer, undo, undoneText } from "../shared/decide.js";
import { byId, version } from "../shared/dom.js";
import { announce } from "../shared/frame.js";
import { Outbox } from "./outbox.js";
import { showProblems } from "./problems.js";

const keyOf = (entry) => entry.image + "\n" + (entry.className ?? entry.class_name);

export class Decisions {
  /**
   * `find(image, className)` returns an entry of the queue, if it is there. `refresh(image, className)` loads one again, and
   * `bringBack(image, className)` also shows it. `onChange()` is called when what is known of any label changes, and
   * `onSaved()` when the review itself does.
   */
  constructor({ find, refresh, bringBack, onChange, onSaved }) {
    Object.assign(this, { find, refresh, bringBack, onChange, onSaved });
    this.own = []; // numbers of this page's decisions, to be undone one by one
    this.conflicts = new Map(); // {wanted, current} by key
    this.warning = "";
    this.outbox = new Outbox({
      key: "polytag.unsaved." + version,
      onSaved: (job, row) => this.saved(job, row),
      onConflict: (job, current) => this.conflicted(job, current),
      onChange: () => {
        this.showProblems();
        this.onChange();
      },
    });
    document.addEventListener("polytag:reviewer", () => (this.own.length = 0)); // those were another reviewer's
    addEventListener("beforeunload", (event) => {
      if (this.outbox.jobs.length) event.preventDefault();
    });
  }

  /** The decision about an entry that is not saved yet. */
  jobOf(entry) {
    return this.outbox.of({ image: entry.image, className: entry.class_name });
  }

  conflictOf(entry) {
    return this.conflicts.get(keyOf(entry));
  }

  get isHalted() {
    return this.outbox.error !== null;
  }

  /** Decide about an entry; the outbox saves it in its turn. A second opinion `isBlind`: decisions of others come not in its way. */
  add(entry, label, by, { isBlind = false } = {}) {
    const note = (entry.draft ?? entry.decision?.note ?? "").trim();
    delete entry.draft;
    this.conflicts.delete(keyOf(entry));
    this.outbox.add({ image: entry.image, className: entry.class_name, label, note, by, isBlind, basedOn: entry.number });
  }

  saved(job, row) {
    this.own.push(row.number);
    const entry = this.find(job.image, job.className);
    if (entry) Object.assign(entry, { decision: row, number: row.number });
    this.settled();
  }

  conflicted(job, current) {
    if (job.isBlind && current?.author !== job.by) return this.outbox.add({ ...job, isTried: false, basedOn: current?.number ?? 0 });
    const entry = this.find(job.image, job.className);
    if (entry) Object.assign(entry, { decision: current?.label === null ? null : current, number: current?.number ?? 0 });
    this.conflicts.set(keyOf(job), { wanted: job, current });
    this.settled();
  }

  settled() {
    this.showProblems();
    this.onChange();
    this.onSaved();
  }

  // ---- undo ----

  async undoLast() {
    try {
      await this.undoUnsentOrSaved();
    } catch (error) {
      if (error.status === 409 || error.status === 404) this.own.pop();
      this.warn(undoProblem(error));
    }
  }

  async undoUnsentOrSaved() {
    const unsent = this.outbox.removeUnsent();
    if (unsent) {
      await this.bringBack(unsent.image, unsent.className);
      return announce("Undone before it was saved.");
    }
    await this.outbox.idle;
    if (this.outbox.jobs.length) return this.warn("The last decision is not saved yet, so it cannot be undone. Try again, or discard it.");
    if (!(await requireReviewer())) return;
    const row = await undo({ number: this.own.at(-1) ?? 0 });
    this.own.pop();
    if (row.batch !== undefined) {
      this.settled();
      return announce(undoneText(row));
    }
    await this.bringBack(row.image, row.class_name);
    announce(`Undone. ${byId("question").textContent}`);
    this.settled();
  }

  // ---- problems ----

  warn(text) {
    this.warning = text;
    this.showProblems();
  }

  showProblems() {
    const { jobs, error } = this.outbox;
    showProblems({ jobs, error, warning: this.warning, conflicts: [...this.conflicts.values()] }, {
      retry: () => this.outbox.send(),
      discard: () => {
        const { image, className } = this.outbox.discard();
        this.refresh(image, className).then(this.onChange, () => {});
      },
      close: () => this.warn(""),
      look: ({ wanted }) => this.bringBack(wanted.image, wanted.className),
      leave: ({ wanted }) => {
        this.conflicts.delete(keyOf(wanted));
        this.settled();
      },
    });
  }
}

function undoProblem(error) {
  if (error.status === 404) return "Nothing is left to undo.";
  if (error.status !== 409) return `Nothing is undone: ${error.message}`;
  const { current } = error.answer;
  return current ? `Not undone: ${current.reviewer} decided about ${current.class_name} in ${current.image} since.` : "Not undone: it was undone before.";
}
