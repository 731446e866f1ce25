// Decisions on their way to the server. Each is stored in the tab until the server acknowledges it, and survives a reload. They are
// sent one after another, and wait while the server does not answer.
import { debounce } from "../shared/debounce.js";
import { decide } from "../shared/decide.js";
import { mayPass } from "../shared/retry.js";

const RETRY_MS = 3000;

const same = (a, b) => a.image === b.image && a.className === b.className;

export class Outbox {
  /** `key` names the session storage. `onSaved(job, row)`, `onConflict(job, current)` and `onChange()` are called as events occur. */
  constructor({ key, onSaved, onConflict, onChange }) {
    Object.assign(this, { key, onSaved, onConflict, onChange });
    this.jobs = this.stored();
    this.retry = debounce(() => this.send(), RETRY_MS);
    this.error = null; // why the first job could not be sent
    this.isBusy = false;
    this.idle = Promise.resolve();
  }

  /** Add a decision {image, className, label, basedOn, note, by}. It replaces one on the same label that was never sent. */
  add(job) {
    const last = this.jobs.findLastIndex((each) => same(each, job));
    if (last >= 0 && !this.jobs[last].isTried) {
      job.basedOn = this.jobs[last].basedOn;
      this.jobs.splice(last, 1);
    }
    this.jobs.push(job);
    this.changed();
    this.send();
  }

  of(entry) {
    return this.jobs.findLast((each) => same(each, entry));
  }

  /** Remove and return the last decision if it was never sent, else return null. */
  removeUnsent() {
    const last = this.jobs.at(-1);
    if (!last || last.isTried) return null;
    this.jobs.pop();
    this.changed();
    return last;
  }

  /** Remove and return the first decision, and drop later ones on the same label. */
  discard() {
    const job = this.jobs.shift();
    this.jobs = this.jobs.filter((each) => !same(each, job));
    this.error = null;
    this.changed();
    this.send();
    return job;
  }

  send() {
    this.retry.cancel();
    if (this.isBusy || !this.jobs.length) return;
    this.isBusy = true;
    this.idle = this.sendAll().finally(() => {
      this.isBusy = false;
      this.changed();
    });
  }

  async sendAll() {
    while (this.jobs.length) {
      const job = this.jobs[0];
      job.isTried = true;
      try {
        this.done(job, await decide(job));
      } catch (error) {
        if (error.status === 409) {
          this.conflict(job, error);
          continue;
        }
        this.error = error;
        if (mayPass(error)) this.retry();
        return;
      }
    }
  }

  done(job, row) {
    this.error = null;
    this.jobs.shift();
    for (const each of this.jobs) if (same(each, job)) each.basedOn = row.number;
    this.changed();
    this.onSaved(job, row);
  }

  conflict(job, error) {
    const current = error.current;
    const isOwn = current && current.label === job.label && current.reviewer === job.by && current.note === job.note;
    if (isOwn) return this.done(job, current); // it was saved, and the answer was lost
    this.error = null;
    const wanted = this.of(job);
    this.jobs = this.jobs.filter((each) => !same(each, job));
    this.changed();
    this.onConflict(wanted, current);
  }

  changed() {
    try {
      sessionStorage.setItem(this.key, JSON.stringify(this.jobs));
    } catch {
      // without storage they hold until the page is left
    }
    this.onChange();
  }

  stored() {
    try {
      return JSON.parse(sessionStorage.getItem(this.key)) ?? [];
    } catch {
      return [];
    }
  }
}
