// The page of one image: its classes, the heat map and boxes over it, its labels and its nearest images.
import { withParameters, writeAddress } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";
import { boxFrame } from "../shared/boxes.js";
import { byId, element } from "../shared/dom.js";
import { announce, bind, leaveTo } from "../shared/frame.js";
import { goToClass, onClassChosen } from "../shared/go-to-class.js";
import { showHeatMap } from "../shared/heat.js";
import { watchState } from "../shared/shown.js";
import { showLabels } from "./labels.js";
import { nearestOfRow, showNearest } from "../shared/nearest.js";
import { isEnlarged, moveBy, zoomBy } from "./zoom.js";

const { row, id: imageId, ranked } = document.querySelector(".image-page").dataset;
const [stage, sheet] = [byId("stage"), byId("sheet")];
const options = new URLSearchParams(location.search); // heat, boxes and nearest

// ---- the classes ----

const entries = [...document.querySelectorAll("#bars > li")];
let chosen = entries.find((entry) => entry.classList.contains("chosen")) ?? entries[0];
const className = () => chosen.dataset.class;

function choose(entry) {
  if (!entry) return;
  chosen.classList.remove("chosen");
  chosen.querySelector("a").removeAttribute("aria-current");
  chosen = entry;
  chosen.classList.add("chosen");
  chosen.querySelector("a").setAttribute("aria-current", "true");
  chosen.scrollIntoView({ block: "nearest" });
  announce(className());
  writeOption("label", className() === ranked ? null : className());
  showHeat();
  drawBoxes();
  labels.show(className());
}

for (const entry of entries) {
  entry.querySelector("a").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    choose(entry);
  });
}

onClassChosen(entries.map((entry) => entry.dataset.class), (name) => choose(entries.find((entry) => entry.dataset.class === name)), { title: "Look at which class?" });
byId("find-class")?.addEventListener("click", () => goToClass());

// ---- heat map and boxes ----

/** Write an option into the address, and into those of the neighbours; null removes it. */
function writeOption(name, value) {
  writeAddress(withParameters(location.search, { [name]: value }), { data: history.state });
  for (const link of [byId("previous"), byId("next"), ...document.querySelectorAll(".neighbours a")]) if (link) link.search = withParameters(link.search, { [name]: value });
}

const isOn = (button) => button?.getAttribute("aria-pressed") === "true";

function toggle(button, name) {
  button.setAttribute("aria-pressed", String(!isOn(button)));
  writeOption(name, isOn(button) ? "1" : null);
}

function showHeat() {
  const request = isOn(byId("heat")) ? { row, className: className(), doneText: `heat map: ${className()}` } : {};
  showHeatMap(sheet, byId("stage-status"), request);
}

let boxes = [];

function drawBoxes() {
  sheet.querySelector(".boxes")?.remove();
  if (!isOn(byId("boxes"))) return;
  const frames = boxes.map((box) => boxFrame(box, { isOwn: box.class_name === className(), text: box.class_name }));
  sheet.append(element("div", { class: "boxes" }, ...frames));
}

if (byId("heat")) {
  byId("heat").hidden = false;
  byId("heat").setAttribute("aria-pressed", String(options.has("heat")));
  byId("heat").addEventListener("click", () => {
    toggle(byId("heat"), "heat");
    showHeat();
  });
  showHeat();
}
fetchJson(`/api/images/${row}/boxes`).then((answer) => {
  boxes = answer.boxes ?? [];
  if (!boxes.length) return;
  byId("boxes").hidden = false;
  byId("boxes").setAttribute("aria-pressed", String(options.has("boxes")));
  byId("boxes").addEventListener("click", () => {
    toggle(byId("boxes"), "boxes");
    drawBoxes();
  });
  drawBoxes();
}, () => {});

// ---- nearest images ----

function searchNearest() {
  writeOption("nearest", "1");
  byId("nearest").hidden = true;
  showNearest(byId("nearest-found"), () => nearestOfRow(row));
}

if (byId("nearest")) {
  byId("nearest").hidden = false;
  byId("nearest").addEventListener("click", searchNearest);
  if (options.has("nearest")) searchNearest();
}

// ---- the label of the chosen class ----

watchState(byId("full"), () => {});
const labels = showLabels(byId("labels"), { image: byId("full"), imageId, entries });
labels.show(className());

// ---- keys ----

const follow = (id) => byId(id) && leaveTo(byId(id).href);
bind(["ArrowLeft", "k"], "the previous image", (event) => {
  if (isEnlarged() && event.key === "ArrowLeft") return moveBy(80, 0);
  follow("previous");
});
bind(["ArrowRight", "j"], "the next image", (event) => {
  if (isEnlarged() && event.key === "ArrowRight") return moveBy(-80, 0);
  follow("next");
});
bind(["ArrowUp", "ArrowDown"], "the class above, below", (event) => {
  const step = event.key === "ArrowDown" ? 1 : -1;
  if (isEnlarged() && document.activeElement === stage) return moveBy(0, -80 * step);
  choose(entries[entries.indexOf(chosen) + step]);
});
bind(["+", "="], "enlarge", () => zoomBy(1.5));
bind("-", "reduce", () => zoomBy(1 / 1.5));
bind("w", "the whole image", () => zoomBy(0));
if (byId("heat")) bind("h", "heat map", () => byId("heat").click());
bind("x", "boxes", () => byId("boxes").click());
if (byId("nearest")) bind("s", "similar images: the nearest ones", () => byId("nearest").click());
bind(["Escape", "Backspace"], "back to the ranking", () => follow("back"));
