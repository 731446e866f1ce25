// Each image is sent to /predict, two at a time, and its card shows what comes back.

import { addCards, showClasses, showProblem, showWaiting } from "./cards.js";
import { takeFiles } from "./take-files.js";

const MAX_BYTES = Number(document.body.dataset.maxBytes);
const MAX_AT_ONCE = 2;
const MAX_TRIES = 20; // where the server is busy

const waiting = []; // cards that are not sent yet
let numSent = 0;

function add(files) {
  const made = addCards(files, forget);
  for (const card of made) card.abort = new AbortController();
  waiting.push(...made);
  sendNext();
}

function forget(card) {
  card.abort.abort();
  if (waiting.includes(card)) waiting.splice(waiting.indexOf(card), 1);
}

function sendNext() {
  while (numSent < MAX_AT_ONCE && waiting.length) {
    numSent++;
    label(waiting.shift()).finally(() => {
      numSent--;
      sendNext();
    });
  }
}

async function label(card) {
  showWaiting(card, "The model is looking at it.");
  try {
    if (card.file.size > MAX_BYTES) throw new Error(`The file is larger than ${Math.floor(MAX_BYTES / 1024 ** 2)} MiB.`);
    const { images: [image], thresholds } = await post(card);
    const present = new Set(image.labels);
    const classes = Object.entries(thresholds).map(([name, threshold]) => ({ name, threshold, probability: image.probabilities[name], isPresent: present.has(name) }));
    showClasses(card, classes);
  } catch (error) {
    if (error.name !== "AbortError") showProblem(card, error instanceof TypeError ? "The server does not answer." : error.message);
  }
}

async function post(card) {
  const kind = card.file.type.startsWith("image/") ? card.file.type : "application/octet-stream";
  for (let attempt = 1; ; attempt++) {
    const response = await fetch("/predict", { method: "POST", headers: { "Content-Type": kind }, body: card.file, signal: card.abort.signal });
    if (response.status === 503 && attempt < MAX_TRIES) {
      showWaiting(card, "The server is busy; it is asked again in a moment.");
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

takeFiles(add);
