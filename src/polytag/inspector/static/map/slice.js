// The selected images as a slice: its own average precision with interval and chance, what they are labelled with, and the images.
import { post } from "../shared/api.js";
import { byId, element, nameOf } from "../shared/dom.js";

const STEP = 24; // images that are shown at a time
const number = (value) => (value === null ? "–" : value.toFixed(3));
const whole = (value) => value.toLocaleString("en");

export class Slice {
  /** `scoreOf(row)` orders the images, highest first. */
  constructor({ images, scoreOf }) {
    Object.assign(this, { images, scoreOf, rows: [], numShown: 0, numDraws: 0 });
    byId("more").addEventListener("click", () => this.showMore());
  }

  hide() {
    this.numDraws++;
    byId("slice").hidden = true;
  }

  /** Show the slice of these rows; `request` is the selection as the API takes it. `countOf(outcome)` counts decisions in it. */
  async show(rows, request, { className, countOf }) {
    const draw = ++this.numDraws;
    byId("slice").hidden = false;
    byId("slice-title").textContent = rows.length === 1 ? "1 image" : `${whole(rows.length)} images`;
    this.rows = rows.toSorted((one, other) => this.scoreOf(other) - this.scoreOf(one) || one - other);
    this.numShown = 0;
    byId("strip").replaceChildren();
    this.showMore();
    const found = await post("/api/selection/numbers", { selection: request }).catch((error) => ({ message: error.message }));
    if (draw !== this.numDraws) return;
    byId("slice-note").textContent = found.message ?? noteOf(found, className);
    byId("slice-numbers").replaceChildren(...(found.message ? [] : rowsOf(found, className, countOf)));
  }

  async showMore() {
    const draw = this.numDraws;
    const rows = this.rows.slice(this.numShown, this.numShown + STEP);
    this.numShown += rows.length;
    byId("more").hidden = this.numShown >= this.rows.length;
    byId("more").textContent = `${whole(this.rows.length - this.numShown)} more`;
    const images = await this.images.of(rows).catch(() => []);
    if (draw === this.numDraws) byId("strip").append(...images.map((image) => this.images.cell(image)));
  }
}

function rowsOf(found, className, countOf) {
  const interval = found.low === null ? null : element("span", { class: "soft" }, ` ${number(found.low)}–${number(found.high)}`);
  const wrong = ["false_positive", "false_negative"].map(countOf);
  const counts = [[found.num_present, "with"], [found.num_absent, "without"], [found.num_unknown, "unknown"]].filter(([count], place) => count || place < 2);
  return [
    row(["AP of ", nameOf(className)], element("b", {}, number(found.ap)), interval),
    row(["chance here"], number(found.chance)),
    row(["AP of all images"], number(found.ap_of_all)),
    row(["labels"], counts.map(([count, word]) => `${whole(count)} ${word}`).join(", ")),
    wrong.some(Boolean) ? row(["errors"], element("span", { class: "wrong" }, `${whole(wrong[0])} false positive, ${whole(wrong[1])} missed`)) : null,
    found.labels.length ? row(["labelled"], ...found.labels.flatMap(({ name, num }, place) => [place ? ", " : "", nameOf(name), ` ${whole(num)}`])) : null,
  ].filter(Boolean);
}

const row = (term, ...values) => element("div", {}, element("dt", {}, ...term), element("dd", {}, ...values));

/** What is to be known about the number. */
function noteOf({ ap, is_few, num_present, num_absent }, className) {
  if (ap === null) return `No AP: none of these images is known to be ${num_present ? "without" : num_absent ? "with" : "with or without"} ${className}.`;
  if (is_few) return `Too few positives to judge: with ${num_present}, AP is mostly chance.`;
  return "AP depends on the share of positives, so compare it with chance here. A slice drawn around errors has chosen its number.";
}
