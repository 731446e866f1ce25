// Many labels of one class at a time: press those that are wrong, and confirm the rest, as one batch.
import { isAddress, kept, withParameters, writeAddress } from "../shared/address.js";
import { fetchJson, post } from "../shared/api.js";
import { askWhether } from "../shared/ask.js";
import { boxFrame } from "../shared/boxes.js";
import { pause } from "../shared/debounce.js";
import { inTurn, requireReviewer, reviewer, undo, undoneText } from "../shared/decide.js";
import { LABELS, byId, clone, element, version, words } from "../shared/dom.js";
import { announce, bind, notify } from "../shared/frame.js";
import { onClassChosen } from "../shared/go-to-class.js";
import { NOT_SHOWN, watchState } from "../shared/shown.js";
import { probabilityText } from "./text.js";
import { showWorth } from "./worth.js";

const NUM_SHOWN = 24;
const PART = 500; // entries of the queue that are loaded, of which those with the same given label are shown
const POLL_MS = 400;

let state = { kind: byId("kind").value, order: byId("order").value, class: byId("class").value };
let entries = []; // that the page shows
let numLeft = ""; // of the class and the same given label: what is loaded may be less than all
let skipped = new Set(); // ids
let isBusy = false;
let numDraws = 0;
let isDrawn = false; // whether the page shows what was asked for last: nothing else is confirmed
const own = []; // numbers of this page's batches

const buttons = () => [...document.querySelectorAll("#many button")];
const isWrong = (button) => button.getAttribute("aria-pressed") === "true";
const stateOf = (button) => button.querySelector("img").dataset.state; // undefined while it is loading
const isShown = (button) => stateOf(button) === "shown";

/** What a label is where it is right, and where it is not. An unknown label is in the queue because the class is probably present. */
const rightLabel = (given) => (given === -1 ? 1 : given);
const wrongLabel = (given) => 1 - rightLabel(given);

// ---- state, address, view ----

/** Show the labels of the state. A later call replaces one that is still loading. */
async function draw() {
  const mine = ++numDraws;
  const isReplaced = () => mine !== numDraws;
  byId("kind").value = state.kind;
  byId("order").value = state.order;
  isDrawn = false;
  showVerdicts();
  try {
    const queue = await loaded(isReplaced);
    if (isReplaced()) return undefined;
    if (queue.reason) return showMessage(`There is no list: ${queue.reason}.`);
    const open = queue.entries.filter((entry) => !entry.decision && !skipped.has(entry.image));
    if (!state.class && open.length) {
      state = { ...state, class: open[0].class_name };
      return draw();
    }
    const alike = open.filter((entry) => entry.given === open[0].given);
    const isMore = queue.total > queue.entries.length;
    [entries, numLeft] = [alike.slice(0, NUM_SHOWN), (isMore ? "at least " : "") + alike.length.toLocaleString("en")];
  } catch (error) {
    return isReplaced() ? undefined : showMessage(error.message);
  }
  byId("class").value = state.class;
  const order = state.order === "suspicion" ? null : state.order;
  const parameters = withParameters("", { view: "grid", kind: state.kind === "issues" ? null : state.kind, order, class: state.class, ...kept() });
  if (!isAddress(parameters)) writeAddress(parameters);
  byId("one").search = withParameters("", { kind: state.kind, order, class: state.class, ...kept() });
  show();
}

/** Return the queue of the state, as soon as the server has computed it, or where it is not wanted any more. */
async function loaded(isReplaced) {
  for (;;) {
    const queue = await fetchJson("/api/review/queue?" + withParameters("", { ...state, limit: PART }));
    if (queue.status !== "computing" || isReplaced()) return queue;
    showMessage("The model’s doubts about the labels are being computed, once.");
    await pause(POLL_MS);
  }
}

function show() {
  isDrawn = true;
  byId("many").replaceChildren(...entries.map(cellOf));
  if (!entries.length) return showMessage(`Nothing is left to decide${state.class ? ` about ${state.class}` : ""}.`);
  showMessage("");
  byId("workspace").hidden = false;
  const [{ given, class_name: className }] = entries;
  const name = element("b", {}, element("bdi", {}, className));
  if (given === -1) byId("question").replaceChildren("Is ", name, " in these images? Press those where it is not.");
  else byId("question").replaceChildren(given === 1 ? "Labelled " : "Labelled without ", name, ": press the ones where that is wrong.");
  byId("given").textContent = `${entries.length} of ${numLeft}, ${words.order[state.order]}. Enter confirms the rest.`;
  showVerdicts();
  buttons()[0].focus({ preventScroll: true });
  announce(byId("question").textContent);
}

function cellOf(entry) {
  const cell = clone("one-of-many");
  const image = cell.querySelector("img");
  image.addEventListener("load", () => {
    const { naturalWidth, naturalHeight } = image;
    const sheet = image.parentElement;
    sheet.style.aspectRatio = `${naturalWidth} / ${naturalHeight}`;
    sheet.style[naturalWidth >= naturalHeight ? "width" : "height"] = "100%";
  });
  image.src = `/thumbnails/${entry.row}?v=${version}`;
  watchState(image, () => cell.isConnected && showVerdicts());
  cell.querySelector(".score").textContent = probabilityText(entry.probability);
  cell.querySelector(".id").textContent = entry.image;
  const button = cell.firstElementChild;
  button.title = entry.image;
  button.addEventListener("click", () => {
    if (!isShown(button)) return notify(NOT_SHOWN[stateOf(button) ?? "loading"]);
    button.setAttribute("aria-pressed", String(!isWrong(button)));
    showVerdicts();
  });
  if (entry.given === 1) drawBoxes(entry, image.parentElement);
  return cell;
}

async function drawBoxes(entry, sheet) {
  const { boxes } = await fetchJson(`/api/images/${entry.row}/boxes`).catch(() => ({ boxes: [] }));
  const own = boxes.filter(({ class_name: name }) => name === entry.class_name);
  sheet.append(...own.map((box) => boxFrame(box, { isOwn: true })));
}

/** Show what each label will be. Nobody decides about an image that is not shown. */
function showVerdicts() {
  const all = buttons();
  for (const [index, button] of all.entries()) {
    const { given } = entries[index];
    const label = LABELS[isWrong(button) ? wrongLabel(given) : rightLabel(given)];
    button.querySelector(".verdict").textContent = isShown(button) ? label : stateOf(button) ? "not shown" : "";
  }
  const shown = all.filter(isShown);
  const numWrong = shown.filter(isWrong).length;
  const isLoading = !all.every(stateOf);
  const numHidden = all.length - shown.length;
  const counts = `Save: ${numWrong} wrong, ${shown.length - numWrong} right${numHidden ? `, ${numHidden} not shown` : ""} `;
  byId("confirm").disabled = isLoading || isBusy || !isDrawn || !shown.length;
  byId("confirm").replaceChildren(isLoading ? "Images are loading …" : counts, element("kbd", {}, "enter"));
}

function showMessage(text) {
  byId("state").textContent = text;
  byId("state").hidden = !text;
  if (text) byId("workspace").hidden = true;
}

// ---- deciding ----

/** Save what the page shows now, in its turn. */
function confirm() {
  if (byId("confirm").disabled) return;
  const answers = buttons().map((button, index) => ({ entry: entries[index], isWrong: isWrong(button), isShown: isShown(button) }));
  isBusy = true;
  showVerdicts();
  inTurn(() => save(answers)).finally(() => {
    isBusy = false;
    showVerdicts();
  });
}

async function save(answers, { leaveOut = false } = {}) {
  const decisions = answers.filter((answer) => answer.isShown).map(({ entry, isWrong }) => ({
    image: entry.image, class_name: entry.class_name, based_on: entry.number, label: isWrong ? wrongLabel(entry.given) : rightLabel(entry.given),
  }));
  try {
    const name = await requireReviewer();
    if (!name) return notify("Nothing is saved: a decision needs a name.");
    const batch = await post("/api/review/batch", { decisions, reviewer: name, leave_out_conflicts: leaveOut });
    own.push(batch.batch);
    byId("standing").textContent = `${batch.num_labels} saved. z undoes them.`;
    showWorth();
    for (const { entry, isShown } of answers) if (!isShown) skipped.add(entry.image);
    await draw();
  } catch (error) {
    const numConflicts = error.status === 409 ? error.answer.num_conflicts : 0;
    if (!numConflicts) return notify(error.message);
    const text = `Nothing is saved yet: ${error.message}. They can be left as they are.`;
    if (await askWhether({ title: "Other decisions came first", text, yes: `Save the other ${decisions.length - numConflicts}` })) return save(answers, { leaveOut: true });
    await draw();
  }
}

const undoLast = () => inTurn(undoNow);

async function undoNow() {
  try {
    const row = await undo({ batch: own.at(-1) ?? 0 });
    own.pop();
    showWorth();
    byId("standing").textContent = row.batch === undefined ? `Undone: ${row.class_name} in ${row.image}.` : undoneText(row);
    await draw();
  } catch (error) {
    if (error.status === 404 || error.status === 409) own.pop();
    notify(error.status === 404 ? "Nothing is left to undo." : `Nothing is undone: ${error.message}`);
  }
}

function skip() {
  isDrawn = false; // nor are they confirmed before others are there
  return inTurn(() => {
    for (const { image } of entries) skipped.add(image);
    return draw();
  });
}

// ---- controls and keys ----

function change(changes) {
  state = { ...state, ...changes };
  skipped = new Set();
  draw();
}

function step(by) {
  const all = buttons();
  const from = all.indexOf(document.activeElement);
  all[Math.max(0, Math.min(all.length - 1, from < 0 ? 0 : from + by))]?.focus();
}

const numColumns = () => getComputedStyle(byId("many")).gridTemplateColumns.split(" ").length;

bind(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "move between the images; space presses one", ({ key }) =>
  step({ ArrowLeft: -1, ArrowRight: 1, ArrowUp: -numColumns(), ArrowDown: numColumns() }[key]));
bind("Enter", "save: what is pressed is wrong, the rest is right", (event) => {
  if (event.target.matches("button, a, summary") && !byId("many").contains(event.target)) return false;
  if (!event.repeat) confirm();
});
bind("s", "skip these", () => void skip());
bind("z", "undo your last batch", (event) => void (event.repeat || undoLast()), { isHeld: false });

byId("confirm").addEventListener("click", () => confirm());
byId("skip").addEventListener("click", skip);
byId("undo").addEventListener("click", undoLast);
byId("controls").addEventListener("change", () => change({ kind: byId("kind").value, order: byId("order").value, class: byId("class").value }));
byId("reviewer").addEventListener("click", () => requireReviewer({ change: true }));
document.addEventListener("polytag:reviewer", showReviewer);
document.addEventListener("polytag:reviewer", () => (own.length = 0)); // those were another reviewer's
onClassChosen([...byId("class").options].map((option) => option.value).filter(Boolean), (name) => change({ class: name }));

function showReviewer() {
  byId("reviewer").hidden = false;
  byId("reviewer").textContent = reviewer() ? `Reviewer: ${reviewer()}` : "Your name";
}

showReviewer();
showWorth();
await draw();
