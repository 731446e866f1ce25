// The ranking page. Every change takes one path: state, address, view. Back and Forward read the state from the address again.
import { isAddress, writeAddress } from "../shared/address.js";
import { fetchJson, post } from "../shared/api.js";
import { debounce } from "../shared/debounce.js";
import { byId, element } from "../shared/dom.js";
import { announce, bind, notify } from "../shared/frame.js";
import { goToClass, onClassChosen } from "../shared/go-to-class.js";
import { Retry, mayPass, reasonText } from "../shared/retry.js";
import { showBothRuns } from "./both-runs.js";
import { fillCell, makeCell, showSelected, showsDecision } from "./cell.js";
import { showCharts } from "./charts.js";
import { bindPanel, fillControls, listenToControls, readControls, showPanel } from "./controls.js";
import { bindDecisions } from "./decisions.js";
import { waitForOrder } from "./finding.js";
import { GoalField } from "./goal.js";
import { Grid } from "./grid.js";
import { bindSelecting } from "./selecting.js";
import { SelectionBar } from "./selection-bar.js";
import { Selection } from "./selection.js";
import { NO_FILTERS, SIZES, filterOf, listQueryOf, queryOf, rankingOf, readState, sliceQueryOf, withOneOrder } from "./state.js";
import { ThresholdPanel } from "./threshold.js";
import { loadThumbnails } from "./thumbnails.js";
import { showUnloaded } from "./unloaded.js";

const SAVE_MS = 150;
const DRAG_MS = 60;

const classNames = [...byId("class").options].map(({ value }) => value);
let run = null; // the answer of /api/run, once it is loaded
let loading = null; // its promise
const loaded = () => (loading ??= fetchJson("/api/run").then((answer) => (run = answer), (error) => {
  loading = null;
  throw error;
}));
let state = readState(location.search, byId("class").value);
const shown = { class: null, slice: null, list: null, isComplete: false }; // the class, its numbers and the list that the page shows now
let numDraws = 0;
let drawn = Promise.resolve(); // the draw in progress, for which keys wait
let wanted = {}; // the position that it is to be at
const redraw = new Retry({ again: () => draw(wanted), onState: () => {} });
let isDrawing = true; // scrolling is the page's own until it is drawn
let charts = null;
let [numCharts, numGoals] = [0, 0]; // an answer gives way to one that was asked for after it

// ---- address ----

history.scrollRestoration = "manual"; // the list has its height only once it is loaded

/** Write the state into the current entry of the history, and where it is scrolled to. */
function save() {
  saveSoon.cancel();
  const parameters = queryOf(state);
  const above = Math.max(0, -grid.top()); // pixels of the list above the window, whatever is unfolded over the list
  const { focused } = grid;
  const isSaved = isAddress(parameters) && Math.abs((history.state?.above ?? 0) - above) < 1 && (history.state?.focused ?? -1) === focused;
  if (!isSaved) writeAddress(parameters, { data: { above, focused, width: innerWidth } });
}

function saveScroll() {
  if (isDrawing) return;
  showPlace();
  state = { ...state, offset: grid.first };
  save();
}

const saveSoon = debounce(saveScroll, SAVE_MS);
addEventListener("scroll", saveSoon, { passive: true });
byId("grid").addEventListener("click", saveScroll, { capture: true }); // before the page of an image replaces this one

/** Change the state, its address and the view. `push` makes a new entry of the history; its list begins at the top. */
function change(changes, { push = false } = {}) {
  afterDrag.cancel();
  if (push) saveScroll();
  state = { ...state, ...changes, offset: 0, id: "" };
  if (push) writeAddress(queryOf(state), { push });
  else save();
  return draw();
}

addEventListener("popstate", ({ state: data }) => {
  for (const pending of [saveSoon, afterDrag, afterTyping]) pending.cancel();
  state = readState(location.search, classNames[0]);
  showPanel(byId("show-curves"), byId("curves"), state.curves);
  draw(positionOf(data));
});

/** Return the position at which an entry of the history was left, or that of the offset in its address. */
function positionOf(data) {
  if (state.id) return { index: state.offset, focus: state.offset, id: state.id }; // the way back from the page of an image
  if (data?.width === innerWidth) return { above: data.above, focus: data.focused };
  const isSameList = data === null && String(listQueryOf(state)) === shown.list;
  const isFirst = shown.list === null && state.offset === 0;
  return isSameList || isFirst ? { keep: true } : { index: state.offset };
}

// ---- view ----

const panel = byId("slider") && new ThresholdPanel({ onMove: moveThreshold, onBrush: brush, onPlace: goToScore, onKeep: keep });
const goal = panel && new GoalField({ classOf: () => state.class, onGoal: reachGoal });
const threshold = () => state.threshold ?? panel?.own ?? 0.5;

const grid = new Grid(byId("grid"), {
  load: (offset, limit, signal) => fetchJson(`/api/ranking?${shown.list}&` + new URLSearchParams({ offset, limit }), { signal }),
  make: makeCell,
  loadThumbnails,
  onUnloaded(error, again) {
    showUnloaded(error, again);
    if (!error && shown.isComplete) announce("All images are loaded.");
  },
  fill(cell, image, index) {
    const parameters = queryOf({ ...state, offset: index });
    parameters.set("id", image.id);
    const isSelected = selection.has(image.row);
    fillCell(cell, image, { className: state.class, threshold: threshold(), href: "/image?" + parameters, comparedName: state.against || run.compared, isSelected });
  },
});

const selection = new Selection(() => showSelection());
let selectedFilter = ""; // the filter of which all is selected

const bar = new SelectionBar(selection, {
  classNames,
  rankingOf: () => rankingOf(state),
  seen() {
    const answers = grid.answers();
    const basedOn = Math.min(...answers.map(({ last_row }) => last_row));
    const images = answers.flatMap((answer) => answer.images);
    return { based_on: basedOn, later: Object.fromEntries(images.filter(({ decision }) => decision > basedOn).map(({ row, decision }) => [row, decision])) };
  },
  onWritten: reload,
});

function showSelection() {
  if (selection.isAll && selection.rows.size === 0) selectedFilter = filterOf(state);
  for (const [index, cell] of grid.cells) {
    const image = grid.at(index);
    if (image) showSelected(cell, selection.has(image.row));
  }
  bar.show(grid.total);
}

/** Load the list again after a batch: labels, tags and what a filter by tag leaves. */
async function reload() {
  await grid.reload().catch((error) => {
    if (error.name !== "AbortError") throw error; // else another list is being drawn by now
  });
  showTotal();
  const { tags } = await fetchJson("/api/selection/tags");
  byId("tags").replaceChildren(...Object.keys(tags).map((tag) => element("option", { value: tag })));
}

/** Show the images in the size of the state; the first image in the window stays there. */
function showSize() {
  if (document.body.classList.contains(`size-${state.size}`)) return;
  const { first } = grid;
  for (const size of SIZES) document.body.classList.toggle(`size-${size}`, size === state.size);
  grid.layout();
  if (first > 0) grid.scrollTo(first);
}

/** Show the state: controls, class, threshold and list. A later call replaces one that is still loading. */
function draw(position = {}) {
  wanted = position;
  return (drawn = loaded().then(() => drawNow(position)).catch(showProblem));
}

async function drawNow(position) {
  const draw_ = ++numDraws;
  const isReplaced = () => draw_ !== numDraws;
  isDrawing = true;
  byId("grid").setAttribute("aria-busy", "true");
  fillControls(state, run.columns);
  showSize();
  let [problem, isThere] = [null, true];
  try {
    if (String(sliceQueryOf(state)) !== shown.slice) await showSlice(isReplaced);
    if (isReplaced()) return;
    if (panel) showThreshold();
    if (selection.isAll && selectedFilter !== filterOf(state)) selection.clear(); // it was all of another list
    isThere = !byId("finding") || (await waitForOrder(state, { isReplaced, onWait: clearList }));
    if (isReplaced()) return;
    if (isThere) await showList(position);
  } catch (error) {
    if (error.name === "AbortError") return isReplaced() ? undefined : drawNow(position); // a batch loaded the list again meanwhile
    problem = error;
  }
  if (isReplaced()) return;
  isDrawing = false;
  if (state.id) {
    state = { ...state, id: "" };
    save();
  }
  if (problem) {
    clearList();
    byId("total").textContent = "0";
  }
  showPlace();
  byId("grid").removeAttribute("aria-busy");
  if (problem) return showProblem(problem);
  redraw.done();
  showMessage(grid.total || !isThere ? "" : "No image passes these filters.");
}

/** Say why the list is not there; it is asked for again where that may help. */
function showProblem(error) {
  showMessage(reasonText(error));
  if (mayPass(error)) redraw.failed(error);
  else redraw.done();
}

async function showSlice(isReplaced) {
  const [className, query] = [state.class, String(sliceQueryOf(state))];
  const sweep = await panel?.load(query, state.threshold);
  if (isReplaced()) return;
  if (panel) {
    panel.sweep = sweep;
    panel.scores.draw(sweep);
    if (className !== shown.class) {
      panel.scores.shade("safe", null);
      goal.clear();
    }
    if (state.threshold !== null) state = { ...state, threshold: panel.nearest(state.threshold) };
    if (!isAddress(queryOf(state))) writeAddress(queryOf(state), { data: history.state });
  }
  shown.slice = query;
  showAp(query);
  showBothRuns(query);
  showCurves();
  if (className === shown.class) return;
  shown.class = className;
  document.title = document.title.replace(/^.*(?= · .* · polytag$)/, () => className);
  for (const each of document.querySelectorAll(".tools h1 bdi")) each.textContent = className;
  byId("precision-recall").setAttribute("aria-label", `Precision over recall of ${className}`);
  const label = panel ? "Precision and recall over the threshold" : "Distribution of the scores";
  byId("over-threshold").setAttribute("aria-label", `${label} of ${className}`);
}

/** Show the average precision of a slice, and which images it is of. Its interval may take a moment, for which nothing waits. */
async function showAp(query) {
  const answer = await fetchJson("/api/slice?" + query).catch(() => null);
  if (query !== shown.slice) return;
  const { ap = null, low = null, high = null, scope = "" } = answer ?? {};
  byId("ap").textContent = ap?.toFixed(3) ?? "–";
  byId("numbers")?.setAttribute("title", scope); // those at the threshold are of the same images
  byId("ap-of").textContent = [low === null ? "" : `${low.toFixed(3)}–${high.toFixed(3)}`, scope].filter(Boolean).join(" ");
}

/** Show no image: those that are shown are not what was asked for. */
function clearList() {
  Object.assign(shown, { list: null, isComplete: false });
  grid.clear();
}

async function showList(position) {
  const query = String(listQueryOf(state));
  if (query === shown.list && shown.isComplete) {
    grid.refresh();
    return grid.moveTo(position);
  }
  Object.assign(shown, { list: query, isComplete: false });
  grid.focused = -1; // it was an image of the list before
  await grid.show(position);
  shown.isComplete = true;
  showTotal();
  announce(`${grid.total} images`);
}

function showTotal() {
  byId("total").textContent = grid.total.toLocaleString("en");
  bar.show(grid.total);
}

function showThreshold() {
  const point = panel.show(threshold());
  charts?.at(point);
}

async function showCurves() {
  charts = null;
  const number = ++numCharts;
  if (byId("curves").hidden) return;
  const query = String(sliceQueryOf(state));
  try {
    const made = await showCharts(query, panel?.sweep, () => number !== numCharts || query !== String(sliceQueryOf(state)));
    if (!made) return;
    charts = made;
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
  grid.refresh((cell, image) => !showsDecision(cell, image, threshold())); // filling them all costs a frame
  afterDrag();
}

/** Save the threshold in the run; the page then shows the run as it is. */
async function keep(value) {
  try {
    await post("/api/thresholds/keep", { class_name: state.class, threshold: value });
    location.reload();
  } catch (error) {
    notify(error.message);
  }
}

/** Show the images with these scores alone. */
function brush([low, high]) {
  change({ min_score: String(low), max_score: String(high) }, { push: true });
}

async function reachGoal(value, safe) {
  const [query, number] = [String(sliceQueryOf(state)), ++numGoals];
  const sweep = await panel.load(query, value).catch((error) => notify(error.message));
  if (!sweep || query !== shown.slice || number !== numGoals) return;
  panel.sweep = sweep;
  panel.scores.shade("safe", safe);
  panel.move(value);
}

const isByScore = () => state.sort === "score" && Object.keys(NO_FILTERS).every((name) => String(state[name]) === String(NO_FILTERS[name]));

/** Show where in the scores the window is, where the list is by score and has all images. */
function showPlace() {
  if (!panel?.sweep) return;
  const { min_score, max_score } = state;
  const isBrushed = min_score !== "" || max_score !== "";
  panel.scores.shade("brushed", isBrushed ? [Number(min_score || 0), Number(max_score || 1)] : null);
  const seen = [grid.first, Math.min(grid.total, grid.inView?.[1] ?? 1) - 1].map((index) => grid.at(index)?.probability);
  panel.scores.see(isByScore() && seen.every((score) => score !== undefined) ? seen.sort((one, other) => one - other) : null);
}

function goToScore(score) {
  const numAbove = panel.numAbove(score);
  grid.focused = -1;
  grid.scrollTo(Math.max(0, Math.min(grid.total - 1, state.order === "desc" ? numAbove : grid.total - numAbove)));
}

// ---- controls ----

const afterTyping = listenToControls((isTyped) => {
  const changes = withOneOrder(readControls(), state);
  if (isAddress(queryOf({ ...state, ...changes }))) return; // the form was submitted unchanged
  if (changes.size !== state.size) return changeSize(changes.size);
  if (changes.class !== state.class) changes.threshold = null;
  if (changes.column !== state.column) changes.value = run?.columns[changes.column]?.[0] ?? "";
  change(changes, { push: !isTyped });
});

function changeSize(size) {
  state = { ...state, size, offset: grid.first };
  showSize();
  grid.refresh(); // the links of the cells hold the address
  save();
}

byId("clear").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  change({ ...NO_FILTERS, threshold: null }, { push: true });
});

byId("filters").hidden = "folded" in byId("filters").dataset;
bindPanel(byId("show-filters"), byId("filters"));
showPanel(byId("show-curves"), byId("curves"), state.curves);
bindPanel(byId("show-curves"), byId("curves"), () => {
  state = { ...state, curves: !byId("curves").hidden };
  save();
  showCurves();
});

// ---- keys ----

onClassChosen(classNames, (name) => change({ class: name, threshold: null }, { push: true }));
byId("find-class").hidden = false;
byId("find-class").addEventListener("click", () => goToClass());
function stepClass(step) {
  const index = (classNames.indexOf(state.class) + step + classNames.length) % classNames.length;
  change({ class: classNames[index], threshold: null }, { push: true });
}

function goToThreshold() {
  if (state.sort !== "score" || !panel.sweep) return;
  const numAbove = panel.numAbove(threshold());
  grid.focused = -1;
  grid.scrollTo(Math.max(0, (state.order === "desc" ? numAbove : grid.total - numAbove) - grid.columns));
}

/** Let a key wait for the list that is being drawn. */
const whenDrawn = (action) => (event) => void drawn.then(() => action(event));

bind("t", "the top: highest scores first", whenDrawn(() => change({ sort: "score", find: "", order: "desc" }, { push: true })));
bind("b", "the bottom: lowest scores first", whenDrawn(() => change({ sort: "score", find: "", order: "asc" }, { push: true })));
bind(["[", "]"], "the previous class, the next class", whenDrawn((event) => stepClass(event.key === "]" ? 1 : -1)));
if (panel) {
  bind([",", "."], "threshold down, up", whenDrawn((event) => panel.move(threshold() + (event.key === "." ? 0.01 : -0.01))));
  bind("l", "the first image below the threshold", whenDrawn(goToThreshold));
}
const afterMove = bindSelecting(grid, selection, whenDrawn);
byId("select-all").addEventListener("click", () => selection.all(grid.total));
bind(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "move between images, with shift select them; enter opens one", whenDrawn((event) => {
  const from = grid.focused;
  grid.move({ ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns }[event.key]);
  afterMove(event, from);
}));
bind("Home", "the first image", whenDrawn(() => {
  grid.focused = -1;
  scrollTo({ top: 0 });
}));
bind("f", "filters", () => byId("show-filters").click());
bind("c", "curves", () => byId("show-curves").click());
bind("/", "filter by name", () => {
  if (byId("filters").hidden) byId("show-filters").click();
  byId("text").focus();
});
if (byId("find")) bind("w", "find by text: write what the images show", () => byId("find").focus());
bindDecisions(grid, { classOf: () => state.class, selection, bar, onBatch: reload });

draw(positionOf(history.state));
