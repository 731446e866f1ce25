// Images that a person gives a page become cards, which show the image and, later, its classes.

const NUM_OTHERS = 5; // classes that are shown though absent, the most likely ones

export const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svg(name, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const cards = []; // the newest first

/** Cards of these files, the first one on top. `onRemove` is called with a card that a person removes. */
export function addCards(files, onRemove) {
  const made = files.map((file) => makeCard(file, onRemove));
  cards.unshift(...made);
  byId("cards").prepend(...made.map((card) => card.element));
  showCounts();
  return made;
}

function makeCard(file, onRemove) {
  const name = file.name || "pasted image";
  const card = { file, name, state: "waiting", address: URL.createObjectURL(file), found: element("div"), onRemove };
  const image = element("img", { alt: "", decoding: "async" });
  const stage = element("div", { class: "stage" }, image);
  image.addEventListener("error", () => {
    stage.classList.add("empty");
    stage.replaceChildren("This browser cannot draw this file.");
  });
  image.src = card.address;
  const remove = element("button", { type: "button", class: "quiet", "aria-label": `Remove ${name}` }, "Remove");
  remove.addEventListener("click", () => removeCard(card));
  card.element = element("li", { class: "card", tabindex: "-1", "aria-label": name },
    element("header", {}, element("h2", { title: name }, element("bdi", {}, name)), remove),
    element("div", { class: "body" }, stage, card.found));
  showWaiting(card, "Waiting.");
  return card;
}

function removeCard(card) {
  const place = cards.indexOf(card);
  cards.splice(place, 1);
  card.element.remove();
  URL.revokeObjectURL(card.address);
  card.onRemove(card);
  ((cards[place] ?? cards[place - 1])?.element ?? byId("choose")).focus();
  showCounts();
}

byId("clear").addEventListener("click", () => {
  for (const card of [...cards]) removeCard(card);
});

/** Say what a card waits for. */
export function showWaiting(card, text) {
  card.found.replaceChildren(element("p", { class: "verdict" }, text));
}

/** Say why an image has no classes. */
export function showProblem(card, text) {
  settle(card, "failed", element("p", { class: "problem" }, sentence(text)));
  announce(`${card.name}: ${text}`);
}

/** Show classes, each { name, probability, threshold, isPresent }: those that are present, the most likely others, and the rest. */
export function showClasses(card, classes, note = "") {
  const order = [...classes].sort((a, b) => b.isPresent - a.isPresent || b.probability - a.probability); // stable: ties as in the model
  const names = order.filter((each) => each.isPresent).map((each) => each.name);
  const shown = names.length + NUM_OTHERS;
  const list = (some) => element("ol", { class: "classes" }, ...some.map(rowOf));
  const verdict = element("p", { class: "verdict" });
  if (names.length) verdict.append("Present: ", element("b", {}, element("bdi", {}, names.join(", "))));
  else verdict.append("No class is above its threshold.");
  const parts = [verdict, list(order.slice(0, shown))];
  if (order.length > shown) parts.push(element("details", {}, element("summary", {}, `${order.length - shown} more`), list(order.slice(shown))));
  if (note) parts.push(element("p", { class: "note small" }, note));
  settle(card, "done", ...parts);
  announce(`${card.name}: ${names.join(", ") || "no class"}`);
}

function settle(card, state, ...parts) {
  card.found.replaceChildren(...parts);
  card.state = card.element.dataset.state = state;
  showCounts();
}

function rowOf({ name, probability, threshold, isPresent }) {
  const bar = svg("svg", { class: "probability", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", y: 2, width: 100, height: 6 }),
    svg("rect", { class: "fill", y: 2, width: (100 * probability).toFixed(2), height: 6 }),
    svg("rect", { class: "tick", x: Math.min(99.2, Math.max(0, 100 * threshold - 0.4)).toFixed(2), width: 0.8, height: 10 }));
  return element("li", { class: isPresent ? "present" : "absent", title: `${name}: threshold ${threshold.toFixed(3)}` },
    element("span", { class: "name" }, element("bdi", {}, name)), bar, element("span", { class: "score" }, probabilityText(probability)));
}

/** Three digits, and never 0.000 or 1.000 for a probability that is neither. */
function probabilityText(value) {
  if (value > 0 && value < 0.0005) return "<0.001";
  if (value < 1 && value >= 0.9995) return ">0.999";
  return value.toFixed(3);
}

/** With a capital and a full stop. */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1).replace(/[^.?]$/, "$&.");
}

function announce(text) {
  byId("announcement").textContent = text;
}

function showCounts() {
  const count = (state) => cards.filter((card) => card.state === state).length;
  const parts = [`${cards.length} images`];
  if (count("waiting")) parts.push(`${count("waiting")} to go`);
  if (count("failed")) parts.push(`${count("failed")} failed`);
  byId("counts").textContent = cards.length > 1 ? parts.join(" · ") : "";
  byId("clear").hidden = byId("legend").hidden = !cards.length;
}
