// The bar at the foot of the page while images are selected: labels, tags, notes and exports of all of them at once.
import { fetchJson, post } from "../shared/api.js";
import { askText, askWhether } from "../shared/ask.js";
import { inTurn, requireReviewer } from "../shared/decide.js";
import { LABELS, byId, element } from "../shared/dom.js";
import { bind, notify } from "../shared/frame.js";
import { pickClass } from "../shared/pick-class.js";

const MAX_NOTE_LENGTH = 2000;
const MAX_TAG_LENGTH = 40;
const FILES = { scores: "selection.csv", dataset: "selection-labels.csv", page: "selection.html" };

const counted = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

export class SelectionBar {
  /**
   * `rankingOf()` returns the ranking of the page as the API takes it, `seen()` the rows of the review that the page shows, as
   * {based_on, later}. `onWritten(what, body)` is called after each batch.
   */
  constructor(selection, { classNames, rankingOf, seen, onWritten }) {
    Object.assign(this, { selection, classNames, rankingOf, seen, onWritten });
    this.otherClass = null; // to be labelled in place of that of the ranking
    for (const each of document.querySelectorAll("#selection [data-label]")) each.addEventListener("click", () => this.label(Number(each.dataset.label)));
    for (const each of document.querySelectorAll("#selection [data-export]")) each.addEventListener("click", () => this.save(each.dataset.export));
    byId("selection-class").addEventListener("click", () => this.chooseClass());
    byId("selection-tag").addEventListener("click", () => this.tag());
    byId("selection-note").addEventListener("click", () => this.note());
    byId("copy-ids").addEventListener("click", () => this.copyIds());
    byId("clear-selection").addEventListener("click", () => selection.clear());
    bind("#", "tag the selected images", () => this.tag());
    bind("m", "a note for the selected images", () => this.note());
  }

  get className() {
    return this.otherClass ?? this.rankingOf().class;
  }

  /** Show how many images are selected; `total` is the length of the list. */
  show(total) {
    const { num, isAll } = this.selection;
    if (!num) this.otherClass = null;
    byId("selection").hidden = !num;
    byId("num-selected").textContent = num ? `${counted(num, "image")} selected` : "";
    byId("select-all").hidden = isAll || num >= total;
    byId("select-all").textContent = `All ${total.toLocaleString("en")}`;
    byId("selection-class").querySelector("bdi").textContent = this.className;
  }

  async chooseClass() {
    const name = await pickClass(this.classNames, { title: "Label which class?", current: this.className });
    if (name) this.otherClass = name;
    byId("selection-class").querySelector("bdi").textContent = this.className;
  }

  // ---- decisions ----

  async label(value) {
    const { className } = this;
    const batch = await this.write("labels", () => ({ class_name: className, label: value, ...this.seen() }));
    if (batch) notify(`${counted(batch.num_labels, "label")} of ${className}: ${LABELS[value]}. z undoes them all.`);
  }

  async tag() {
    if (!this.selection.num) return notify("Select images first.");
    const asked = await askText({
      title: `Tag ${counted(this.selection.num, "image")}`, label: "One word", choices: ["Tag", "Remove the tag"], maxLength: MAX_TAG_LENGTH,
      suggestions: fetchJson("/api/selection/tags").then(({ tags }) => Object.keys(tags)),
    });
    if (!asked) return;
    const isOn = asked.choice === "Tag";
    const batch = await this.write("tag", () => ({ tag: asked.text, is_on: isOn }));
    if (batch) notify(`${counted(batch.num_marks, "image")} ${isOn ? "tagged" : "without the tag"}. z undoes it.`);
  }

  async note() {
    if (!this.selection.num) return notify("Select images first.");
    const title = `A note for ${counted(this.selection.num, "image")}`;
    const asked = await askText({ title, label: "In place of the notes that they have; empty removes them", choices: ["Save"], maxLength: MAX_NOTE_LENGTH, isLong: true, isNeeded: false });
    if (!asked) return;
    const batch = await this.write("note", () => ({ note: asked.text }));
    if (batch) notify(`${counted(batch.num_marks, "note")} saved. z undoes it.`);
  }

  /** Send one batch about the selection in its turn; returns the answer, or undefined where nothing was saved, which is then said. */
  write(what, bodyOf) {
    return inTurn(() => this.send(what, bodyOf()));
  }

  async send(what, body, { leaveOut = false } = {}) {
    let batch;
    try {
      const reviewer = await requireReviewer();
      if (!reviewer) return void notify("Nothing is saved: a decision needs a name.");
      const selection = this.selection.request(this.rankingOf());
      batch = await post(`/api/selection/${what}`, { selection, reviewer, ...body, ...(leaveOut ? { leave_out_conflicts: true } : {}) });
    } catch (error) {
      const numConflicts = error.status === 409 ? error.answer?.num_conflicts : 0;
      if (!numConflicts || leaveOut) return void notify(error.message);
      const text = `Nothing is saved yet: ${error.message}. They can be left as they are.`;
      const isWanted = await askWhether({ title: "Other decisions came first", text, yes: `Save the other ${(this.selection.num - numConflicts).toLocaleString("en")}` });
      if (isWanted) return this.send(what, body, { leaveOut: true });
    }
    await this.onWritten(batch && what, body).catch(() => {}); // what is saved is saved, also where the list cannot be loaded again
    return batch;
  }

  // ---- exports ----

  async text(what) {
    const response = await fetch(`/api/selection/${what}`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ selection: this.selection.request(this.rankingOf()) }),
    });
    if (response.ok) return response.blob();
    const { detail } = await response.json().catch(() => ({}));
    throw new Error(typeof detail === "string" ? detail : `refused (${response.status})`);
  }

  async save(what) {
    try {
      notify("The file is being made …");
      const address = URL.createObjectURL(await this.text(what));
      const link = element("a", { href: address, download: FILES[what] });
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
      notify(`${FILES[what]} is in your downloads.`);
    } catch (error) {
      notify(error.message);
    }
  }

  async copyIds() {
    try {
      const text = await (await this.text("ids")).text();
      await navigator.clipboard.writeText(text);
      notify(`${counted(this.selection.num, "id")} copied.`);
    } catch (error) {
      notify(`Not copied: ${error.message}`);
    }
  }
}
