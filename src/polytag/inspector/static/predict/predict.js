// Images of one's own: each becomes a card, and the model looks at one after another.
import { bind, element, announce } from "../shared/frame.js";
import { fitted } from "../shared/sheet.js";

const $ = (id) => document.getElementById(id);
const MAX_BYTES = Number($("zone").dataset.maxBytes);
const MIB = 1024 ** 2;
const HEAT_HINT = "Choose a class to see where the model looks for it.";
const LONGEST_WAIT_SECONDS = 120; // for a busy model, of one image

// ---- the model, one request after another ----

const tasks = [];
let isWorking = false;

async function work() {
  if (isWorking) return;
  isWorking = true;
  while (tasks.length) await tasks.shift()();
  isWorking = false;
}

/** Do this in its turn; `first` before all that wait. */
function inTurn(task, { first = false } = {}) {
  return new Promise((done, fail) => {
    tasks[first ? "unshift" : "push"](() => task().then(done, fail));
    work();
  });
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** Send the image; a busy model is asked again when it says so. Throws an Error that can be shown. */
async function send(path, card, onBusy) {
  const giveUp = performance.now() + 1000 * LONGEST_WAIT_SECONDS;
  for (;;) {
    let response;
    try {
      response = await fetch(path, { method: "POST", body: card.file, headers: { "content-type": "application/octet-stream" }, signal: card.gone.signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw Object.assign(new Error("No answer from polytag: is it still running?"), { canRetry: true });
    }
    if (response.ok) return response;
    const wait = Number(response.headers.get("retry-after"));
    const { detail } = await response.json().catch(() => ({}));
    if ((response.status === 503 || response.status === 429) && wait > 0 && performance.now() < giveUp) {
      onBusy(wait);
      await pause(wait);
      if (card.gone.signal.aborted) throw new DOMException("removed", "AbortError");
      continue;
    }
    const text = typeof detail === "string" ? detail : (detail?.[0]?.msg ?? `refused (${response.status})`);
    throw Object.assign(new Error(text), { canRetry: response.status >= 500 || response.status === 429 });
  }
}

// ---- a card ----

const cards = []; // the newest first

function cardOf(file) {
  const card = { file, state: "waiting", gone: new AbortController(), address: URL.createObjectURL(file), heats: new Map() };
  card.image = element("img", { alt: file.name, decoding: "async" });
  card.sheet = element("div", { class: "look-sheet" }, card.image);
  const stage = element("div", { class: "stage" }, card.sheet);
  card.size = element("span", { class: "count" });
  card.heatStatus = element("p", { class: "count heat-status", role: "status" });
  card.found = element("div", { class: "found", "aria-live": "polite" });
  const remove = element("button", { type: "button", class: "quiet", "aria-label": `Remove ${file.name}` }, "Remove");
  remove.addEventListener("click", () => removeCard(card));
  card.element = element("li", { class: "card", tabindex: "-1", "aria-label": file.name },
    element("header", {}, element("h2", { title: file.name }, element("bdi", {}, file.name)), card.size, remove),
    element("div", { class: "body" }, element("div", {}, stage, card.heatStatus), card.found));
  fitted(stage, card.sheet, card.image);
  card.image.addEventListener("load", () => (card.size.textContent = `${card.image.naturalWidth} × ${card.image.naturalHeight}`));
  card.image.addEventListener("error", () => {
    stage.classList.add("empty-stage");
    stage.replaceChildren(element("p", { class: "undrawn" }, "This browser cannot draw this file."));
  });
  card.image.src = card.address;
  return card;
}

function tellIn(card, text) {
  card.found.replaceChildren(element("p", { class: "verdict" }, text));
}

async function predict(card) {
  card.state = "waiting";
  tellIn(card, "Waiting for its turn.");
  tally();
  try {
    if (card.file.size > MAX_BYTES) throw new Error(`Too large: ${(card.file.size / MIB).toFixed(1)} MiB, and at most ${Math.floor(MAX_BYTES / MIB)} can be sent.`);
    if (!card.file.size) throw new Error("The file is empty.");
    const answer = await inTurn(async () => {
      if (card.gone.signal.aborted) return null;
      tellIn(card, "The model is looking.");
      const response = await send("/api/predict", card, (wait) => tellIn(card, `The model is busy; it is asked again in ${wait} s.`));
      return response.json();
    });
    if (!answer) return;
    card.state = "done";
    showFound(card, answer);
  } catch (error) {
    if (error.name === "AbortError") return;
    card.state = "failed";
    showProblem(card, error);
  }
  tally();
}

function showProblem(card, error) {
  const text = error.message.charAt(0).toUpperCase() + error.message.slice(1).replace(/[^.?]$/, "$&.");
  card.found.replaceChildren(element("p", { class: "problem-text" }, text));
  if (!error.canRetry) return;
  const again = element("button", { type: "button" }, "Try again");
  again.addEventListener("click", () => predict(card));
  card.found.append(element("div", { class: "line" }, again));
}

function bar({ probability, threshold }) {
  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const drawn = svg("svg", { class: "probability", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  drawn.append(
    svg("rect", { class: "track", width: 100, height: 10 }), svg("rect", { class: "fill", width: (100 * probability).toFixed(2), height: 10 }),
    svg("rect", { class: "tick", x: (100 * threshold - 0.4).toFixed(2), width: 0.8, height: 10 }));
  return drawn;
}

function showFound(card, answer) {
  const rowOf = (each) => {
    const title = `threshold ${each.threshold.toFixed(3)}; press for the heat map`;
    const button = element("button", { type: "button", class: each.is_present ? "above" : "below", "aria-pressed": "false", title },
      element("span", { class: "name" }, element("bdi", {}, each.name)), bar(each), element("span", { class: "score" }, each.text));
    button.addEventListener("click", () => showHeat(card, each.name, button));
    return element("li", {}, button);
  };
  const above = answer.classes.filter((each) => each.is_present); // the highest first
  const below = answer.classes.filter((each) => !each.is_present);
  const names = above.map((each) => each.name).join(", ");
  const verdict = above.length
    ? element("p", { class: "verdict" }, "Above their thresholds: ", element("b", {}, element("bdi", {}, names)), ".")
    : element("p", { class: "verdict" }, "No class is above its threshold.");
  const parts = [verdict];
  if (above.length) parts.push(element("ol", { class: "foundlist" }, ...above.map(rowOf)));
  if (below.length) {
    const summary = element("summary", {}, below.length === 1 ? "1 class below its threshold" : `${below.length} classes below their thresholds`);
    parts.push(element("details", { open: !above.length }, summary, element("ol", { class: "foundlist" }, ...below.map(rowOf))));
  }
  card.found.replaceChildren(...parts);
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
      const busy = (wait) => card.heatOf === className && (card.heatStatus.textContent = `The model is busy; it is asked again in ${wait} s.`);
      const response = await inTurn(() => send(path, card, busy), { first: true });
      card.heats.set(className, URL.createObjectURL(await response.blob()));
    }
    if (card.heatOf !== className) return; // another was chosen meanwhile
    card.sheet.append(element("img", { class: "heat", src: card.heats.get(className), alt: `Where the model looks for ${className}` }));
    card.heatStatus.textContent = `Heat map: where the model looks for ${className}.`;
  } catch (error) {
    if (error.name === "AbortError" || card.heatOf !== className) return;
    button.setAttribute("aria-pressed", "false");
    card.heatStatus.textContent = `No heat map. ${error.message}`;
  }
}

// ---- images come and go ----

function add(files) {
  if (!files.length) return announce("No file was given.");
  const made = files.map(cardOf);
  cards.unshift(...made);
  $("cards").prepend(...made.map((card) => card.element));
  for (const card of made) predict(card);
}

function removeCard(card) {
  card.gone.abort();
  const index = cards.indexOf(card);
  cards.splice(index, 1);
  card.element.remove();
  for (const address of [card.address, ...card.heats.values()]) URL.revokeObjectURL(address);
  (cards[index] ?? cards[index - 1])?.element.focus();
  if (!cards.length) $("choose").focus();
  tally();
}

function tally() {
  const count = (state) => cards.filter((card) => card.state === state).length;
  const parts = [`${cards.length} images`];
  if (count("waiting")) parts.push(`${count("waiting")} to go`);
  if (count("failed")) parts.push(`${count("failed")} failed`);
  $("tally").textContent = cards.length > 1 ? parts.join(" · ") : "";
  $("clear").hidden = $("legend").hidden = !cards.length;
}

$("choose").disabled = false;
$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => {
  add([...$("files").files]);
  $("files").value = ""; // the same file may be chosen again
});
$("clear").addEventListener("click", () => {
  for (const card of [...cards]) removeCard(card);
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (!files.length) return;
  event.preventDefault();
  add(files);
});

const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
let depth = 0; // of elements that the drag has entered
document.addEventListener("dragenter", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  depth++;
  document.body.classList.add("dropping");
});
document.addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
});
document.addEventListener("dragleave", (event) => {
  if (holdsFiles(event) && --depth <= 0) endDrag();
});
document.addEventListener("drop", (event) => {
  endDrag();
  if (!holdsFiles(event)) return;
  event.preventDefault();
  add([...event.dataTransfer.files]);
});
function endDrag() {
  depth = 0;
  document.body.classList.remove("dropping");
}

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

bind("c", "choose images; ctrl+v pastes one", () => $("choose").click());
bind(["j", "k"], "the next image, the one before", (event) => stepCard(event.key === "j" ? 1 : -1));
bind(["ArrowDown", "ArrowUp"], "the next class, the one before", (event) => stepClass(event.key === "ArrowDown" ? 1 : -1));
bind("h", "heat map of the class", () => {
  const card = here() ?? cards[0];
  const buttons = card ? buttonsOf(card) : [];
  (buttons.find((button) => button === document.activeElement) ?? buttons[0])?.click();
});
bind("x", "remove the image", () => here() && removeCard(here()));
