// The decisions so far, newest first: a list that is asked for when it is unfolded.
import { fetchJson, element, withParameters } from "../shared/frame.js";
import { LABELS, when } from "../shared/labels.js";

const NUM_SHOWN = 200;

export class Past {
  constructor(details) {
    this.details = details;
    this.className = "";
    details.hidden = false;
    details.addEventListener("toggle", () => this.show());
  }

  async show() {
    if (!this.details.open) return;
    const answer = await fetchJson("/api/review/history?" + withParameters("", { class: this.className, limit: NUM_SHOWN })).catch((error) => error);
    const rows = answer.decisions ?? [];
    const empty = this.details.querySelector(".empty");
    this.details.querySelector(".scroll").hidden = !rows.length;
    empty.hidden = rows.length > 0;
    empty.textContent = answer.message ?? (this.className ? `Nothing is decided yet about ${this.className}.` : "Nothing is decided yet.");
    this.details.querySelector("tbody").replaceChildren(...rows.map(rowOf));
  }
}

function rowOf(row) {
  const back = row.undoes !== null;
  const decided = !back ? LABELS[row.label] : row.label === null ? "taken back" : `taken back: ${LABELS[row.label]}, by ${row.author}`;
  const address = "/image?" + new URLSearchParams({ class: row.class_name, id: row.image });
  return element("tr", { class: back ? "undone" : "" },
    element("td", { title: row.time }, when(row.time)), element("td", {}, element("bdi", {}, row.reviewer)),
    element("td", {}, element("a", { href: address }, element("bdi", {}, row.image))), element("td", {}, element("bdi", {}, row.class_name)),
    element("td", {}, LABELS[row.given]), element("td", {}, decided), element("td", {}, element("bdi", {}, row.note)));
}
