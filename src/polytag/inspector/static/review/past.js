// The decisions so far, newest first. They are loaded when the list is unfolded.
import { pageAddress, withParameters } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";
import { LABELS, element } from "../shared/dom.js";
import { timeText } from "../shared/decide.js";

const LIMIT = 200;

export class PastDecisions {
  constructor(details) {
    this.details = details;
    this.className = "";
    details.hidden = false;
    details.addEventListener("toggle", () => this.show());
  }

  async show() {
    if (!this.details.open) return;
    const answer = await fetchJson("/api/review/history?" + withParameters("", { class: this.className, limit: LIMIT })).catch((error) => error);
    const rows = answer.decisions ?? [];
    const empty = this.details.querySelector(".empty");
    this.details.querySelector(".scroll").hidden = !rows.length;
    empty.hidden = rows.length > 0;
    empty.textContent = answer.message ?? (this.className ? `Nothing is decided yet about ${this.className}.` : "Nothing is decided yet.");
    this.details.querySelector("tbody").replaceChildren(...rows.map(rowOf));
  }
}

function rowOf(row) {
  const isUndo = row.undoes !== null;
  const decided = !isUndo ? LABELS[row.label] : row.label === null ? "undone" : `undone: ${LABELS[row.label]}, by ${row.author}`;
  const address = pageAddress("/image", { class: row.class_name, id: row.image });
  return element("tr", { class: isUndo ? "undone" : "" },
    element("td", { title: row.time }, timeText(row.time)), element("td", {}, element("bdi", {}, row.reviewer)),
    element("td", {}, element("a", { href: address }, element("bdi", {}, row.image))), element("td", {}, element("bdi", {}, row.class_name)),
    element("td", {}, LABELS[row.given]), element("td", {}, decided), element("td", {}, element("bdi", {}, row.note)));
}
