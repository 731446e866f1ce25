// The review page: one label after another. A decision shows the next label at once, and counts once the server acknowledges it.
// Every change takes one path: state, address, view. Back and Forward read the state from the address again.
import { withParameters, writeAddress } from "../shared/address.js";
import { pause } from "../shared/debounce.js";
import { bindLabelKeys, inTurn, requireReviewer, reviewer } from "../shared/decide.js";
import { LABELS, button, byId, element, words } from "../shared/dom.js";
import { announce, bind } from "../shared/frame.js";
import { onClassChosen } from "../shared/go-to-class.js";
import { NOT_SHOWN } from "../shared/shown.js";
import { Decisions } from "./decisions.js";
import { PastDecisions } from "./past.js";
import { showProgress, showSecondLeft } from "./progress.js";
import { questionText, showNoteStatus, showQuestion } from "./question.js";
import { ReviewQueue } from "./queue.js";
import { imageState, loadAgain, preload, showHeat, showImage, watchImage } from "./stage.js";
import { haveSameQueue, includesDecided, queryOf, readState } from "./state.js";
import { drawStrip } from "./strip.js";
import { bindSwipe } from "./swipe.js";
import { showWorth } from "./worth.js";

const NUM_AHEAD = 3; // images that are loaded before they are shown
const POLL_MS = 400;

let state = readState(location.search);
let queue = null; // of the state
let index = 0; // of the current label; the length of the queue at its end
let drawn = Promise.resolve(); // the draw in progress, for which keys wait
let unavailable = ""; // why the server has no queue

const past = new PastDecisions(byId("past"));
const decisions = new Decisions({
  find: (image, className) => queue?.get(image, className),
  refresh: (image, className) => queue.refresh(image, className),
  bringBack,
  onChange: () => queue && showEntry(),
  onSaved: showReview,
});

const current = () => queue?.entries[index];
const isSecond = () => state.kind === "second"; // the decisions of others, and all that tells them, are hidden
const isOpen = (entry) => !entry.decision && !decisions.jobOf(entry);

// ---- state, address, view ----

/** Change the state, its address and the view; `push` makes a new entry of the history. */
function change(changes, { push = false } = {}) {
  state = { ...state, ...changes };
  writeAddress(queryOf(state), { push });
  draw();
}

addEventListener("popstate", () => {
  state = readState(location.search);
  draw();
});

/** Show the state: the controls, the queue, and the label that it names or the first open one. */
function draw() {
  return (drawn = drawNow());
}

async function drawNow() {
  byId("kind").value = state.kind;
  byId("order").value = state.order;
  byId("class").value = state.class;
  byId("decided").checked = state.decided;
  document.body.classList.toggle("blind", isSecond());
  byId("many").search = withParameters("", {
    view: "grid", kind: state.kind === "unknown" ? "unknown" : null, order: state.order === "suspicion" ? null : state.order, class: state.class,
    against: state.against,
  });
  if (queue && haveSameQueue(queue.filters, state) && state.id) {
    const found = queue.get(state.id, state.label);
    if (found) index = queue.indexOf(found);
    return show();
  }
  const by = isSecond() ? reviewer() : "";
  const loading = (queue = new ReviewQueue({ kind: state.kind, order: state.order, class: state.class, decided: state.decided, reviewer: by }));
  byId("workspace").hidden = true;
  past.className = state.class;
  past.show();
  if (isSecond() && !by) loading.isWhole = true; // without a name nothing is listed
  try {
    const answer = await firstPart(loading);
    const wanted = answer && (await wantedEntry(loading));
    if (loading !== queue) return; // another queue was opened meanwhile
    unavailable = answer.reason ?? "";
    index = wanted ? queue.indexOf(wanted) : state.decided ? 0 : queue.next(-1, isOpen);
    show();
  } catch (error) {
    if (loading === queue) showMessage(error.message);
  }
  showReview();
}

/** Show what has become of the review; of second opinions only how many are left, which tells nothing of what others decided. */
function showReview() {
  if (isSecond()) return void showSecondLeft(reviewer(), state.class);
  showProgress();
  showWorth();
  past.show();
}

/** Load the first part of a queue, as soon as the server has computed it; undefined where another queue was opened meanwhile. */
async function firstPart(loading) {
  for (;;) {
    const answer = await loading.more();
    if (loading !== queue) return undefined;
    if (answer.status !== "computing") return answer;
    showMessage("The model’s doubts about the labels are being computed, once.");
    await pause(POLL_MS);
  }
}

/** Return the entry that the state names; one that is not in the list is put at its beginning. */
async function wantedEntry(loading) {
  const { id, label } = state;
  if (!id || !label) return undefined;
  return loading.get(id, label) ?? (await loading.refresh(id, label, 0).catch(() => undefined));
}

// ---- one label ----

function goTo(next) {
  index = Math.max(0, Math.min(queue.entries.length, next));
  show();
  const mine = queue;
  const showMore = () => (current() && !byId("workspace").hidden ? showStrip() : show()); // it was the end of the list until then
  queue.loadAhead(index).then(() => mine === queue && showMore(), () => {});
}

/** Go to the next label that nobody has decided. */
function forward() {
  goTo(state.decided ? index + 1 : queue.next(index, isOpen));
}

/** Show the label at the index, and write it into the address. */
function show() {
  const entry = current();
  state = { ...state, id: entry?.image ?? "", label: entry?.class_name ?? "" };
  writeAddress(queryOf(state));
  byId("workspace").hidden = !entry;
  if (!entry) return showEnd();
  showMessage("");
  showImage(entry, { hasHeat: state.heat });
  showEntry();
  loadAhead();
  announce(questionText());
}

function showEntry() {
  const entry = current();
  if (!entry) return;
  showQuestion(entry, { job: decisions.jobOf(entry), conflict: decisions.conflictOf(entry), isHalted: decisions.isHalted });
  showUnseen();
  byId("back").disabled = index === 0;
  showStrip();
}

/** Where the image cannot be shown, say so and offer the next label in place of the answers. */
function showUnseen() {
  const problem = { missing: NOT_SHOWN.missing, failed: NOT_SHOWN.failed }[imageState()];
  for (const each of document.querySelectorAll(".answers button")) each.disabled = Boolean(problem);
  byId("unseen").hidden = !problem;
  if (!problem || byId("unseen").dataset.text === problem + index) return;
  byId("unseen").dataset.text = problem + index;
  const again = imageState() === "failed" ? [button("Try again", loadAgain), " "] : [];
  byId("unseen").replaceChildren(element("p", {}, problem), ...again, button("Next label", () => goTo(index + 1)));
  announce(problem);
}

watchImage(() => current() && showUnseen());

function showStrip() {
  drawStrip(byId("strip"), { entries: queue.entries, index, markOf, choose: goTo });
}

function markOf(entry) {
  if (decisions.jobOf(entry)) return element("span", { class: "mark waiting" }, decisions.isHalted ? "not saved" : "saving");
  if (decisions.conflictOf(entry)) return element("span", { class: "mark contested" }, "conflict");
  return entry.decision ? element("span", { class: "mark" }, LABELS[entry.decision.label]) : null;
}

/** Load the next images, and the decisions of others about the next labels, before they are shown. */
function loadAhead() {
  const { entries } = queue;
  preload(entries.slice(index + 1, index + 1 + NUM_AHEAD));
  for (const next of [entries[index + 1], entries[index + NUM_AHEAD]]) {
    if (next && !decisions.jobOf(next)) queue.refresh(next.image, next.class_name).then(showStrip, () => {});
  }
}

function showMessage(...nodes) {
  byId("state").replaceChildren(...nodes);
  byId("state").hidden = !byId("state").textContent;
}

function showEnd() {
  if (isSecond() && !queue.filters.reviewer) return showMessage("Labels that you decided yourself are left out, so this list needs your name. ", button("Your name", () => requireReviewer()));
  const kind = { all: "labels", second: "labels that others decided" }[state.kind] ?? words.kind[state.kind];
  const what = kind + (state.class ? ` of ${state.class}` : "");
  if (unavailable) return showMessage(`There is no list of ${what}: ${unavailable}.`);
  const numSkipped = queue.entries.filter(isOpen).length;
  const text = numSkipped ? `The end of the list; ${numSkipped} skipped. ` : `Nothing is left to decide among the ${what}. `;
  const toSkipped = button("To the first that was skipped", () => goTo(queue.next(-1, isOpen)));
  const back = button("Back", () => goTo(index - 1));
  showMessage(text, ...(numSkipped ? [toSkipped, " "] : []), ...(queue.entries.length ? [back] : []));
}

// ---- deciding ----

const decideHere = (label) => inTurn(() => decideNow(label));
const undoLast = () => inTurn(() => decisions.undoLast());

async function decideNow(label) {
  const entry = current();
  if (!entry) return;
  if (imageState() !== "shown") return announce(NOT_SHOWN[imageState()]);
  const name = await requireReviewer();
  if (!name) return (byId("standing").textContent = "Nothing is saved: a decision needs a name.");
  if (entry !== current()) return;
  decisions.add(entry, label, name, { isBlind: isSecond() });
  forward();
}

/** Show a label that was decided before, wherever it is. */
async function bringBack(image, className) {
  const entry = (await queue.refresh(image, className, index).catch(() => undefined)) ?? queue.get(image, className);
  if (entry) goTo(queue.indexOf(entry));
}

async function saveNote() {
  const entry = current();
  byId("note").blur();
  if (!entry?.decision || entry.draft === undefined || decisions.jobOf(entry)) return;
  const name = await requireReviewer();
  if (name) decisions.add(entry, entry.decision.label, name, { isBlind: isSecond() });
}

byId("note").addEventListener("input", () => {
  current().draft = byId("note").value;
  showNoteStatus(current());
});
byId("note").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  saveNote();
});
byId("save-note").addEventListener("click", saveNote);

// ---- controls and keys ----

function showReviewer() {
  byId("reviewer").hidden = false;
  byId("reviewer").textContent = reviewer() ? `Reviewer: ${reviewer()}` : "Your name";
}
byId("reviewer").addEventListener("click", () => requireReviewer({ change: true }));
document.addEventListener("polytag:reviewer", () => {
  showReviewer();
  if (!isSecond()) return;
  queue = null; // it was another reviewer's
  change({ id: "", label: "" });
});

byId("controls").addEventListener("change", (event) => {
  const kind = byId("kind").value;
  const decided = includesDecided(kind, state.kind !== "disputed" && byId("decided").checked);
  change({ kind, order: byId("order").value, class: byId("class").value, decided, id: "", label: "" }, { push: true });
});
const classNames = [...byId("class").options].map(({ value }) => value).filter(Boolean);
onClassChosen(classNames, (name) => change({ class: name, id: "", label: "" }, { push: true }), { title: "Review which class?" });
byId("heat")?.addEventListener("click", () => {
  state = { ...state, heat: !state.heat };
  writeAddress(queryOf(state));
  showHeat(current(), { hasHeat: state.heat });
});
for (const each of document.querySelectorAll(".answers button")) each.addEventListener("click", () => decideHere(Number(each.dataset.label)));
bindSwipe(byId("stage"), byId("sheet"), decideHere);
byId("back").addEventListener("click", () => goTo(index - 1));
byId("skip").addEventListener("click", () => goTo(index + 1));
byId("undo").addEventListener("click", undoLast);

const isHeldDown = (event) => event?.repeat; // a key that is held down decides one label
bindLabelKeys((word, value) => (value === -1 ? "unknown: the image does not show it" : word), (value, event) => !isHeldDown(event) && decideHere(value));
bind(["ArrowRight", "s"], "skip to the next label", () => void drawn.then(() => goTo(index + 1)));
bind("ArrowLeft", "back to the previous label", () => void drawn.then(() => goTo(index - 1)));
bind("z", "undo your last decision", (event) => void (isHeldDown(event) || undoLast()), { isHeld: false });
bind("m", "write a note; enter saves it, escape leaves it", () => byId("note").focus());
if (byId("heat")) bind("h", "heat map", () => byId("heat").click());
bind("l", "decisions so far", () => isSecond() || (byId("past").open = !byId("past").open));

showReviewer();
if (!isSecond()) showWorth();
decisions.showProblems();
await draw();
decisions.outbox.send(); // decisions that an earlier visit of this tab could not save
