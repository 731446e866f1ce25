// The scores of a class as slider, filter and map of the list. Drag the line: the threshold. Drag elsewhere: only these scores.
// A click moves the line. The strip at the foot shows which scores are in the window; press it to go there.
import { byId } from "../shared/dom.js";
import { svg } from "../shared/svg.js";
import { drawBars, HEIGHT, WIDTH } from "./bars.js";

const GRAB_PX = 9; // how near the line is pressed to be dragged
const BRUSH_PX = 4; // a shorter drag is a click

export class ScoreMap {
  /** `onMove(threshold)`, `onBrush([low, high])` once a range is brushed, and `onPlace(score)` where the strip is pressed. */
  constructor({ onMove, onBrush, onPlace }) {
    Object.assign(this, { onMove, onBrush, onPlace, drag: null, threshold: 0.5 });
    this.place = byId("scores");
    this.marks = Object.fromEntries(["safe", "brushed", "seen"].map((name) => [name, svg("rect", { class: name, height: HEIGHT })]));
    this.line = svg("path", { class: "threshold" });
    byId("living").hidden = byId("scores-legend").hidden = false;
    byId("living").addEventListener("pointerdown", (event) => this.begin(event));
    byId("living").addEventListener("pointermove", (event) => this.move(event));
    byId("living").addEventListener("pointerup", (event) => this.end(event));
    byId("living").addEventListener("pointercancel", () => (this.drag = null));
    byId("places").addEventListener("pointerdown", (event) => this.onPlace(this.valueAt(event)));
    byId("places").addEventListener("pointermove", (event) => event.buttons && this.onPlace(this.valueAt(event)));
  }

  /** Draw the bars of a class from the counts above every threshold. */
  draw({ threshold, present, absent }) {
    const edges = Array.from({ length: 101 }, (_, bin) => threshold.findIndex((value) => value >= bin / 100 - 1e-9));
    const binned = (above) => edges.slice(0, -1).map((from, bin) => above[from] - (bin === 99 ? 0 : above[edges[bin + 1]]));
    drawBars(this.place, { present: binned(present), absent: binned(absent) });
    this.place.prepend(this.marks.safe, this.marks.brushed);
    this.place.append(this.line);
  }

  at(threshold) {
    this.threshold = threshold;
    this.line.setAttribute("d", `M${WIDTH * threshold} 0V${HEIGHT}`);
  }

  /** Shade the thresholds at which a goal is guaranteed, or the scores that the list is limited to; null for none. */
  shade(name, range) {
    const [low, high] = range ?? [0, 0];
    this.marks[name].setAttribute("x", WIDTH * low);
    this.marks[name].setAttribute("width", WIDTH * Math.max(0, high - low));
  }

  /** Show between which scores the images in the window lie; null where the list is in another order. */
  see(range) {
    byId("places").toggleAttribute("hidden", range === null); // SVG has no such property
    if (!range) return;
    const [low, high] = range;
    byId("seen").setAttribute("x", WIDTH * low);
    byId("seen").setAttribute("width", Math.max(4, WIDTH * (high - low)));
  }

  valueAt({ clientX }) {
    const { left, width } = byId("living").getBoundingClientRect();
    return Math.min(1, Math.max(0, (clientX - left) / width));
  }

  begin(event) {
    if (event.button) return;
    const { left, width } = byId("living").getBoundingClientRect();
    const isLine = Math.abs(event.clientX - left - width * this.threshold) <= GRAB_PX;
    this.drag = { x: event.clientX, from: this.valueAt(event), isLine, range: null };
    byId("living").setPointerCapture(event.pointerId);
  }

  move(event) {
    if (!this.drag) return;
    const value = this.valueAt(event);
    if (this.drag.isLine) return this.onMove(value);
    if (!this.drag.range && Math.abs(event.clientX - this.drag.x) < BRUSH_PX) return;
    this.drag.range = [Math.min(value, this.drag.from), Math.max(value, this.drag.from)];
    this.shade("brushed", this.drag.range);
  }

  end(event) {
    const drag = this.drag;
    this.drag = null;
    if (drag?.range) this.onBrush(drag.range.map((value) => Math.round(value * 1000) / 1000));
    else if (drag && !drag.isLine) this.onMove(this.valueAt(event));
  }
}
