// One image: zoom, heat map and boxes over it, the classes beside it, and what is nearest to it.
import { fetchJson, bind, element, announce, version, withParameters } from "../shared/frame.js";
import { showLabels } from "./labels.js";

const $ = (id) => document.getElementById(id);
const page = document.querySelector(".image-page");
const { row, id: imageId } = page.dataset;
const [stage, sheet, full] = [$("stage"), $("sheet"), $("full")];

// ---- the stage: the whole image at first, enlarged about the pointer, moved by dragging ----

let zoom = 1, left = 0, top_ = 0, base = { width: 0, height: 0 };

function fit() {
  const [width, height] = [full.naturalWidth || 1, full.naturalHeight || 1];
  const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height, Math.max(1, 960 / Math.max(width, height)));
  base = { width: width * scale, height: height * scale };
  sheet.style.width = base.width + "px";
  sheet.style.height = base.height + "px";
  place();
}

function place() {
  const room = (size, stageSize) => Math.max(0, size * zoom - stageSize);
  const limit = (value, size, stageSize) => (size * zoom <= stageSize ? (stageSize - size * zoom) / 2 : Math.min(0, Math.max(-room(size, stageSize), value)));
  left = limit(left, base.width, stage.clientWidth);
  top_ = limit(top_, base.height, stage.clientHeight);
  sheet.style.transform = `translate(${left}px, ${top_}px) scale(${zoom})`;
  stage.classList.toggle("enlarged", zoom > 1);
  $("whole").hidden = zoom === 1;
}

function zoomBy(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const wanted = Math.min(16, Math.max(1, zoom * factor));
  left = x - ((x - left) * wanted) / zoom;
  top_ = y - ((y - top_) * wanted) / zoom;
  zoom = wanted;
  place();
}

stage.addEventListener("wheel", (event) => {
  if (zoom === 1 && event.deltaY > 0) return; // the page scrolls on
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoomBy(event.deltaY < 0 ? 1.25 : 0.8, event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
const pointers = new Map();
stage.addEventListener("pointerdown", (event) => {
  if (zoom === 1 && event.pointerType !== "touch") return;
  pointers.set(event.pointerId, event);
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  if (pointers.size === 2) {
    const other = [...pointers.values()].find((each) => each.pointerId !== event.pointerId);
    const distance = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY);
    const box = stage.getBoundingClientRect();
    zoomBy(distance(event) / Math.max(1, distance(before)), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
  } else {
    left += event.clientX - before.clientX;
    top_ += event.clientY - before.clientY;
    place();
  }
  pointers.set(event.pointerId, event);
});
for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => pointers.delete(event.pointerId));
stage.addEventListener("dblclick", (event) => {
  const box = stage.getBoundingClientRect();
  zoomBy(zoom > 1 ? 0 : 3, event.clientX - box.left, event.clientY - box.top);
});
full.complete && full.naturalWidth ? fit() : full.addEventListener("load", fit);
new ResizeObserver(fit).observe(stage);
for (const id of ["closer", "wider"]) $(id).hidden = false;
$("closer").addEventListener("click", () => zoomBy(1.5));
$("wider").addEventListener("click", () => zoomBy(1 / 1.5));
$("whole").addEventListener("click", () => zoomBy(0));

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

// ---- heat map and boxes ----

function remember(name, on) {
  history.replaceState(null, "", "?" + withParameters(location.search, { [name]: on ? "1" : null }));
  for (const link of [$("previous"), $("next")]) if (link) link.search = withParameters(link.search, { [name]: on ? "1" : null });
}

const isOn = (button) => button?.getAttribute("aria-pressed") === "true";

function set(button, name, on) {
  button.setAttribute("aria-pressed", String(on));
  remember(name, on);
}

function showHeat() {
  sheet.querySelector(".heat")?.remove();
  $("stage-status").textContent = "";
  if (!isOn($("heat"))) return;
  const image = element("img", { class: "heat", alt: `Where the model looks for ${className()}` });
  $("stage-status").textContent = "heat map …";
  image.addEventListener("load", () => ($("stage-status").textContent = `heat map: ${image.dataset.of}`));
  image.addEventListener("error", async () => {
    image.remove();
    const problem = await fetchJson(image.getAttribute("src")).catch((error) => error);
    $("stage-status").textContent = problem.message ?? "no heat map";
  });
  image.dataset.of = className();
  image.src = `/api/images/${row}/heat?` + new URLSearchParams({ class: className(), v: version });
  sheet.append(image);
}

let boxes = [];

function drawBoxes() {
  sheet.querySelector(".boxes")?.remove();
  if (!isOn($("boxes"))) return;
  const layer = element("div", { class: "boxes" });
  for (const box of boxes) {
    const own = box.class_name === className();
    const made = element("div", { class: `box${own ? " own" : ""}${box.is_doubtful ? " doubtful" : ""}` }, element("span", {}, box.class_name));
    for (const [side, value] of [["left", box.left], ["top", box.top], ["right", 1 - box.right], ["bottom", 1 - box.bottom]]) made.style[side] = 100 * value + "%";
    layer.append(made);
  }
  sheet.append(layer);
}

const asked = new URLSearchParams(location.search);
if ($("heat")) {
  $("heat").hidden = false;
  $("heat").setAttribute("aria-pressed", String(asked.has("heat")));
  $("heat").addEventListener("click", () => {
    set($("heat"), "heat", !isOn($("heat")));
    showHeat();
  });
  showHeat();
}
fetchJson(`/api/images/${row}/boxes`).then((answer) => {
  boxes = answer.boxes ?? [];
  if (!boxes.length) return;
  $("boxes").hidden = false;
  $("boxes").setAttribute("aria-pressed", String(asked.has("boxes")));
  $("boxes").addEventListener("click", () => {
    set($("boxes"), "boxes", !isOn($("boxes")));
    drawBoxes();
  });
  drawBoxes();
}, () => {});

// ---- nearest images ----

function neighbour(each) {
  const label = each.labels.length ? each.labels.join(", ") : "no label";
  return element("li", {}, element("figure", {},
    element("img", { src: `/data/${each.row}/thumbnail`, alt: "", loading: "lazy" }),
    element("figcaption", {}, element("b", {}, each.distance.toFixed(3)), " " + label, element("span", { class: "id" }, each.id))));
}

async function showNearest() {
  set($("nearest"), "nearest", true);
  $("nearest").hidden = true;
  const place = $("nearest-found");
  place.setAttribute("aria-busy", "true");
  for (;;) {
    const answer = await fetchJson(`/api/images/${row}/nearest?limit=8`).catch((error) => ({ status: "failed", message: error.message }));
    if (answer.status === "ready") {
      const parts = answer.splits.filter(({ images }) => images.length);
      place.replaceChildren(...parts.flatMap(({ split, images }) => [
        element("h3", {}, split || "all images"), element("ol", { class: "neighbours" }, ...images.map(neighbour))]));
      if (!parts.length) place.textContent = "No other image is known.";
      break;
    }
    if (answer.status !== "computing") {
      place.textContent = answer.message ?? "This cannot be told.";
      break;
    }
    place.textContent = `Features of the data set are being computed, once: ${Math.round(100 * (answer.progress ?? 0))}%`;
    await new Promise((done) => setTimeout(done, 600));
  }
  place.removeAttribute("aria-busy");
}

if ($("nearest")) {
  $("nearest").hidden = false;
  $("nearest").addEventListener("click", showNearest);
  if (asked.has("nearest")) showNearest();
}

// ---- the label of the chosen class ----

const labels = showLabels($("labels"), { imageId, entries });
labels.show(className());

// ---- keys ----

const follow = (id) => $(id) && location.assign($(id).href);
bind(["ArrowLeft", "k"], "the image before", (event) => {
  if (zoom > 1 && event.key === "ArrowLeft") return void ((left += 80), place());
  follow("previous");
});
bind(["ArrowRight", "j"], "the next image", (event) => {
  if (zoom > 1 && event.key === "ArrowRight") return void ((left -= 80), place());
  follow("next");
});
bind(["ArrowUp", "ArrowDown"], "the class above, below", (event) => {
  const step = event.key === "ArrowDown" ? 1 : -1;
  if (zoom > 1 && document.activeElement === stage) return void ((top_ -= 80 * step), place());
  choose(entries[entries.indexOf(chosen) + step]);
});
bind(["+", "="], "enlarge", () => zoomBy(1.5));
bind("-", "reduce", () => zoomBy(1 / 1.5));
bind("w", "the whole image", () => zoomBy(0));
if ($("heat")) bind("h", "heat map", () => $("heat").click());
bind("x", "boxes", () => $("boxes").click());
if ($("nearest")) bind("s", "similar images: the nearest ones", () => $("nearest").click());
bind(["Escape", "Backspace"], "back to the ranking", () => follow("back"));
