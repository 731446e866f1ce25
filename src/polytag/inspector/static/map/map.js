// The map of the images. Every change takes one path: state, address, view.
import { rankingOf } from "../ranking/state.js";
import { SelectionBar } from "../ranking/selection-bar.js";
import { Selection } from "../ranking/selection.js";
import { isAddress, withParameters, writeAddress } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";
import { debounce, pause } from "../shared/debounce.js";
import { bindLabelKeys, inTurn, undo, undoneText } from "../shared/decide.js";
import { byId, element, nameOf, words } from "../shared/dom.js";
import { announce, bind, leaveTo, notify } from "../shared/frame.js";
import { goToClass, onClassChosen } from "../shared/go-to-class.js";
import { Card } from "./card.js";
import { Drawing, signOf } from "./drawing.js";
import { Gestures } from "./gestures.js";
import { Images } from "./images.js";
import { bindMapKeys } from "./keys.js";
import { countsOf, kindsOf } from "./kinds.js";
import { placesOf } from "./places.js";
import { Points } from "./points.js";
import { Slice } from "./slice.js";
import { WHOLE, bounded, queryOf, rankingQuery, readState, regionQuery, withLasso } from "./state.js";

const SAVE_MS = 150;
const WAIT_MS = 1000; // before what is not there yet is asked for again
const REST_MS = 120; // after which a view that moved is drawn anew
const REACH_PX = 12; // how near the pointer has to be to a point
const canvas = byId("canvas");
const classNames = [...byId("class").options].map(({ value }) => value);
let run = null; // the answer of /api/run
const loaded = fetchJson("/api/run").then((found) => (run = found));

let state = readState(location.search, byId("class").value);
let points = new Points([], []);
let others = []; // of the other splits
let answer = null; // of /api/map/points
let kinds = { kinds: [], kindOf: new Uint8Array() };
let focused = -1; // the row with the ring
let open = null; // the lasso or rectangle that is being drawn, in places
let isFrameWanted = false;
let isMoving = false; // the view moved a moment ago

const drawing = new Drawing(canvas);
const images = new Images({
  queryOf: () => rankingQuery(state),
  hrefOf: (image) => addressOf(image.id),
  settings: () => ({ className: state.class, threshold: threshold(), comparedName: state.against || run.compared }),
});
const card = new Card(images);
const slice = new Slice({ images, scoreOf: (row) => answer.score[row] });
const selection = new Selection(showSelection);
const bar = new SelectionBar(selection, {
  classNames,
  rankingOf: () => rankingOf(state),
  seen: () => ({ based_on: answer.last_row, later: {} }),
  onWritten,
});

const threshold = () => state.threshold ?? answer.threshold;
const addressOf = (id) => "/image?" + new URLSearchParams([...rankingQuery(state), ["id", id]]);

// ---- address ----

function save({ push = false } = {}) {
  saveSoon.cancel();
  const parameters = queryOf(state);
  if (!isAddress(parameters)) writeAddress(parameters, { push });
}

const saveSoon = debounce(save, SAVE_MS);

addEventListener("popstate", () => {
  saveSoon.cancel();
  state = readState(location.search, classNames[0]);
  showAll();
});

// ---- what is shown ----

const colourOf = () => ([...byId("colour").options].some(({ value }) => value === state.colour) ? state.colour : byId("colour").value);
const places = placesOf({
  wanted: () => state.by,
  isPinned: () => state.lassos.length > 0,
  use(found) {
    points = new Points(found.x, found.y);
    others = found.others;
    focused = -1;
    showPoints();
  },
});

/** Show the state: places, class, selection. */
async function showAll() {
  fillControls();
  await loaded.then(() => Promise.all([places.show(), loadPoints()])).catch((error) => notify(error.message));
}

function fillControls() {
  byId("class").value = state.class;
  for (const name of ["colour", "by"]) byId(name).value = state[name] || byId(name).options[0].value;
  byId("to-ranking").search = rankingQuery(state);
  document.title = document.title.replace(/^.*(?= · .* · polytag$)/, () => `Map of ${state.class}`);
}

async function loadPoints() {
  const query = String(rankingQuery(state));
  const found = await fetchJson(`/api/map/points?${query}`).catch(async (error) => {
    if (error.status !== 503) throw error; // else the map of a region is being computed
    return pause(WAIT_MS);
  });
  if (query !== String(rankingQuery(state))) return;
  if (!found) return loadPoints();
  answer = found;
  images.clear();
  showPoints();
}

/** Show the points once both their places and what they show are known. */
function showPoints() {
  if (!answer || points.length !== answer.truth.length) return;
  points.keep(answer.passing);
  kinds = kindsOf(colourOf(), answer, { others, split: run.split });
  drawing.use(kinds.kinds, points.isShown.reduce((sum, is) => sum + is, 0));
  showLegend();
  card.hide();
  selectLassos();
  requestFrame();
}

function showLegend() {
  const counts = countsOf(kinds, points);
  const entries = kinds.kinds.map((kind, place) => element("li", {}, signOf(drawing, kind), element("span", {}, kind.name), element("span", { class: "soft num" }, counts[place].toLocaleString("en"))));
  byId("legend").replaceChildren(...entries.reverse());
  const numPlaced = points.x.reduce((sum, x) => sum + (x >= 0), 0);
  const numShown = points.isShown.reduce((sum, is) => sum + is, 0);
  const without = points.length - numPlaced;
  const count = answer.passing ? `${numShown.toLocaleString("en")} of ${points.length.toLocaleString("en")} images pass the filters` : `${numShown.toLocaleString("en")} images`;
  byId("count").textContent = count + (without ? `, ${without.toLocaleString("en")} without a place` : "");
  const colour = byId("colour").selectedOptions[0].textContent;
  canvas.setAttribute("aria-label", `Map of ${count}, coloured by ${colour}${["error", "label", "score"].includes(colourOf()) ? ` of ${state.class}` : ""}`);
}

function requestFrame() {
  if (isFrameWanted) return;
  isFrameWanted = true;
  requestAnimationFrame(() => {
    isFrameWanted = false;
    if (!drawing.size.width && !drawing.fit()) return;
    const selected = selection.num ? selection.rows : null;
    drawing.draw({ view: state.view, points, kindOf: kinds.kindOf, selected, focused, lassos: state.lassos, open }, { isMoving });
  });
}

new ResizeObserver(() => drawing.fit() && requestFrame()).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawing.recolour();
  if (answer) showLegend();
  requestFrame();
});

// ---- selection ----

/** Select what lies in the lassos of the state. */
function selectLassos() {
  const rows = state.lassos.length ? points.inside(state.lassos) : [];
  if (rows.length || selection.num) selection.replace(rows);
}

function select(polygon, isMore) {
  open = null;
  const lassos = withLasso(isMore ? state.lassos : [], polygon);
  if (!points.inside(lassos.slice(-1)).length) {
    notify("No image lies in it.");
    return requestFrame();
  }
  state = { ...state, by: places.shown(), lassos };
  save({ push: true });
  fillControls();
  card.hide();
  selectLassos();
  announce(`${selection.num.toLocaleString("en")} selected`);
}

function showSelection() {
  if (!selection.num && state.lassos.length) {
    state = { ...state, lassos: [] };
    save({ push: true });
  }
  bar.show(selection.num);
  if (selection.num) showSlice();
  else slice.hide();
  requestFrame();
}

function showSlice() {
  const rows = [...selection.rows];
  byId("slice-ranking").search = regionQuery({ ...state, by: places.shown() });
  const countOf = (outcome) => rows.filter((row) => answer.outcomes[answer.outcome[row]] === outcome).length;
  slice.show(rows, selection.request(rankingOf(state)), { className: state.class, countOf });
}

/** Show what a batch changed, and where the images of a new tag are. */
async function onWritten(what, body) {
  await loadPoints();
  if (what !== "tag" || !body.is_on) return;
  const tag = body.tag.replace(/^#/, "");
  byId("slice-tag").replaceChildren(element("a", { href: "/ranking?" + withParameters("", { class: state.class, tag, against: state.against }) }, `#${tag} in the ranking`));
}

// ---- view ----

const rest = debounce(() => {
  isMoving = false;
  requestFrame();
}, REST_MS);

function look(view) {
  state = { ...state, view: bounded(view) };
  isMoving = true;
  rest();
  card.hide();
  requestFrame();
  saveSoon();
}

function moveBy(dx, dy) {
  const pixels = drawing.pixels(state.view);
  look({ ...state.view, x: state.view.x - dx / pixels, y: state.view.y + dy / pixels });
}

/** Zoom; the place under this pixel stays there. */
function zoom(factor, left = drawing.size.width / 2, top = drawing.size.height / 2) {
  const [x, y] = drawing.toPlace(state.view, left, top);
  const { scale } = bounded({ ...state.view, scale: state.view.scale * factor });
  const share = state.view.scale / scale;
  look({ x: x + (state.view.x - x) * share, y: y + (state.view.y - y) * share, scale });
}

const whole = () => look({ ...WHOLE });

// ---- pointer ----

const rowAt = (left, top, reach = REACH_PX) => points.nearest(...drawing.toPlace(state.view, left, top), reach / drawing.pixels(state.view));

function hover(left, top) {
  const row = left === undefined ? -1 : rowAt(left, top);
  canvas.classList.toggle("on-point", row >= 0);
  if (row === focused && row === card.row) return;
  focused = row;
  if (row < 0) card.hide();
  else card.show(row, drawing.toScreen(state.view, points.x[row], points.y[row]));
  requestFrame();
}

async function click(left, top, isTouch) {
  const row = rowAt(left, top, isTouch ? 2 * REACH_PX : REACH_PX);
  if (row < 0) return hover();
  if (!isTouch) return openImage(row);
  focused = row;
  card.hide();
  card.show(row, drawing.toScreen(state.view, points.x[row], points.y[row]), { isOpen: true });
  requestFrame();
}

async function openImage(row) {
  const [image] = await images.of([row]).catch((error) => (notify(error.message), []));
  save();
  if (image) leaveTo(addressOf(image.id));
}

const gestures = new Gestures(canvas, {
  lassoing(drawn) {
    open = drawn?.map((at) => drawing.toPlace(state.view, ...at)) ?? null;
    requestFrame();
  },
  lassoed: (drawn, isMore) => select(drawn.map((at) => drawing.toPlace(state.view, ...at)), isMore),
  moved: moveBy,
  zoomed: zoom,
  clicked: click,
  hovered: hover,
});

for (const tool of ["lasso", "move"]) {
  byId(`tool-${tool}`).addEventListener("click", () => {
    gestures.tool = tool;
    for (const each of ["lasso", "move"]) byId(`tool-${each}`).setAttribute("aria-pressed", String(each === tool));
  });
}
byId("zoom-in").addEventListener("click", () => zoom(1.5));
byId("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
byId("whole").addEventListener("click", whole);

// ---- keys ----

/** Put the ring on a point, into the window, and say what it is. */
async function focusRow(row) {
  focused = row;
  let at = drawing.toScreen(state.view, points.x[row], points.y[row]);
  if (at[0] < 0 || at[1] < 0 || at[0] > drawing.size.width || at[1] > drawing.size.height) {
    look({ ...state.view, x: points.x[row], y: points.y[row] });
    at = drawing.toScreen(state.view, points.x[row], points.y[row]);
  }
  requestFrame();
  const image = await card.show(row, at);
  if (!image || focused !== row) return;
  const chips = image.chips.map(({ name, outcome }) => `${words.outcome[outcome]} ${name}`);
  announce([image.id, `${state.class} ${image.text}`, words.outcome[image.outcome], words.truth[image.truth], ...chips].filter(Boolean).join(", "));
}

bindMapKeys({
  view: () => state.view,
  size: () => [drawing.size.width, drawing.size.height].map((side) => side / drawing.pixels(state.view)),
  focused: () => focused,
  focusRow,
  middleRow: () => points.nearest(state.view.x, state.view.y, 4 * WHOLE.x),
  points: () => points,
  drawOpen(polygon) {
    open = polygon;
    requestFrame();
  },
  select,
  open: openImage,
  zoom,
  whole,
  clear: () => (selection.num ? selection.clear() : false),
});

onClassChosen(classNames, (name) => change({ class: name, threshold: null }));
byId("find-class").addEventListener("click", () => goToClass());
bind(["[", "]"], "the previous class, the next class", ({ key }) => {
  const index = classNames.indexOf(state.class) + (key === "]" ? 1 : -1);
  change({ class: classNames.at(index % classNames.length), threshold: null });
});
bindLabelKeys((word) => `the label of the selected images: ${word}`, (label) => (selection.num ? bar.label(label) : notify("Select images first.")));
bind("z", "undo the last decision", () => void inTurn(undoLast), { isHeld: false });

async function undoLast() {
  try {
    const row = await undo();
    await onWritten();
    notify(row.batch === undefined ? `Undone: ${row.class_name} in ${row.image}.` : undoneText(row));
  } catch (error) {
    notify(error.message);
  }
}

// ---- controls ----

function change(changes) {
  state = { ...state, ...changes };
  save({ push: true });
  fillControls();
  loadPoints().catch((error) => notify(error.message));
}

byId("class").addEventListener("change", ({ target }) => change({ class: target.value, threshold: null }));
byId("colour").addEventListener("change", ({ target }) => {
  state = { ...state, colour: target.value };
  save({ push: true });
  showPoints();
});
byId("by").addEventListener("change", ({ target }) => {
  state = { ...state, by: target.value, lassos: [], view: { ...WHOLE } }; // another map: its lassos are not of this one
  selection.clear();
  save({ push: true });
  places.show().catch((error) => notify(error.message));
});
byId("controls").addEventListener("submit", (event) => event.preventDefault());

showAll();
