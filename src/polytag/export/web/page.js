// A worker decodes and scores the images one after the other; nothing is sent anywhere.

import { addCards, byId, sentence, showClasses, showProblem } from "./cards.js";
import { takeFiles } from "./take-files.js";

// Of a blob, because such a worker is under this page's Content-Security-Policy, and one from a file under none.
const start = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
const worker = new Worker(URL.createObjectURL(new Blob([start], { type: "text/javascript" })), { type: "module" });

const cards = new Map(); // by number
let model = null; // model.json, once the network is loaded
let broken = ""; // why it never will be
let numCards = 0;

worker.addEventListener("error", (event) => {
  event.preventDefault();
  fail(event.message || "the worker did not start");
});

worker.addEventListener("message", ({ data }) => {
  if (data.kind === "loading") broken || showLoading(data);
  else if (data.kind === "ready") showReady(data.model);
  else if (data.kind === "broken") fail(data.problem);
  else if (cards.has(data.number)) show(cards.get(data.number), data);
});

function showLoading({ done, total }) {
  byId("progress").hidden = false;
  byId("progress").value = done / total;
  byId("state").textContent = `Loading the model: ${megabytes(done)} of ${megabytes(total)} MB.`;
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

function showReady(loaded) {
  model = loaded;
  byId("progress").hidden = true;
  byId("state").textContent = "The model is loaded.";
  byId("about").hidden = false;
  byId("about").textContent = `Model ${model.checkpoint}, ${model.classes.length} ${model.classes.length === 1 ? "class" : "classes"}. Made by polytag; run by ONNX Runtime Web.`;
}

function fail(problem) {
  broken = problem;
  byId("progress").hidden = true;
  byId("state").textContent = `The model cannot be loaded: ${sentence(problem)} Load the page again.`;
  for (const card of cards.values()) if (card.state === "waiting") showProblem(card, "the model is not loaded");
}

function add(files) {
  for (const card of addCards(files, forget)) {
    card.number = ++numCards;
    cards.set(card.number, card);
    if (broken) showProblem(card, "the model is not loaded");
    else worker.postMessage({ number: card.number, file: card.file });
  }
}

function forget(card) {
  cards.delete(card.number);
  worker.postMessage({ number: card.number, forget: true });
}

function show(card, answer) {
  card.element.answer = answer; // for scripts that drive the page
  if (answer.problem) {
    showProblem(card, answer.problem);
    return;
  }
  const classes = model.classes.map((name, column) => ({
    name, probability: answer.probability[column], threshold: model.thresholds[column], isPresent: answer.present[column],
  }));
  showClasses(card, classes, `${answer.width} × ${answer.height} px, ${(answer.milliseconds / 1000).toFixed(1)} s`);
}

takeFiles(add);
