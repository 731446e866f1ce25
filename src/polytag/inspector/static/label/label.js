// The page that labels images which have no labels: one image after another, with what the model predicts already chosen.
// Saving sends the labels of all classes at once; the next image is shown when the server has them on its disk.
import { kept, pageAddress, withParameters, writeAddress } from "../shared/address.js";
import { fetchJson, post } from "../shared/api.js";
import { requireReviewer, reviewer } from "../shared/decide.js";
import { LABELS, button, byId, element, version } from "../shared/dom.js";
import { announce, bind } from "../shared/frame.js";
import { fitImage } from "../shared/fit.js";
import { goToClass, onClassChosen } from "../shared/go-to-class.js";
import { NOT_SHOWN, watchState } from "../shared/shown.js";
import { probabilityText } from "../review/text.js";

const PART = 1000; // images of the list that are asked for at once
const NUM_KEYS = 9;

let images = []; // {row, image, is_labelled}, in the order of the list
let index = 0; // of the current one; the number of images at the end
let classes = []; // of the current image, highest probability first: {class_name, probability, decision, number, label}
let isSaving = false;
let imageState = "loading"; // or "shown", "missing", "failed": nobody labels an image that is not shown

const current = () => images[index];
const sourceOf = (entry) => `/images/${entry.row}?v=${version}`;

// ---- the list ----

async function loadList() {
  for (let total = Infinity; images.length < total; ) {
    const answer = await fetchJson("/api/review/images?" + withParameters("", { limit: PART, offset: images.length }));
    total = answer.total;
    images.push(...answer.images);
    if (!answer.images.length) break;
  }
}

/** The index of the first image after `from` that is not labelled, or of the first of all; the length where there is none. */
function nextOpen(from) {
  const after = images.findIndex((each, place) => place > from && !each.is_labelled);
  const first = images.findIndex((each) => !each.is_labelled);
  return after >= 0 ? after : first >= 0 ? first : images.length;
}

function showCounts() {
  const numLabelled = images.filter((each) => each.is_labelled).length;
  byId("counts").textContent = `${numLabelled.toLocaleString("en")} of ${images.length.toLocaleString("en")} images labelled`;
  byId("done").max = images.length || 1;
  byId("done").value = numLabelled;
}

// ---- one image ----

async function goTo(next) {
  index = Math.max(0, Math.min(images.length, next));
  const entry = current();
  writeAddress(withParameters("", { id: entry?.image ?? null, ...kept() }));
  byId("workspace").hidden = !entry;
  byId("state").hidden = Boolean(entry);
  byId("standing").textContent = "";
  classes = [];
  byId("choices").replaceChildren();
  showCounts();
  if (!entry) return showEnd();
  byId("id").textContent = byId("full").alt = entry.image;
  byId("open").href = pageAddress("/image", { id: entry.image });
  byId("back").disabled = index === 0;
  byId("stage-status").textContent = "";
  imageState = "loading";
  delete byId("full").dataset.state;
  byId("full").src = sourceOf(entry);
  showUnseen();
  try {
    await loadClasses(entry);
  } catch (error) {
    byId("standing").textContent = error.message;
  }
  if (images[index + 1]) new Image().src = sourceOf(images[index + 1]);
}

/** Where the image cannot be shown, say so and offer the next one. */
function showUnseen() {
  const problem = { missing: NOT_SHOWN.missing, failed: NOT_SHOWN.failed }[imageState];
  byId("save").disabled = Boolean(problem);
  byId("unseen").hidden = !problem;
  if (!problem) return;
  byId("unseen").replaceChildren(element("p", {}, problem), button("Next image", () => goTo(index + 1)));
  announce(problem);
}

async function loadClasses(entry) {
  const answer = await fetchJson("/api/review/labels?" + new URLSearchParams({ image: entry.image }));
  if (entry !== current()) return;
  classes = answer.classes
    .map((each) => ({ ...each, label: each.decision?.label ?? Number(each.is_predicted) }))
    .sort((a, b) => b.probability - a.probability);
  drawChoices();
  const present = classes.filter(({ label }) => label === 1).map(({ class_name }) => class_name);
  announce(`Image ${index + 1} of ${images.length}. ${present.join(", ") || "nothing"} chosen.`);
}

function drawChoices() {
  const focused = byId("choices").contains(document.activeElement) ? document.activeElement.dataset.key : null;
  byId("choices").replaceChildren(...classes.map(choice));
  if (focused) [...byId("choices").querySelectorAll("button")].find(({ dataset }) => dataset.key === focused)?.focus({ preventScroll: true });
}

function choice(each, place) {
  const isPressed = (label) => String(each.label === label);
  const choose = button("", () => set(each, each.label === 1 ? 0 : 1), { class: "choose", "aria-pressed": isPressed(1) });
  const key = place < NUM_KEYS ? element("kbd", {}, String(place + 1)) : element("span");
  const score = each.probability === null ? "" : probabilityText(each.probability);
  choose.append(key, element("span", { "data-name": "", title: each.class_name }, element("bdi", {}, each.class_name)), element("span", { class: "score" }, score));
  const doubt = button("?", () => set(each, each.label === -1 ? 0 : -1), {
    class: "doubt", "aria-pressed": isPressed(-1), "aria-label": `${each.class_name}: unknown`, title: "The image does not show it",
  });
  choose.dataset.key = "choose " + each.class_name;
  doubt.dataset.key = "doubt " + each.class_name;
  return element("li", {}, choose, doubt);
}

function set(each, label) {
  each.label = label;
  drawChoices();
  announce(`${each.class_name}: ${LABELS[label]}`);
}

/** Choose a class that was found by its name, and show where it is. */
function choosePresent(name) {
  const each = classes.find(({ class_name }) => class_name === name);
  if (!each) return;
  set(each, 1);
  const made = [...byId("choices").querySelectorAll(".choose")].find(({ dataset }) => dataset.key === `choose ${name}`);
  made.scrollIntoView({ block: "nearest" });
}

function showEnd() {
  const text = images.length ? "All images of the list are labelled. " : "Every image has labels already. ";
  const commands = images.length ? "End polytag with Ctrl-C in its terminal: it shows what comes next. " : "";
  const back = button("Back", () => goTo(index - 1));
  byId("state").replaceChildren(text, commands, ...(images.length ? [back] : []));
  announce(text);
}

// ---- saving ----

async function save() {
  const entry = current();
  if (!entry || isSaving) return;
  if (imageState !== "shown") return announce(NOT_SHOWN[imageState]);
  if (!classes.length) return announce(NOT_SHOWN.loading);
  const name = await requireReviewer();
  if (!name) return (byId("standing").textContent = "Nothing is saved: labels need the name of a reviewer.");
  if (entry !== current()) return;
  const labels = classes
    .filter(({ decision, label }) => decision?.label !== label)
    .map(({ class_name, label, number }) => ({ class_name, label, based_on: number }));
  isSaving = true;
  try {
    if (labels.length) await post("/api/review/image", { image: entry.image, labels, reviewer: name });
    entry.is_labelled = true;
  } catch (error) {
    await explain(entry, error);
    return;
  } finally {
    isSaving = false;
  }
  goTo(nextOpen(index));
}

/** Nothing was saved. Where somebody else labelled the image meanwhile, show what they chose. */
async function explain(entry, error) {
  if (error.status === 409) await loadClasses(entry).catch(() => {});
  byId("standing").textContent = error.status === 409
    ? "Nothing is saved: somebody else labelled this image meanwhile. Their labels are chosen now; change or save them."
    : `Nothing is saved: ${error.message}`;
  announce(byId("standing").textContent);
}

// ---- controls and keys ----

function showReviewer() {
  byId("reviewer").hidden = false;
  byId("reviewer").textContent = reviewer() ? `Reviewer: ${reviewer()}` : "Your name";
}
byId("reviewer").addEventListener("click", () => requireReviewer({ change: true }));
document.addEventListener("polytag:reviewer", showReviewer);

watchState(byId("full"), (state) => {
  imageState = state;
  showUnseen();
});
onClassChosen(null, choosePresent, { title: "Which class is in the image?" });
byId("find-class").addEventListener("click", () => goToClass());
byId("save").addEventListener("click", save);
byId("back").addEventListener("click", () => goTo(index - 1));
byId("skip").addEventListener("click", () => goTo(index + 1));
fitImage(byId("stage"), byId("sheet"), byId("full"));

bind("Enter", "save the labels of this image, and show the next one", (event) => {
  if (event.target.matches?.("button, a")) return false;
  if (!event.repeat) save();
}, { isHeld: false });
for (let place = 0; place < NUM_KEYS; place++) {
  bind(String(place + 1), `class ${place + 1} is present, or not`, () => {
    const each = classes[place];
    if (each) set(each, each.label === 1 ? 0 : 1);
  }, { isHeld: false });
}
async function start() {
  try {
    await loadList();
    const wanted = images.findIndex(({ image }) => image === new URLSearchParams(location.search).get("id"));
    await goTo(wanted >= 0 ? wanted : nextOpen(-1));
  } catch (error) {
    byId("state").hidden = false;
    byId("state").textContent = error.message;
  }
}

showReviewer();
const started = start();
bind("ArrowRight", "skip to the next image", () => void started.then(() => goTo(index + 1)));
bind("ArrowLeft", "back to the previous image", () => void started.then(() => goTo(index - 1)));
