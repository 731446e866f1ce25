// The predict page: images of the visitor become cards, and the model predicts one after another.
import { byId, button, clone, element, nameOf } from "../shared/dom.js";
import { fitImage } from "../shared/fit.js";
import { announce, bind } from "../shared/frame.js";
import { LIMIT, showNearest } from "../shared/nearest.js";
import { takeFiles } from "../shared/take-files.js";
import { inTurn, postFile } from "./requests.js";

const MAX_BYTES = Number(byId("zone").dataset.maxBytes);
const MIB = 1024 ** 2;
const HEAT_HINT = "Choose a class to see where the model looks for it.";

// ---- a card ----

const cards = []; // the newest first

function makeCard(file) {
  const card = { file, state: "waiting", abort: new AbortController(), address: URL.createObjectURL(file), heats: new Map() };
  card.image = element("img", { alt: file.name, decoding: "async" });
  card.sheet = element("div", { class: "look-sheet" }, card.image);
  const stage = element("div", { class: "stage" }, card.sheet);
  card.size = element("span", { class: "count" });
  card.heatStatus = element("p", { class: "count heat-status", role: "status" });
  card.found = element("div", { class: "found", "aria-live": "polite" });
  const remove = button("Remove", () => removeCard(card), { class: "quiet", "aria-label": `Remove ${file.name}` });
  card.element = element("li", { class: "card", tabindex: "-1", "aria-label": file.name },
    element("header", {}, element("h2", { title: file.name }, element("bdi", {}, file.name)), card.size, remove),
    element("div", { class: "body" }, element("div", {}, stage, card.heatStatus), card.found),
    (card.similar = element("div", { class: "similar" })));
  fitImage(stage, card.sheet, card.image);
  card.image.addEventListener("load", () => (card.size.textContent = `${card.image.naturalWidth} × ${card.image.naturalHeight}`));
  card.image.addEventListener("error", () => {
    stage.classList.add("empty-stage");
    stage.replaceChildren(element("p", { class: "undrawn" }, "This browser cannot draw this file."));
  });
  card.image.src = card.address;
  return card;
}

function report(card, text) {
  card.found.replaceChildren(element("p", { class: "verdict" }, text));
}

async function predict(card) {
  card.state = "waiting";
  report(card, "Waiting in the queue.");
  showCounts();
  try {
    if (card.file.size > MAX_BYTES) throw new Error(`Too large: ${(card.file.size / MIB).toFixed(1)} MiB, and at most ${Math.floor(MAX_BYTES / MIB)} can be sent.`);
    if (!card.file.size) throw new Error("The file is empty.");
    const answer = await inTurn(async () => {
      if (card.abort.signal.aborted) return null;
      report(card, "The model is predicting.");
      const response = await postFile("/api/predict", card.file, {
        signal: card.abort.signal,
        onBusy: (seconds) => report(card, `The model is busy. Trying again in ${seconds} s.`),
      });
      return response.json();
    });
    if (!answer) return;
    card.state = "done";
    showClasses(card, answer);
  } catch (error) {
    if (error.name === "AbortError") return;
    card.state = "failed";
    showProblem(card, error);
  }
  showCounts();
}

function showProblem(card, error) {
  const text = error.message.charAt(0).toUpperCase() + error.message.slice(1).replace(/[^.?]$/, "$&.");
  card.found.replaceChildren(element("p", { class: "problem-text" }, text));
  if (!error.canRetry) return;
  card.found.append(element("div", { class: "line" }, button("Try again", () => predict(card))));
}

function bar({ probability, threshold }) {
  const drawn = clone("bar");
  drawn.querySelector(".fill").setAttribute("width", (100 * probability).toFixed(2));
  drawn.querySelector(".tick").setAttribute("x", (100 * threshold - 0.4).toFixed(2));
  return drawn;
}

function showClasses(card, answer) {
  const rowOf = (each) => {
    const title = `threshold ${each.threshold.toFixed(3)}; press for the heat map`;
    const made = element("button", { type: "button", class: each.is_present ? "above" : "below", "aria-pressed": "false", title },
      nameOf(each.name), bar(each), element("span", { class: "score" }, each.text));
    made.addEventListener("click", () => showHeat(card, each.name, made));
    return element("li", {}, made);
  };
  const above = answer.classes.filter((each) => each.is_present); // the highest first
  const below = answer.classes.filter((each) => !each.is_present);
  const names = above.flatMap((each, place) => [...(place ? [", "] : []), nameOf(each.name)]);
  const verdict = above.length
    ? element("p", { class: "verdict" }, "Above their thresholds: ", element("b", {}, ...names), ".")
    : element("p", { class: "verdict" }, "No class is above its threshold.");
  const parts = [verdict];
  if (above.length) parts.push(element("ol", { class: "foundlist" }, ...above.map(rowOf)));
  if (below.length) {
    const summary = element("summary", {}, below.length === 1 ? "1 class below its threshold" : `${below.length} classes below their thresholds`);
    parts.push(element("details", { open: !above.length }, summary, element("ol", { class: "foundlist" }, ...below.map(rowOf))));
  }
  card.found.replaceChildren(...parts);
  card.similar.replaceChildren(button("Similar images", () => showSimilar(card), { class: "quiet" }));
  if (card.isAlone) showSimilar(card, { begin: false });
  card.heatStatus.textContent = HEAT_HINT;
  announce(`${card.file.name}: ${verdict.textContent}`);
}

// ---- heat maps ----

async function showHeat(card, className, button) {
  const isOn = button.getAttribute("aria-pressed") === "true";
  for (const each of card.found.querySelectorAll("[aria-pressed]")) each.setAttribute("aria-pressed", "false");
  card.sheet.querySelector(".heat")?.remove();
  card.heatStatus.textContent = HEAT_HINT;
  card.heatOf = isOn ? null : className;
  if (isOn) return;
  button.setAttribute("aria-pressed", "true");
  card.heatStatus.textContent = "heat map …";
  try {
    if (!card.heats.has(className)) {
      const path = "/api/predict/heat?" + new URLSearchParams({ class: className });
      const onBusy = (seconds) => card.heatOf === className && (card.heatStatus.textContent = `The model is busy. Trying again in ${seconds} s.`);
      const response = await inTurn(() => postFile(path, card.file, { signal: card.abort.signal, onBusy }), { first: true });
      card.heats.set(className, URL.createObjectURL(await response.blob()));
    }
    if (card.heatOf !== className) return; // another class was chosen meanwhile
    card.sheet.append(element("img", { class: "heat", src: card.heats.get(className), alt: `Where the model looks for ${className}` }));
    card.heatStatus.textContent = `Heat map: where the model looks for ${className}.`;
  } catch (error) {
    if (error.name === "AbortError" || card.heatOf !== className) return;
    button.setAttribute("aria-pressed", "false");
    card.heatStatus.textContent = `No heat map. ${error.message}`;
  }
}

// ---- similar images ----

/** Show the images of the data set that the model sees as similar to that of a card; with `begin` false only where that takes moments. */
async function showSimilar(card, { begin = true } = {}) {
  const place = element("div", { "aria-live": "polite" });
  const path = "/api/predict/nearest?" + new URLSearchParams({ limit: LIMIT, begin });
  const onBusy = (seconds) => (place.textContent = `The model is busy. Trying again in ${seconds} s.`);
  const ask = async () => (await postFile(path, card.file, { signal: card.abort.signal, onBusy })).json();
  if (!begin && (await ask().catch(() => ({ status: "waiting" }))).status === "waiting") return;
  card.similar.replaceChildren(place);
  await showNearest(place, ask);
}

// ---- images come and go ----

function add(files) {
  if (!files.length) return announce("No file was chosen.");
  const made = files.map((file) => Object.assign(makeCard(file), { isAlone: files.length === 1 }));
  cards.unshift(...made);
  byId("cards").prepend(...made.map((card) => card.element));
  for (const card of made) predict(card);
}

function removeCard(card) {
  card.abort.abort();
  const index = cards.indexOf(card);
  cards.splice(index, 1);
  card.element.remove();
  for (const address of [card.address, ...card.heats.values()]) URL.revokeObjectURL(address);
  (cards[index] ?? cards[index - 1])?.element.focus();
  if (!cards.length) byId("choose").focus();
  showCounts();
}

function showCounts() {
  const count = (state) => cards.filter((card) => card.state === state).length;
  const parts = [`${cards.length} images`];
  if (count("waiting")) parts.push(`${count("waiting")} to go`);
  if (count("failed")) parts.push(`${count("failed")} failed`);
  byId("counts").textContent = cards.length > 1 ? parts.join(" · ") : "";
  byId("clear").hidden = byId("legend").hidden = !cards.length;
}

takeFiles(add);
byId("clear").addEventListener("click", () => {
  for (const card of [...cards]) removeCard(card);
});

// ---- keys ----

const here = () => cards.find((card) => card.element.contains(document.activeElement));
const buttonsOf = (card) => [...card.found.querySelectorAll(".foundlist button")].filter((button) => button.checkVisibility());

function stepCard(step) {
  const next = here() ? cards[cards.indexOf(here()) + step] : cards[0];
  next?.element.focus();
  next?.element.scrollIntoView({ block: "nearest" });
}

function stepClass(step) {
  const card = here() ?? cards[0];
  if (!card) return false;
  const buttons = buttonsOf(card);
  const place = buttons.indexOf(document.activeElement);
  buttons[Math.max(0, Math.min(buttons.length - 1, place + step))]?.focus();
}

bind("c", "choose images; ctrl+v pastes one", () => byId("choose").click());
bind(["j", "k"], "the next image, the one before", (event) => stepCard(event.key === "j" ? 1 : -1));
bind(["ArrowDown", "ArrowUp"], "the next class, the one before", (event) => stepClass(event.key === "ArrowDown" ? 1 : -1));
bind("h", "heat map of the class", () => {
  const card = here() ?? cards[0];
  const buttons = card ? buttonsOf(card) : [];
  (buttons.find((button) => button === document.activeElement) ?? buttons[0])?.click();
});
bind("s", "similar images", () => void (here() ?? cards[0])?.similar.querySelector("button")?.click());
bind("x", "remove the image", () => here() && removeCard(here()));
