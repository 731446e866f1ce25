// The ranked images of a class: everything that is shown stands in the address, and everything in the address can be changed here.
import { fetchJson, bind, element, announce, sign, notify, version, withParameters } from "../shared/frame.js";
import { Grid } from "./grid.js";
import { LABELS, decide, undo } from "../shared/labels.js";
import { showCharts } from "./charts.js";

const $ = (id) => document.getElementById(id);
const form = $("asked");
const OUTCOMES = {
  true_positive: "right", true_negative: "right", false_positive: "false positive", false_negative: "missed", unknown: "unknown", undecided: "",
};
const TRUTHS = { 1: "labelled with it", 0: "labelled without it", "-1": "label unknown" };
const run = await fetchJson("/api/run");
let operating = null; // counts at every threshold of the class
let charts = null;
let threshold = Number($("threshold")?.value ?? 0.5);

// ---- the address ----

function parameters() {
  const asked = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value !== "" && !(name === "min_labels" && value === "0")) asked.append(name, value);
  if (!asked.get("column")) ["column", "value"].forEach((name) => asked.delete(name));
  if (asked.get("sort") === "score") asked.delete("sort");
  if (asked.get("order") === "desc") asked.delete("order");
  if (operating && Number(asked.get("threshold")) === round(operating.own_threshold)) asked.delete("threshold");
  return asked;
}

const round = (value) => Math.round(value * 1e6) / 1e6;

let offset = Number(new URLSearchParams(location.search).get("offset") ?? 0);

function remember({ push = false } = {}) {
  const asked = parameters();
  if (offset > 0) asked.set("offset", offset);
  const address = "/ranking?" + asked;
  if (address === location.pathname + location.search) return; // writing it anew would stop a step back that has begun
  if (push) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

// ---- the grid ----

const grid = new Grid($("grid"), {
  async load(offset, limit, signal) {
    const answer = await fetchJson("/api/ranking?" + withParameters(parameters(), { threshold, offset, limit }), { signal });
    return answer;
  },
  make() {
    const link = element("a", { class: "cell" },
      element("span", { class: "frame" }, element("img", { alt: "", decoding: "async" })),
      element("span", { class: "caption" }, element("span", { class: "score" }), element("span", { class: "outcome" })),
      element("span", { class: "caption id" }), element("span", { class: "sr" }));
    return element("li", {}, link);
  },
  fill(cell, image, index) {
    const outcome = outcomeNow(image);
    const link = cell.firstChild;
    link.className = `cell ${outcome}` + (outcome === "false_negative" || outcome === "true_negative" ? " below" : "");
    link.href = "/image?" + withParameters(parameters(), { class: $("class").value, id: image.id, offset: index });
    const [frame, caption, id, told] = link.children;
    const img = frame.firstChild;
    img.dataset.source = `/thumbnails/${image.row}?v=${version}`;
    frame.querySelector(".sign")?.remove();
    frame.append(sign(image.truth));
    frame.querySelector(".reviewed")?.remove();
    if (image.reviewed !== null) frame.append(element("span", { class: "reviewed" }, `reviewed: ${LABELS[image.reviewed]}`));
    caption.firstChild.textContent = image.text;
    caption.lastChild.textContent = OUTCOMES[outcome];
    id.textContent = image.value === null ? image.id : `${image.value.toFixed(2)} · ${image.id}`;
    link.title = image.id + (image.compared === null ? "" : `\n${run.compared}: ${image.compared.toFixed(3)}`);
    told.textContent = ", " + TRUTHS[image.truth];
  },
  onPlace(place) {
    offset = place;
    clearTimeout(grid.remembering);
    grid.remembering = setTimeout(remember, 150);
  },
});

function outcomeNow({ truth, probability }) {
  if (truth === -1) return "unknown";
  if (probability === null) return "undecided";
  const above = probability > threshold;
  return truth === 1 ? (above ? "true_positive" : "false_negative") : above ? "false_positive" : "true_negative";
}

async function show({ from = 0, push = false, keepScroll = false } = {}) {
  if (!keepScroll) offset = from;
  busy();
  remember({ push });
  try {
    await grid.show({ from, keepScroll });
  } catch (error) {
    if (error.name === "AbortError") return;
    $("grid").removeAttribute("aria-busy");
    return tell(error.message);
  }
  $("grid").removeAttribute("aria-busy");
  $("total").textContent = grid.total.toLocaleString("en");
  tell(grid.total ? "" : "No image passes these filters.");
  announce(`${grid.total} images`);
}

function busy() {
  $("grid").setAttribute("aria-busy", "true");
}

function tell(text) {
  let place = $("empty");
  if (!place) $("grid").after((place = element("p", { class: "empty", id: "empty" })));
  place.textContent = text;
  place.hidden = !text;
}

// ---- the threshold ----

const slider = $("slider");

/** The place of the last threshold of the grid that is not above the wanted one. */
function stepOf(wanted) {
  let low = 0, high = operating.threshold.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (operating.threshold[middle] <= wanted + 1e-9) low = middle;
    else high = middle - 1;
  }
  return low;
}

function wilson(right, tried) {
  if (!tried) return null;
  const z = 1.959963984540054, share = right / tried, d = 1 + (z * z) / tried;
  const centre = (share + (z * z) / (2 * tried)) / d, half = (z / d) * Math.sqrt((share * (1 - share)) / tried + (z * z) / (4 * tried * tried));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

function figure(name, value, interval) {
  const text = value === null || Number.isNaN(value) ? "–" : value.toFixed(3);
  const spread = interval ? ` ${interval[0].toFixed(2)}–${interval[1].toFixed(2)}` : "";
  return element("span", {}, name + " ", element("b", {}, text), spread);
}

function showNumbers() {
  const step = stepOf(threshold);
  const { present, absent, unknown, tail_right, num_present, own_threshold } = operating;
  const [tp, fp, open] = [present[step], absent[step], unknown[step]];
  const known = tp + fp;
  const count = (number, text) => element("span", {}, element("b", {}, number.toLocaleString("en")), " " + text);
  $("numbers").replaceChildren(
    figure("precision", known ? tp / known : null, wilson(tp, known)),
    figure("recall", num_present ? tp / num_present : null, wilson(tp, num_present)),
    figure("tail accuracy", known ? tail_right[step] / known : null, threshold < own_threshold ? wilson(tail_right[step], known) : null),
    count(known + open, "above"), count(tp, "true positives"), count(fp, "false positives"), count(num_present - tp, "false_negative"),
    ...(open ? [count(open, "unknown above")] : []),
  );
  charts?.at({ threshold, recall: num_present ? tp / num_present : null, precision: known ? tp / known : null });
}

/** Move the line: numbers and frames at once, the list itself when it depends on decisions. */
function setThreshold(value, { fromSlider = false } = {}) {
  if (!operating || Number.isNaN(value)) return;
  const wanted = Math.min(1, Math.max(0, value));
  threshold = operating.threshold[stepOf(wanted)];
  $("threshold").value = round(threshold);
  if (!fromSlider) slider.value = Math.round(1000 * threshold);
  $("own").hidden = threshold === operating.own_threshold;
  showNumbers();
  grid.refresh();
  const parameters_ = parameters();
  clearTimeout(setThreshold.later);
  setThreshold.later = setTimeout(() => {
    if (parameters_.has("outcome") || parameters_.has("disagree")) show({ keepScroll: true });
    remember();
  }, 60);
}

async function loadOperating() {
  if (!slider) return;
  operating = await fetchJson("/api/operating?" + new URLSearchParams({ class: $("class").value }));
  slider.disabled = false;
  const asked = new URLSearchParams(location.search).get("threshold");
  setThreshold(asked === null ? operating.own_threshold : Number(asked));
}

slider?.addEventListener("input", () => setThreshold(slider.value / 1000, { fromSlider: true }));
$("threshold")?.addEventListener("change", (event) => setThreshold(Number(event.target.value)));
$("own")?.addEventListener("click", () => setThreshold(operating.own_threshold));

// ---- another class, order or filter ----

async function anotherClass() {
  busy();
  document.title = document.title.replace(/^[^·]*/, $("class").value + " ");
  const parameters_ = parameters();
  parameters_.delete("threshold");
  offset = 0;
  history.pushState(null, "", "/ranking?" + parameters_);
  await loadOperating();
  await Promise.all([show(), loadCharts(), loadAp()]);
}

async function loadAp() {
  const { classes } = await fetchJson("/api/classes");
  const found = classes.find(({ name }) => name === $("class").value);
  $("ap").textContent = found?.ap == null ? "–" : found.ap.toFixed(3);
}

function fillValues() {
  const values = run.columns[$("column").value] ?? [];
  $("value").replaceChildren(...(values.length ? values.map((value) => element("option", {}, value)) : [element("option", { value: "" }, "–")]));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  show({ push: true });
});
/** One select more than there are chosen classes, so that another can be added. */
function oneMore(select) {
  const all = [...select.parentElement.querySelectorAll("select")];
  for (const each of all.slice(0, -1)) if (!each.value) each.remove();
  const last = all.at(-1);
  if (!last.value) return;
  const another = last.cloneNode(true);
  another.value = "";
  listen(another);
  last.after(another);
}

function listen(input) {
  if (input.id === "threshold" || input.type === "button" || input.type === "submit") return;
  input.addEventListener(input.type === "search" || input.type === "number" ? "input" : "change", () => {
    if (input.id === "class") return anotherClass();
    if (input.id === "column") fillValues();
    if (input.name === "present" || input.name === "absent") oneMore(input);
    busy();
    clearTimeout(form.later);
    form.later = setTimeout(() => show({ push: input.type !== "search" && input.type !== "number" }), input.type === "search" ? 150 : 0);
  });
}
for (const input of form.elements) listen(input);

addEventListener("popstate", () => location.reload());

// ---- curves and filters ----

async function loadCharts() {
  if ($("curves").hidden) return;
  charts = await showCharts($("class").value);
  if (operating) showNumbers();
}

function toggle(button, panel) {
  panel.hidden = !panel.hidden;
  button.setAttribute("aria-expanded", String(!panel.hidden));
}

$("filters").hidden = "folded" in $("filters").dataset;
for (const id of ["show-curves", "show-filters"]) $(id).hidden = false;
$("show-filters").addEventListener("click", () => toggle($("show-filters"), $("filters")));
$("show-curves").addEventListener("click", () => {
  toggle($("show-curves"), $("curves"));
  loadCharts();
});

// ---- keys ----

function order(direction) {
  $("sort").value = "score";
  $("order").value = direction;
  show({ push: true });
}

function stepClass(step) {
  const select = $("class");
  select.selectedIndex = (select.selectedIndex + step + select.length) % select.length;
  anotherClass();
}

bind("t", "the top: highest scores first", () => order("desc"));
bind("b", "the bottom: lowest scores first", () => order("asc"));
bind(["[", "]"], "the class before, the next class", (event) => stepClass(event.key === "]" ? 1 : -1));
if (slider) {
  bind([",", "."], "threshold down, up", (event) => setThreshold(threshold + (event.key === "." ? 0.01 : -0.01)));
  bind("l", "go to the line: the first image below the threshold", () => {
    if ($("sort").value !== "score") return;
    const step = stepOf(threshold);
    const above = operating.present[step] + operating.absent[step] + operating.unknown[step];
    grid.focused = -1;
    grid.scrollTo(Math.max(0, ($("order").value === "desc" ? above : grid.total - above) - grid.columns));
  });
}
bind(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "move between images; enter opens one", (event) => {
  grid.move({ ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns }[event.key]);
});
bind("Home", "the first image", () => {
  grid.focused = -1;
  scrollTo({ top: 0 });
});
bind("f", "filters", () => $("show-filters").click());
bind("c", "curves", () => $("show-curves").click());
bind("/", "filter by name", () => {
  $("filters").hidden = false;
  $("text").focus();
});

// ---- labels ----

async function label(value) {
  const index = grid.focused, image = index < 0 ? undefined : grid.at(index);
  if (!image) return notify("Choose an image with the arrow keys first.");
  const className = $("class").value;
  try {
    const row = await decide({ image: image.id, className, label: value, basedOn: image.decision });
    Object.assign(image, { reviewed: row.label, decision: row.number });
    notify(`${image.id}: ${className} is ${LABELS[value]}. z takes it back.`);
  } catch (error) {
    const { current } = error;
    if (current) Object.assign(image, { reviewed: current.label, decision: current.number });
    notify(current ? `${error.message} What they decided is shown; decide again if you think otherwise.` : error.message);
  }
  grid.refresh();
}

for (const [keys, value] of [[["1", "y"], 1], [["0", "n"], 0], ["u", -1]]) {
  bind(keys, `the label of the chosen image: ${LABELS[value]}`, () => void label(value));
}
bind("z", "take back the last decision", async () => {
  try {
    const row = await undo();
    const found = grid.find((image) => image.id === row.image && $("class").value === row.class_name);
    if (found) Object.assign(found, { reviewed: row.label, decision: row.number });
    notify(`Taken back: ${row.class_name} in ${row.image}.`);
  } catch (error) {
    notify(error.message);
  }
  grid.refresh();
});

// ---- begin ----

await loadOperating();
await show({ from: offset, keepScroll: true });
