// The two curves of a class: precision over recall, and both over the threshold with their intervals. For ranks, the scores' distribution.
import { fetchJson } from "../shared/api.js";
import { byId, element, nameOf } from "../shared/dom.js";
import { pathOf, svg } from "../shared/svg.js";
import { drawBars } from "./bars.js";
import { drawnRuns } from "./both-runs.js";

const [WIDTH, HEIGHT] = [480, 230];
const [LEFT, RIGHT, TOP, BOTTOM] = [42, 10, 10, 38];
const NUM_DASHES = 5; // kinds of lines, as in browse/epoch_curves.py
const TICKS = [0, 0.25, 0.5, 0.75, 1];
const x = (value) => LEFT + value * (WIDTH - LEFT - RIGHT);
const y = (value) => HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM);

/**
 * Draw both charts of a slice; `at({threshold, recall, precision})` of the answer moves their marks. Draws nothing, and returns null, where
 * `isReplaced()` once their numbers are there.
 */
export async function showCharts(query, sweep, isReplaced) {
  const [{ precision_recall, histogram, scope }, others] = await Promise.all([fetchJson("/api/charts?" + query), drawnRuns(query)]);
  if (isReplaced()) return null;
  const title = (text) => `${text} ${scope}`.trim();
  const points = precision_recall.map(({ recall, precision, score }) => ({ at: recall, recall, precision, score }));
  const dot = svg("circle", { class: "mark", r: 5 });
  const rule = svg("path", { class: "mark" });
  const none = "There is no positive or no negative among these images, so there is no curve.";
  show("precision-recall", title("precision over recall"), points.length ? curve(points, dot, others) : null, none);
  if (points.length && others.length) byId("precision-recall").append(keyOf(others));
  if (sweep) show("over-threshold", title("precision and recall over the threshold"), overThreshold(sweep, rule));
  else show("over-threshold", title("distribution of scores"), bars(histogram));
  return {
    at({ threshold, recall, precision }) {
      dot.toggleAttribute("hidden", recall === null || precision === null);
      if (recall !== null && precision !== null) {
        dot.setAttribute("cx", x(recall));
        dot.setAttribute("cy", y(precision));
      }
      rule.setAttribute("d", `M${x(threshold)} ${y(0)}V${y(1)}`);
    },
  };
}

/** A heading with what is under the pointer beside it, and the chart or a sentence in its place. */
function show(id, title, chart, sentence = "") {
  const readout = element("span", { class: "readout" });
  byId(id).replaceChildren(element("p", { class: "chart-title" }, element("b", {}, title), readout), chart ?? element("p", { class: "note" }, sentence));
  chart?.addEventListener("pointermove", (event) => (readout.textContent = chart.textAt?.(event) ?? ""));
  chart?.addEventListener("pointerleave", () => (readout.textContent = ""));
}

function frame(xName, ...children) {
  const label = (value) => String(value).replace(/^0\./, ".");
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "plot", "aria-hidden": "true" },
    ...TICKS.flatMap((value) => [
      svg("path", { class: "gridline", d: `M${x(0)} ${y(value)}H${x(1)}` }),
      svg("text", { class: "tick", x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, label(value)),
      svg("text", { class: "tick", x: x(value), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, label(value)),
    ]),
    svg("text", { class: "tick", x: x(0.5), y: HEIGHT - 3, "text-anchor": "middle" }, xName),
    ...children);
}

const stepsOf = (points) => pathOf(points.flatMap(({ recall, precision }, index) =>
  index ? [[x(points[index - 1].recall), y(precision)], [x(recall), y(precision)]] : [[x(recall), y(precision)]]));

function curve(points, dot, others) {
  const chart = frame("recall", ...others.toSorted((one, other) => one.isChosen - other.isChosen).flatMap(otherCurve), svg("path", { class: "curve", d: stepsOf(points) }), dot);
  chart.textAt = (event) => {
    const nearest = nearestTo(points, valueAt(chart, event));
    return `precision ${nearest.precision.toFixed(3)}, recall ${nearest.recall.toFixed(3)} at score ${nearest.score.toFixed(3)}`;
  };
  return chart;
}

const lineOf = ({ place, isChosen }) => `line dash${(1 + place) % NUM_DASHES}${isChosen ? " chosen" : ""}`;

/** The curve of a compared run; the chosen one has a square at its own threshold. */
function otherCurve(both) {
  const { recall, precision } = both.runs[1];
  const hasMark = both.isChosen && recall !== null && precision !== null;
  return [
    svg("g", { class: lineOf(both) }, svg("path", { class: "curve", d: stepsOf(both.precision_recall) })),
    ...(hasMark ? [svg("rect", { class: "mark", x: x(recall) - 4, y: y(precision) - 4, width: 8, height: 8 })] : []),
  ];
}

/** Which line is whose. */
function keyOf(others) {
  const entry = (className, name) => {
    const line = svg("g", { class: className }, svg("path", { class: "curve", d: "M1 5H33" }));
    return element("li", {}, svg("svg", { viewBox: "0 0 34 10", class: "plot", "aria-hidden": "true" }, line), nameOf(name));
  };
  return element("ul", { class: "lines" }, entry("", "this run"), ...others.map((both) => entry(lineOf(both), both.runs[1].name)));
}

function overThreshold(sweep, rule) {
  const points = sweep.threshold.map((threshold, index) => ({ at: threshold, index }));
  const line = (name) => {
    const { value, low, high } = sweep[name];
    const defined = points.filter(({ index }) => value[index] !== null);
    const path = (values) => defined.map(({ at, index }) => [x(at), y(values[index])]);
    return [
      svg("path", { class: `band ${name}`, d: pathOf([...path(low), ...path(high).reverse()]) + "Z" }),
      svg("path", { class: `curve ${name}`, d: pathOf(path(value)) }),
    ];
  };
  const key = (name, at) => svg("text", { class: `key ${name}`, x: x(at), y: y(0.06), "text-anchor": "end" }, name);
  const chart = frame("threshold", ...line("precision"), ...line("recall"), rule, key("precision", 0.32), key("recall", 0.45));
  chart.textAt = (event) => {
    const { at, index } = nearestTo(points, valueAt(chart, event));
    const [precision, recall] = ["precision", "recall"].map((name) => sweep[name].value[index]?.toFixed(3) ?? "–");
    return `${at.toFixed(3)}: precision ${precision}, recall ${recall}`;
  };
  return chart;
}

function bars(histogram) {
  const place = svg("svg", { class: "bars-only", "aria-hidden": "true" });
  drawBars(place, histogram);
  return place;
}

function valueAt(chart, { clientX }) {
  const { left, width } = chart.getBoundingClientRect();
  return (((clientX - left) / width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
}

function nearestTo(points, value) {
  return points.reduce((best, point) => (Math.abs(point.at - value) < Math.abs(best.at - value) ? point : best), points[0]);
}
