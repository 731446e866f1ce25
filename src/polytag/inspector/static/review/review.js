// Review: one label after another. A decision moves on to the next label at once, and counts when the server has acknowledged it.
import { fetchJson, bind, element, announce, version, withParameters } from "../shared/frame.js";
import { layHeat } from "../shared/heat.js";
import { LABELS, named, reviewer, undo } from "../shared/labels.js";
import { Outbox } from "./outbox.js";
import { Past } from "./past.js";
import { ReviewQueue } from "./queue.js";
import { drawStrip } from "./strip.js";
import { showTroubles } from "./problems.js";
import { numberOf, standingOf } from "./text.js";
import { fitted } from "../shared/sheet.js";

const $ = (id) => document.getElementById(id);
const NUM_AHEAD = 3; // images that are fetched before they are shown
const KINDS = { issues: "suspicious labels", unknown: "unknown labels", all: "labels" };

let queue; // of what the address asks
let place = 0; // in it; at its length nothing is left
let isShown = false; // whether the image can be seen: nobody decides blindly
let isUndoing = false;
let isHeated = false;
let progress = null;
const own = []; // numbers of this page's decisions, to be taken back one by one
const conflicts = new Map(); // entry: {wanted, current}
const ahead = new Map(); // images that are being fetched
const past = new Past($("past"));
const outbox = new Outbox({
  key: "polytag.unsaved." + version,
  onSaved(job, row) {
    own.push(row.number);
    const entry = queue?.get(job.image, job.className);
    if (entry) Object.assign(entry, { decision: row, number: row.number });
    settled();
  },
  onConflict(job, current) {
    const entry = queue?.get(job.image, job.className) ?? { image: job.image, class_name: job.className };
    Object.assign(entry, { decision: current?.label === null ? null : current, number: current?.number ?? 0 });
    conflicts.set(job.image + "\n" + job.className, { wanted: job, current });
    settled();
  },
  onChange() {
    showTrouble();
    if (queue) showEntry();
  },
});

const current = () => queue?.entries[place];
const waiting = (entry) => outbox.of({ image: entry.image, className: entry.class_name });
const contested = (entry) => conflicts.get(entry.image + "\n" + entry.class_name);
const isOpen = (entry) => !entry.decision && !waiting(entry);

// ---- the queue ----

async function open() {
  const address = new URLSearchParams(location.search);
  queue = new ReviewQueue({ kind: address.get("kind") || "issues", class: address.get("class") ?? "", decided: address.has("decided") });
  $("kind").value = queue.asked.kind;
  $("class").value = queue.asked.class;
  $("decided").checked = queue.asked.decided;
  isHeated = address.has("heat");
  past.className = queue.asked.class;
  past.show();
  const mine = queue;
  $("workspace").hidden = true;
  try {
    let answer = await mine.more();
    while (mine === queue && answer.status === "computing") {
      tell("The model’s doubts about the labels are being computed, once.");
      await new Promise((done) => setTimeout(done, 400));
      answer = await mine.more();
    }
    if (mine !== queue) return;
    const [id, className] = [address.get("id"), address.get("label")];
    let wanted;
    if (id && className) wanted = mine.get(id, className) ?? (await mine.refresh(id, className, 0).catch(() => undefined));
    if (mine !== queue) return;
    place = wanted ? mine.entries.indexOf(wanted) : queue.asked.decided ? 0 : mine.nextOpen(-1, isOpen);
    $("state").dataset.reason = answer.reason ?? "";
    show();
  } catch (error) {
    tell(error.message);
  }
  showProgress();
}

function tell(text) {
  $("state").textContent = text;
  $("state").hidden = !text;
}

function goTo(next) {
  place = Math.max(0, Math.min(queue.entries.length, next));
  show();
  queue.near(place).then(() => (current() ? showStrip() : show()), () => {});
}

/** To the next label that nobody has decided. */
function forward() {
  goTo(queue.asked.decided ? place + 1 : queue.nextOpen(place, isOpen));
}

// ---- one label ----

function remember() {
  const entry = current();
  const changes = { id: entry?.image, label: entry?.class_name, heat: isHeated ? "1" : null };
  history.replaceState(null, "", "/review?" + withParameters(location.search, changes));
}

function show() {
  remember();
  const entry = current();
  $("workspace").hidden = !entry;
  if (!entry) return showEnd();
  tell("");
  showImage(entry);
  showEntry();
  fetchAhead();
  announce(`${$("question").textContent} ${$("given").textContent} ${$("standing").textContent}`);
}

function showEnd() {
  const skipped = queue.entries.filter(isOpen);
  const what = KINDS[queue.asked.kind] + (queue.asked.class ? ` of ${queue.asked.class}` : "");
  if ($("state").dataset.reason) return tell(`There is no list of ${what}: ${$("state").dataset.reason}.`);
  tell(skipped.length ? `The end of the list; ${skipped.length} skipped. ` : `Nothing is left to decide among the ${what}. `);
  if (skipped.length) {
    const button = element("button", { type: "button" }, "To the first that was skipped");
    button.addEventListener("click", () => goTo(queue.entries.findIndex(isOpen)));
    $("state").append(button);
  }
  if (queue.entries.length) {
    const button = element("button", { type: "button" }, "Back");
    button.addEventListener("click", () => goTo(place - 1));
    $("state").append(" ", button);
  }
}

const imageAddress = (entry) => `/images/${entry.row}?v=${version}`;

function showImage(entry) {
  const image = $("full");
  const source = imageAddress(entry);
  $("id").textContent = entry.image;
  $("open").href = "/image?" + new URLSearchParams({ class: entry.class_name, id: entry.image });
  if (image.getAttribute("src") !== source) {
    isShown = false;
    $("sheet").classList.add("loading");
    image.src = source;
  }
  image.alt = entry.image;
  showHeat();
}

$("full").addEventListener("load", () => {
  isShown = true;
  $("sheet").classList.remove("loading");
});
$("full").addEventListener("error", () => {
  isShown = true;
  $("stage-status").textContent = "The image could not be loaded.";
});
fitted($("stage"), $("sheet"), $("full"));

function fetchAhead() {
  const coming = queue.entries.slice(place + 1, place + 1 + NUM_AHEAD);
  for (const address of ahead.keys()) if (!coming.some((entry) => imageAddress(entry) === address)) ahead.delete(address);
  for (const entry of coming) {
    if (!ahead.has(imageAddress(entry))) ahead.set(imageAddress(entry), element("img", { src: imageAddress(entry) }));
  }
  // What somebody else decides about a label is known before it is shown, and never changes under the eyes.
  for (const next of [queue.entries[place + 1], queue.entries[place + NUM_AHEAD]]) {
    if (next && !waiting(next)) queue.refresh(next.image, next.class_name).then(() => showStrip(), () => {});
  }
}

function showEntry() {
  const entry = current();
  if (!entry) return;
  const job = waiting(entry);
  const conflict = contested(entry);
  $("question").replaceChildren("Is ", element("b", {}, element("bdi", {}, entry.class_name)), " in this image?");
  const model = entry.probability === null ? "" : `the model says ${numberOf(entry.probability)}`;
  $("given").replaceChildren(
    ...(entry.given === -1 ? ["The label is ", element("b", {}, "unknown")] : ["Labelled ", element("b", {}, LABELS[entry.given])]),
    model ? "; " + model + "." : ".");
  const label = job ? job.label : conflict ? null : entry.decision?.label;
  for (const button of document.querySelectorAll(".answers button")) button.setAttribute("aria-pressed", String(Number(button.dataset.label) === label));
  $("standing").classList.toggle("contested", Boolean(conflict) && !job);
  $("standing").replaceChildren(...standingOf(entry, { job, conflict, isHalted: outbox.error !== null }));
  if (document.activeElement !== $("note")) $("note").value = entry.draft ?? job?.note ?? entry.decision?.note ?? "";
  showNote();
  $("back").disabled = place === 0;
  showStrip();
}

function entryMark(entry) {
  const job = waiting(entry);
  if (job) return element("span", { class: "mark waiting" }, outbox.error ? "not saved" : "saving");
  if (contested(entry)) return element("span", { class: "mark contested" }, "conflict");
  return entry.decision ? element("span", { class: "mark" }, LABELS[entry.decision.label]) : null;
}

function showStrip() {
  drawStrip($("strip"), { entries: queue.entries, place, markOf: entryMark, choose: goTo });
}

// ---- deciding ----

async function decideHere(label) {
  const entry = current();
  if (!entry || isUndoing) return;
  if (!isShown) return announce("The image is still loading.");
  const name = await named();
  if (!name) return ($("standing").textContent = "Nothing is saved: a decision needs a name.");
  if (entry !== current()) return;
  put(entry, label, name);
  forward();
}

function put(entry, label, by) {
  const note = (entry.draft ?? entry.decision?.note ?? "").trim();
  delete entry.draft;
  conflicts.delete(entry.image + "\n" + entry.class_name);
  outbox.add({ image: entry.image, className: entry.class_name, label, note, by, basedOn: entry.number });
}

async function undoLast() {
  if (isUndoing) return;
  isUndoing = true;
  try {
    const dropped = outbox.takeBack();
    if (dropped) {
      await bringBack(dropped.image, dropped.className);
      return announce("Taken back, before it was saved.");
    }
    await outbox.idle;
    if (outbox.jobs.length) return warn("The last decision is not saved yet, so it cannot be taken back: try again, or discard it.");
    if (!(await named())) return;
    const row = await undo({ number: own.at(-1) ?? 0 });
    own.pop();
    await bringBack(row.image, row.class_name);
    announce(`Taken back. ${$("question").textContent}`);
    settled();
  } catch (error) {
    if (error.status === 409 || error.status === 404) own.pop();
    if (error.status !== 409) return warn(error.status === 404 ? "Nothing is left to take back." : `Nothing is taken back: ${error.message}`);
    const { current: row } = error.answer;
    warn(row ? `Not taken back: ${row.reviewer} decided about ${row.class_name} in ${row.image} since.` : "Not taken back: it was already.");
  } finally {
    isUndoing = false;
  }
}

/** Show a label that was decided before, wherever it is. */
async function bringBack(image, className) {
  const entry = (await queue.refresh(image, className, place).catch(() => undefined)) ?? queue.get(image, className);
  if (entry) goTo(queue.entries.indexOf(entry));
}

function settled() {
  showEntry();
  showTrouble();
  showProgress();
  past.show();
}

async function showProgress() {
  clearTimeout(showProgress.later);
  try {
    progress = await fetchJson("/api/review/progress");
  } catch {
    return; // the last numbers that were true stay
  }
  if (progress.status === "computing") showProgress.later = setTimeout(showProgress, 1000);
  const number = (value) => value.toLocaleString("en");
  const parts = [];
  if (progress.status === "ready") parts.push(`${number(progress.num_label_issues_decided)} of ${number(progress.num_label_issues)} suspicious decided`);
  else parts.push(`${number(progress.num_decided)} decided`);
  parts.push(`${number(progress.num_changed)} changed`, `${number(progress.num_confirmed)} confirmed`);
  $("counts").textContent = parts.join(" · ");
  $("done").hidden = !progress.num_label_issues;
  $("done").max = progress.num_label_issues || 1;
  $("done").value = progress.num_label_issues_decided;
}

// ---- what went wrong ----

let warning = "";

function warn(text) {
  warning = text;
  showTrouble();
}

function showTrouble() {
  showTroubles({ jobs: outbox.jobs, error: outbox.error, warning, conflicts: [...conflicts.values()] }, {
    retry: () => outbox.send(),
    discard() {
      const { image, className } = outbox.discard();
      queue.refresh(image, className).then(showEntry, () => {});
    },
    close: () => warn(""),
    look: ({ wanted }) => bringBack(wanted.image, wanted.className),
    leave({ wanted }) {
      conflicts.delete(wanted.image + "\n" + wanted.className);
      settled();
    },
  });
}

addEventListener("beforeunload", (event) => {
  if (outbox.jobs.length) event.preventDefault();
});

// ---- note ----

function showNote() {
  const entry = current();
  if (!entry) return;
  const isNew = entry.draft !== undefined && entry.draft.trim() !== (entry.decision?.note ?? "");
  $("save-note").hidden = !(isNew && entry.decision);
  $("note-status").textContent = !isNew ? "" : entry.decision ? "Not saved yet." : "It is saved with your decision.";
}

async function saveNote() {
  const entry = current();
  $("note").blur();
  if (!entry?.decision || entry.draft === undefined || waiting(entry)) return;
  const name = await named();
  if (name) put(entry, entry.decision.label, name);
}

$("note").addEventListener("input", () => {
  current().draft = $("note").value;
  showNote();
});
$("note").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  saveNote();
});
$("save-note").addEventListener("click", saveNote);

// ---- heat map ----

function showHeat() {
  $("heat")?.setAttribute("aria-pressed", String(isHeated));
  layHeat($("sheet"), $("stage-status"), $("heat") && isHeated ? current() : undefined);
}

$("heat")?.addEventListener("click", () => {
  isHeated = !isHeated;
  remember();
  showHeat();
});

// ---- the reviewer, what is reviewed, keys ----

function showReviewer() {
  $("reviewer").hidden = false;
  $("reviewer").textContent = reviewer() ? `Reviewer: ${reviewer()}` : "Your name";
}
$("reviewer").addEventListener("click", () => named({ anew: true }));
document.addEventListener("polytag:reviewer", () => {
  own.length = 0; // those were somebody else's
  showReviewer();
});

$("asked").addEventListener("change", (event) => {
  const changes = { kind: $("kind").value === "issues" ? null : $("kind").value, class: $("class").value, decided: $("decided").checked ? "1" : null };
  history.pushState(null, "", "/review?" + withParameters(location.search, { ...changes, id: null, label: null }));
  event.target.blur();
  open();
});
addEventListener("popstate", open);

const once = (run) => (event) => {
  if (!event.repeat) run(event); // a key held down decides one label
};
for (const button of document.querySelectorAll(".answers button")) button.addEventListener("click", () => decideHere(Number(button.dataset.label)));
$("back").addEventListener("click", () => goTo(place - 1));
$("skip").addEventListener("click", () => goTo(place + 1));
$("undo").addEventListener("click", undoLast);
bind(["1", "y"], "present", once(() => decideHere(1)));
bind(["0", "n"], "absent", once(() => decideHere(0)));
bind("u", "unknown: it cannot be told", once(() => decideHere(-1)));
bind(["ArrowRight", "s"], "skip: the next one", () => goTo(place + 1));
bind("ArrowLeft", "back: the one before", () => goTo(place - 1));
bind("z", "take your last decision back", once(undoLast));
bind("m", "write a note; enter saves it, escape leaves it", () => $("note").focus());
if ($("heat")) bind("h", "heat map", () => $("heat").click());
bind("l", "decisions so far", () => ($("past").open = !$("past").open));

showReviewer();
showTrouble();
await open();
outbox.send(); // what an earlier visit of this tab could not save
