// The image of the current label, its heat map, and the images that come next.
import { byId, element, version } from "../shared/dom.js";
import { fitImage } from "../shared/fit.js";
import { showHeatMap } from "../shared/heat.js";

const preloaded = new Map(); // <img> by address
let isLoaded = false;

/** Whether the image is visible: nobody decides about an image that is still loading. */
export const isImageLoaded = () => isLoaded;

const addressOf = (entry) => `/images/${entry.row}?v=${version}`;

export function showImage(entry, { hasHeat }) {
  const image = byId("full");
  byId("id").textContent = entry.image;
  byId("open").href = "/image?" + new URLSearchParams({ class: entry.class_name, id: entry.image });
  if (image.getAttribute("src") !== addressOf(entry)) {
    isLoaded = false;
    byId("sheet").classList.add("loading");
    image.src = addressOf(entry);
  }
  image.alt = entry.image;
  showHeat(entry, { hasHeat });
}

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

byId("full").addEventListener("load", () => {
  isLoaded = true;
  byId("sheet").classList.remove("loading");
});
byId("full").addEventListener("error", () => {
  isLoaded = true;
  byId("stage-status").textContent = "The image could not be loaded.";
});
fitImage(byId("stage"), byId("sheet"), byId("full"));
