// Images of the visitor become cards; each is sent to /predict, two at a time, and shows what comes back.

const MAX_BYTES = Number(document.body.dataset.maxBytes);
const MAX_AT_ONCE = 2;
const MAX_TRIES = 20; // where the server is busy

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const cards = []; // the newest first
const waiting = []; // cards that are not sent yet
let numSent = 0;

function makeCard(file) {
  const card = { file, state: "waiting", abort: new AbortController(), address: URL.createObjectURL(file) };
  const image = element("img", { alt: "", decoding: "async" });
  const stage = element("div", { class: "stage" }, image);
  image.addEventListener("error", () => {
    stage.classList.add("empty");
    stage.replaceChildren("This browser cannot draw this file.");
  });
  image.src = card.address;
  card.found = element("div");
  const remove = element("button", { type: "button", class: "quiet", "aria-label": `Remove ${file.name}` }, "Remove");
  remove.addEventListener("click", () => removeCard(card));
  card.element = element("li", { class: "card", tabindex: "-1", "aria-label": file.name },
    element("header", {}, element("h2", { title: file.name }, element("bdi", {}, file.name)), remove),
    element("div", { class: "body" }, stage, card.found));
  report(card, "Waiting.");
  return card;
}

function report(card, text) {
  card.found.replaceChildren(element("p", { class: "verdict" }, text));
}

function sendNext() {
  while (numSent < MAX_AT_ONCE && waiting.length) {
    numSent++;
    const card = waiting.shift();
    label(card).finally(() => {
      numSent--;
      sendNext();
      showCounts();
    });
  }
}

async function label(card) {
  report(card, "The model is looking at it.");
  try {
    if (card.file.size > MAX_BYTES) throw new Error(`The file is larger than ${Math.floor(MAX_BYTES / 1024 ** 2)} MiB.`);
    const answer = await post(card);
    card.state = "done";
    showClasses(card, answer.images[0], answer.thresholds);
  } catch (error) {
    if (error.name === "AbortError") return;
    card.state = "failed";
    const text = error instanceof TypeError ? "The server does not answer." : error.message;
    card.found.replaceChildren(element("p", { class: "problem" }, text.charAt(0).toUpperCase() + text.slice(1).replace(/[^.?]$/, "$&.")));
    announce(`${card.file.name}: ${text}`);
  }
}

async function post(card) {
  const kind = card.file.type.startsWith("image/") ? card.file.type : "application/octet-stream";
  for (let attempt = 1; ; attempt++) {
    const response = await fetch("/predict", { method: "POST", headers: { "Content-Type": kind }, body: card.file, signal: card.abort.signal });
    if (response.status === 503 && attempt < MAX_TRIES) {
      report(card, "The server is busy; it is asked again in a moment.");
      await pause(1000 * Number(response.headers.get("Retry-After") ?? 1), card.abort.signal);
      continue;
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.error ?? `The server answers with status ${response.status}.`);
    return answer;
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("", "AbortError"));
    });
  });
}

/** Three digits, and never 0.000 or 1.000 for a probability that is neither. */
function probabilityText(value) {
  if (value > 0 && value < 0.0005) return "<0.001";
  if (value < 1 && value >= 0.9995) return ">0.999";
  return value.toFixed(3);
}

function rowOf(name, probability, threshold, isPresent) {
  const bar = byId("probability-bar").content.firstElementChild.cloneNode(true);
  bar.querySelector(".fill").setAttribute("width", (100 * probability).toFixed(2));
  bar.querySelector(".tick").setAttribute("x", Math.min(99.2, Math.max(0, 100 * threshold - 0.4)).toFixed(2));
  return element("li", { class: isPresent ? "present" : "absent", title: `${name}: threshold ${threshold.toFixed(3)}` },
    element("span", { class: "name" }, element("bdi", {}, name)), bar, element("span", { class: "score" }, probabilityText(probability)));
}

function showClasses(card, image, thresholds) {
  const present = new Set(image.labels);
  const all = Object.keys(thresholds).sort((a, b) => image.probabilities[b] - image.probabilities[a]); // stable: ties as in the model
  const rows = (names) => element("ol", { class: "classes" }, ...names.map((name) => rowOf(name, image.probabilities[name], thresholds[name], present.has(name))));
  const above = all.filter((name) => present.has(name));
  const below = all.filter((name) => !present.has(name));
  const verdict = element("p", { class: "verdict" });
  if (above.length) verdict.append("Present: ", element("b", {}, element("bdi", {}, above.join(", "))), ".");
  else verdict.append("No class is above its threshold.");
  card.found.replaceChildren(verdict);
  if (above.length) card.found.append(rows(above));
  if (below.length) {
    const text = below.length === 1 ? "1 class below its threshold" : `${below.length} classes below their thresholds`;
    const more = element("details", {}, element("summary", {}, text), rows(below));
    more.open = !above.length;
    card.found.append(more);
  }
  announce(`${card.file.name}: ${verdict.textContent}`);
}

function announce(text) {
  byId("announcement").textContent = text;
}

function add(files) {
  if (!files.length) return;
  const made = files.map(makeCard);
  cards.unshift(...made);
  byId("cards").prepend(...made.map((card) => card.element));
  waiting.push(...made);
  sendNext();
  showCounts();
}

function removeCard(card) {
  card.abort.abort();
  const place = cards.indexOf(card);
  cards.splice(place, 1);
  if (waiting.includes(card)) waiting.splice(waiting.indexOf(card), 1);
  card.element.remove();
  URL.revokeObjectURL(card.address);
  ((cards[place] ?? cards[place - 1])?.element ?? byId("choose")).focus();
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

byId("choose").disabled = false;
byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", () => {
  add([...byId("files").files]);
  byId("files").value = ""; // the same file may be chosen again
});
byId("clear").addEventListener("click", () => {
  for (const card of [...cards]) removeCard(card);
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) event.preventDefault();
  add(files);
});

const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
let depth = 0; // of elements that the drag has entered
function endDrag() {
  depth = 0;
  document.body.classList.remove("dropping");
}
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
