// The images of the data set whose features are nearest to those of an image.
import { fetchJson } from "../shared/api.js";
import { pause } from "../shared/debounce.js";
import { element } from "../shared/dom.js";

const LIMIT = 8; // images of each split
const POLL_MS = 600;

/** Show the nearest images of a row in `place`; wait while the server computes the features of the data set. */
export async function showNearest(place, row) {
  place.setAttribute("aria-busy", "true");
  let answer = await load(row);
  while (answer.status === "computing") {
    place.textContent = `The features of the data set are being computed, once: ${Math.round(100 * (answer.progress ?? 0))}%`;
    await pause(POLL_MS);
    answer = await load(row);
  }
  const splits = answer.status === "ready" ? answer.splits.filter(({ images }) => images.length) : [];
  if (splits.length) place.replaceChildren(...splits.flatMap(splitNodes));
  else place.textContent = answer.status === "ready" ? "No other image is known." : answer.message;
  place.removeAttribute("aria-busy");
}

function load(row) {
  return fetchJson(`/api/images/${row}/nearest?limit=${LIMIT}`).catch((error) => ({ status: "failed", message: error.message }));
}

function splitNodes({ split, images }) {
  return [element("h3", {}, split || "all images"), element("ol", { class: "neighbours" }, ...images.map(neighbour))];
}

function neighbour(image) {
  const labels = image.labels.join(", ") || "no label";
  return element("li", {}, element("figure", {},
    element("img", { src: `/data/${image.row}/thumbnail`, alt: "", loading: "lazy" }),
    element("figcaption", {}, element("b", {}, image.distance.toFixed(3)), " " + labels, element("span", { class: "id" }, image.id))));
}
