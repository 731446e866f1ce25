// The stage of one image: the whole image at first, enlarged about the pointer, moved by dragging.
import { byId } from "../shared/dom.js";
import { isDrawing } from "../shared/shown.js";

const [stage, sheet, full] = ["stage", "sheet", "full"].map(byId);
const MIN_PX = 960; // smaller images are enlarged up to this
const MAX_ZOOM = 16;

let zoom = 1, left = 0, top_ = 0, base = { width: 0, height: 0 };

function fit() {
  const [width, height] = [full.naturalWidth || 1, full.naturalHeight || 1];
  const largest = isDrawing(full) ? 1 : Math.max(1, MIN_PX / Math.max(width, height));
  const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height, largest);
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
  byId("whole").hidden = zoom === 1;
}

/** Enlarge by a factor about a point of the stage; 0 shows the whole image. */
export function zoomBy(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const wanted = Math.min(MAX_ZOOM, Math.max(1, zoom * factor));
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
for (const name of ["load", "polytag:state"]) full.addEventListener(name, fit);
if (full.complete && full.naturalWidth) fit();
new ResizeObserver(fit).observe(stage);
for (const id of ["closer", "wider"]) byId(id).hidden = false;
byId("closer").addEventListener("click", () => zoomBy(1.5));
byId("wider").addEventListener("click", () => zoomBy(1 / 1.5));
byId("whole").addEventListener("click", () => zoomBy(0));

export const isEnlarged = () => zoom > 1;

/** Move the enlarged image by pixels. */
export function moveBy(x, y) {
  left += x;
  top_ += y;
  place();
}
