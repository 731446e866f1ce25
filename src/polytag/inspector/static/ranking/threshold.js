// The threshold of a class: its scores as a slider, its number, and the counts and proportions at it, which the server has
// computed for every threshold.
import { withParameters } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";
import { byId, element, words } from "../shared/dom.js";
import { ScoreMap } from "./score-map.js";
import { round } from "./state.js";

export class ThresholdPanel {
  /** `onMove(threshold)` is called while the threshold is moved; null stands for the class's own. `onKeep(threshold)` to save it. ScoreMap has the others. */
  constructor({ onMove, onBrush, onPlace, onKeep }) {
    this.sweep = null; // the answer of /api/thresholds
    Object.assign(this, { onMove, onKeep });
    this.scores = new ScoreMap({ onMove: (value) => this.move(value), onBrush, onPlace });
    byId("slider").addEventListener("input", (event) => this.move(event.target.value / 1000));
    byId("threshold").addEventListener("change", ({ target }) => this.move(target.value === "" ? null : Number(target.value)));
    byId("own").addEventListener("click", () => this.onMove(null));
    byId("keep")?.addEventListener("click", () => this.onKeep(this.threshold));
  }

  /** The numbers of a slice, of a class and filters, at every threshold of the slider, and `also` at this one. */
  load(query, also = null) {
    return fetchJson("/api/thresholds?" + withParameters(query, { also }));
  }

  get own() {
    return this.sweep.own_threshold;
  }

  /** Move to a threshold; null is the class's own. */
  move(value) {
    if (this.sweep && !Number.isNaN(value)) this.onMove(value === null ? null : this.nearest(value));
  }

  /** Return the highest threshold of the sweep that is not above `wanted`, or null for the class's own. */
  nearest(wanted) {
    const threshold = this.sweep.threshold[this.indexOf(Math.min(1, Math.max(0, wanted)))];
    return threshold === this.own ? null : threshold;
  }

  /** The index of a threshold of the sweep, or of the next one below; a sum such as 0.56 + 0.01 may miss it by its rounding. */
  indexOf(wanted) {
    const exact = this.sweep.threshold.indexOf(wanted);
    if (exact >= 0) return exact;
    return Math.max(0, this.sweep.threshold.findLastIndex((threshold) => threshold <= wanted * (1 + 1e-9)));
  }

  /** Number of images that count as predicted at a threshold. */
  numAbove(threshold) {
    const index = this.indexOf(threshold);
    return this.sweep.present[index] + this.sweep.absent[index] + this.sweep.unknown[index];
  }

  /** Show a threshold and its numbers; returns the point of the curves: {threshold, recall, precision}. */
  show(threshold) {
    const slider = byId("slider");
    slider.disabled = false;
    if (Math.abs(slider.value - 1000 * threshold) > 0.5) slider.value = Math.round(1000 * threshold);
    const field = byId("threshold");
    if (field.value === "" || Number(field.value) !== round(threshold)) field.value = round(threshold);
    byId("own").hidden = threshold === this.own;
    if (byId("keep")) byId("keep").hidden = threshold === this.own;
    this.threshold = threshold;
    this.scores.at(threshold);
    const index = this.indexOf(threshold);
    byId("numbers").replaceChildren(...this.numbers(index));
    return { threshold, recall: this.sweep.recall.value[index], precision: this.sweep.precision.value[index] };
  }

  numbers(index) {
    const { threshold, present, absent, unknown, num_present, precision, recall, tail_accuracy } = this.sweep;
    const isBelowOwn = threshold[index] < this.own; // from the own threshold up the tail accuracy is the precision
    return [
      proportion("precision", precision, index),
      proportion("recall", recall, index),
      proportion("tail accuracy", tail_accuracy, index, { hasInterval: isBelowOwn }),
      count(present[index] + absent[index] + unknown[index], "above"),
      count(present[index], `${words.filter.true_positive}s`),
      count(absent[index], `${words.filter.false_positive}s`),
      count(num_present - present[index], words.filter.false_negative),
      ...(unknown[index] ? [count(unknown[index], "unknown above")] : []),
    ];
  }
}

function proportion(name, { value, low, high }, index, { hasInterval = true } = {}) {
  const isDefined = value[index] !== null;
  const interval = isDefined && hasInterval ? ` ${low[index].toFixed(2)}–${high[index].toFixed(2)}` : "";
  return element("span", {}, name + " ", element("b", {}, isDefined ? value[index].toFixed(3) : "–"), interval);
}

function count(number, text) {
  return element("span", {}, element("b", {}, number.toLocaleString("en")), " " + text);
}
