// The image of the current label, its heat map, and the images that come next.
import { pageAddress } from "../shared/address.js";
import { byId, element, version } from "../shared/dom.js";
import { fitImage } from "../shared/fit.js";
import { showHeatMap } from "../shared/heat.js";
import { watchState } from "../shared/shown.js";

const preloaded = new Map(); // <img> by address
let state = "loading";

/** "loading", "shown", "missing" or "failed": nobody decides about an image that is not shown. */
export const imageState = () => state;

const addressOf = (entry) => `/images/${entry.row}?v=${version}`;

export function showImage(entry, { hasHeat }) {
  const image = byId("full");
  byId("id").textContent = entry.image;
  byId("open").href = pageAddress("/image", { class: entry.class_name, id: entry.image });
  if (image.getAttribute("src") !== addressOf(entry)) {
    loadImage(addressOf(entry));
  }
  image.alt = entry.image;
  showHeat(entry, { hasHeat });
}

function loadImage(address) {
  state = "loading";
  delete byId("full").dataset.state;
  byId("sheet").classList.add("loading");
  byId("full").src = address;
}

/** Load the image again, which could not be loaded. */
export const loadAgain = () => loadImage(byId("full").getAttribute("src"));

export function showHeat(entry, { hasHeat }) {
  byId("heat")?.setAttribute("aria-pressed", String(hasHeat));
  const request = entry && hasHeat && byId("heat") ? { row: entry.row, className: entry.class_name } : {};
  showHeatMap(byId("sheet"), byId("stage-status"), request);
}

/** Load the images of these entries, and let go of those loaded before. */
export function preload(entries) {
  const addresses = entries.map(addressOf);
  for (const address of preloaded.keys()) if (!addresses.includes(address)) preloaded.delete(address);
  for (const address of addresses) if (!preloaded.has(address)) preloaded.set(address, element("img", { src: address }));
}

/** Call `onState()` when the image is shown, and when it turns out that it cannot be. */
export function watchImage(onState) {
  watchState(byId("full"), (found) => {
    state = found;
    byId("sheet").classList.remove("loading");
    onState();
  });
}

fitImage(byId("stage"), byId("sheet"), byId("full"));
