// The ranking page. Every change takes one path: state, address, view. Back and Forward read the state from the address again.
import { isAddress, writeAddress } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";
import { debounce } from "../shared/debounce.js";
import { byId, element } from "../shared/dom.js";
import { announce, bind, notify } from "../shared/frame.js";
import { fillCell, makeCell } from "./cell.js";
import { showCharts } from "./charts.js";
import { bindPanel, fillControls, listenToControls, readControls } from "./controls.js";
import { bindDecisions } from "./decisions.js";
import { Grid } from "./grid.js";
import { NO_FILTERS, listQueryOf, queryOf, readState } from "./state.js";
import { ThresholdPanel } from "./threshold.js";

const SAVE_MS = 150;
const DRAG_MS = 60;

const run = await fetchJson("/api/run");
let state = readState(location.search, byId("class").value);
const shown = { class: null, list: null, isComplete: false }; // the class and the list that the page shows now
let numDraws = 0;
let isDrawing = true; // scrolling is the page's own until it is drawn
let charts = null;

// ---- address ----

history.scrollRestoration = "manual"; // the list has its height only once it is loaded

/** Write the state into the current entry of the history, and where it is scrolled to. */
function save() {
  saveSoon.cancel();
  const parameters = queryOf(state);
  const above = Math.max(0, -grid.top()); // pixels of the list above the window, whatever is unfolded over the list
  const isSaved = isAddress(parameters) && Math.abs((history.state?.above ?? 0) - above) < 1;
  if (!isSaved) writeAddress(parameters, { data: { above, width: innerWidth } });
}

function saveScroll() {
  if (isDrawing) return;
  state = { ...state, offset: grid.first };
  save();
}

const saveSoon = debounce(saveScroll, SAVE_MS);
addEventListener("scroll", saveSoon, { passive: true });

/** Change the state, its address and the view. `push` makes a new entry of the history; its list begins at the top. */
function change(changes, { push = false } = {}) {
  afterDrag.cancel();
  if (push) saveScroll();
  state = { ...state, ...changes, offset: 0 };
  if (push) writeAddress(queryOf(state), { push });
  else save();
  return draw();
}

addEventListener("popstate", ({ state: data }) => {
  for (const pending of [saveSoon, afterDrag, afterTyping]) pending.cancel();
  state = readState(location.search, run.classes[0]);
  draw(positionOf(data));
});

/** Return the position at which an entry of the history was left, or that of the offset in its address. */
function positionOf(data) {
  if (data?.width === innerWidth) return { above: data.above };
  const isSameList = data === null && String(listQueryOf(state)) === shown.list;
  const isFirst = shown.list === null && state.offset === 0;
  return isSameList || isFirst ? { keep: true } : { index: state.offset };
}

// ---- view ----

const panel = byId("slider") && new ThresholdPanel({ onMove: moveThreshold });
const threshold = () => state.threshold ?? panel?.own ?? 0.5;

const grid = new Grid(byId("grid"), {
  load: (offset, limit, signal) => fetchJson(`/api/ranking?${shown.list}&` + new URLSearchParams({ offset, limit }), { signal }),
  make: makeCell,
  fill(cell, image, index) {
    const parameters = queryOf({ ...state, offset: index });
    parameters.set("id", image.id);
    fillCell(cell, image, { threshold: threshold(), href: "/image?" + parameters, comparedName: run.compared });
  },
});

/** Show the state: controls, class, threshold and list. A later call replaces one that is still loading. */
async function draw(position = {}) {
  const draw_ = ++numDraws;
  const isReplaced = () => draw_ !== numDraws;
  isDrawing = true;
  byId("grid").setAttribute("aria-busy", "true");
  fillControls(state, run.columns);
  let problem = "";
  try {
    if (state.class !== shown.class) await showClass(isReplaced);
    if (isReplaced()) return;
    if (panel) showThreshold();
    await showList(position);
  } catch (error) {
    if (error.name === "AbortError") return;
    problem = error.message;
  }
  if (isReplaced()) return;
  isDrawing = false;
  byId("grid").removeAttribute("aria-busy");
  showMessage(problem || (grid.total ? "" : "No image passes these filters."));
}

async function showClass(isReplaced) {
  const className = state.class;
  const [sweep, { classes }] = await Promise.all([panel?.load(className), fetchJson("/api/classes")]);
  if (isReplaced()) return;
  if (panel) {
    panel.sweep = sweep;
    if (state.threshold !== null) state = { ...state, threshold: panel.nearest(state.threshold) };
    if (!isAddress(queryOf(state))) writeAddress(queryOf(state), { data: history.state });
  }
  shown.class = className;
  byId("ap").textContent = classes.find(({ name }) => name === className)?.ap?.toFixed(3) ?? "–";
  document.title = document.title.replace(/^.*(?= · .* · polytag$)/, () => className);
  for (const each of document.querySelectorAll(".tools h1 bdi")) each.textContent = className;
  byId("precision-recall").setAttribute("aria-label", `Precision over recall of ${className}`);
  byId("histogram").setAttribute("aria-label", `Distribution of the scores of ${className}`);
  showCurves();
}

async function showList(position) {
  const query = String(listQueryOf(state));
  if (query === shown.list && shown.isComplete) {
    grid.refresh();
    return grid.moveTo(position);
  }
  Object.assign(shown, { list: query, isComplete: false });
  await grid.show(position);
  shown.isComplete = true;
  byId("total").textContent = grid.total.toLocaleString("en");
  announce(`${grid.total} images`);
}

function showThreshold() {
  const point = panel.show(threshold());
  charts?.at(point);
}

async function showCurves() {
  charts = null;
  if (byId("curves").hidden) return;
  const className = state.class;
  try {
    const drawn = await showCharts(className);
    if (className !== state.class) return;
    charts = drawn;
    if (panel?.sweep) showThreshold();
  } catch (error) {
    notify(error.message);
  }
}

function showMessage(text) {
  if (!byId("empty")) byId("grid").after(element("p", { class: "empty", id: "empty" }));
  byId("empty").textContent = text;
  byId("empty").hidden = !text;
}

// ---- threshold: numbers and frames follow at once, the address and a list that depends on it after a pause ----

const afterDrag = debounce(() => {
  save();
  draw({ keep: true });
}, DRAG_MS);

function moveThreshold(value) {
  state = { ...state, threshold: value };
  showThreshold();
  grid.refresh();
  afterDrag();
}

// ---- controls ----

const afterTyping = listenToControls((isTyped) => {
  const changes = readControls();
  if (isAddress(queryOf({ ...state, ...changes }))) return; // the form was submitted unchanged
  if (changes.class !== state.class) changes.threshold = null;
  if (changes.column !== state.column) changes.value = run.columns[changes.column]?.[0] ?? "";
  change(changes, { push: !isTyped });
});

byId("clear").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  change({ ...NO_FILTERS, threshold: null }, { push: true });
});

byId("filters").hidden = "folded" in byId("filters").dataset;
bindPanel(byId("show-filters"), byId("filters"));
bindPanel(byId("show-curves"), byId("curves"), showCurves);

// ---- keys ----

function stepClass(step) {
  const { classes } = run;
  const index = (classes.indexOf(state.class) + step + classes.length) % classes.length;
  change({ class: classes[index], threshold: null }, { push: true });
}

function goToThreshold() {
  if (state.sort !== "score" || !panel.sweep) return;
  const numAbove = panel.numAbove(threshold());
  grid.focused = -1;
  grid.scrollTo(Math.max(0, (state.order === "desc" ? numAbove : grid.total - numAbove) - grid.columns));
}

bind("t", "the top: highest scores first", () => change({ sort: "score", order: "desc" }, { push: true }));
bind("b", "the bottom: lowest scores first", () => change({ sort: "score", order: "asc" }, { push: true }));
bind(["[", "]"], "the previous class, the next class", (event) => stepClass(event.key === "]" ? 1 : -1));
if (panel) {
  bind([",", "."], "threshold down, up", (event) => panel.move(threshold() + (event.key === "." ? 0.01 : -0.01)));
  bind("l", "the first image below the threshold", goToThreshold);
}
bind(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "move between images; enter opens one", (event) => {
  grid.move({ ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns }[event.key]);
});
bind("Home", "the first image", () => {
  grid.focused = -1;
  scrollTo({ top: 0 });
});
bind("f", "filters", () => byId("show-filters").click());
bind("c", "curves", () => byId("show-curves").click());
bind("/", "filter by name", () => {
  if (byId("filters").hidden) byId("show-filters").click();
  byId("text").focus();
});
bindDecisions(grid, () => state.class);

await draw(positionOf(history.state));
