// Images of the visitor become cards. A worker decodes and scores them one after the other; nothing is sent anywhere.

const NUM_OTHERS = 5; // classes that are shown though absent, the most likely ones

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

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
  for (const card of cards.values()) if (card.state === "waiting") show(card, { problem: "the model is not loaded" });
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1).replace(/[^.?]$/, "$&.");
}

function add(files) {
  for (const file of files) {
    const card = makeCard(file, ++numCards);
    cards.set(card.number, card);
    byId("cards").prepend(card.element);
    if (broken) show(card, { problem: "the model is not loaded" });
    else worker.postMessage({ number: card.number, file });
  }
  count();
}

function makeCard(file, number) {
  const card = { number, file, state: "waiting", address: URL.createObjectURL(file), found: element("div") };
  const image = element("img", { alt: "", decoding: "async" });
  const stage = element("div", { class: "stage" }, image);
  image.addEventListener("error", () => {
    stage.classList.add("empty");
    stage.replaceChildren("This browser cannot draw this file.");
  });
  image.src = card.address;
  const name = file.name || "pasted image";
  const remove = element("button", { type: "button", class: "quiet", "aria-label": `Remove ${name}` }, "Remove");
  remove.addEventListener("click", () => {
    drop(card);
    byId("choose").focus();
  });
  card.found.append(element("p", { class: "verdict" }, "The model is looking at it."));
  card.element = element("li", { class: "card", "aria-label": name },
    element("header", {}, element("h2", { title: name }, element("bdi", {}, name)), remove),
    element("div", { class: "body" }, stage, card.found));
  return card;
}

function drop(card) {
  cards.delete(card.number);
  URL.revokeObjectURL(card.address);
  card.element.remove();
  worker.postMessage({ number: card.number, forget: true });
  count();
}

function count() {
  byId("clear").hidden = cards.size === 0;
  byId("legend").hidden = cards.size === 0;
}

function show(card, answer) {
  card.state = answer.problem ? "failed" : "done";
  card.element.dataset.state = card.state;
  card.element.answer = answer; // for scripts that drive the page
  if (answer.problem) {
    card.found.replaceChildren(element("p", { class: "problem" }, sentence(answer.problem)));
    announce(`${card.file.name}: ${answer.problem}`);
    return;
  }
  const order = [...model.classes.keys()].sort((a, b) => answer.present[b] - answer.present[a] || answer.probability[b] - answer.probability[a]);
  const present = order.filter((column) => answer.present[column]);
  const names = present.map((column) => model.classes[column]);
  const rows = order.map((column) => row(column, answer));
  const shown = present.length + NUM_OTHERS;
  const verdict = names.length ? element("p", { class: "verdict" }, "Present: ", element("b", {}, names.join(", "))) : element("p", { class: "verdict" }, "No class is above its threshold.");
  card.found.replaceChildren(verdict, element("ol", { class: "classes" }, ...rows.slice(0, shown)));
  if (rows.length > shown) {
    const rest = element("details", {}, element("summary", {}, `${rows.length - shown} more`), element("ol", { class: "classes" }, ...rows.slice(shown)));
    card.found.append(rest);
  }
  card.found.append(element("p", { class: "note small" }, `${answer.width} × ${answer.height} px, ${(answer.milliseconds / 1000).toFixed(1)} s`));
  announce(`${card.file.name}: ${names.join(", ") || "no class"}`);
}

function row(column, answer) {
  const probability = answer.probability[column];
  const bar = svg("svg", { class: "probability", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", y: 2, width: 100, height: 6 }),
    svg("rect", { class: "fill", y: 2, width: 100 * probability, height: 6 }),
    svg("rect", { class: "tick", x: Math.min(99.2, 100 * model.thresholds[column]), width: 0.8, height: 10 }));
  return element("li", answer.present[column] ? { class: "present" } : {},
    element("span", { class: "name", title: model.classes[column] }, element("bdi", {}, model.classes[column])), bar,
    element("span", { class: "score" }, probabilityText(probability)));
}

/** Three digits, and never 0.000 or 1.000 for a probability that is neither. */
function probabilityText(value) {
  if (value > 0 && value < 0.0005) return "<0.001";
  if (value < 1 && value >= 0.9995) return ">0.999";
  return value.toFixed(3);
}

function announce(text) {
  byId("announcement").textContent = text;
}

byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
byId("clear").addEventListener("click", () => {
  for (const card of [...cards.values()]) drop(card);
  byId("choose").focus();
});
document.addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  document.body.classList.remove("dropping");
  if (!hasFiles(event)) return;
  event.preventDefault();
  add(event.dataTransfer.files);
});
