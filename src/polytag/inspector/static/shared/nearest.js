// The images of the data set whose features are nearest to those of an image: one of the run, or one of the visitor.
import { kept, withParameters } from "./address.js";
import { fetchJson } from "./api.js";
import { pause } from "./debounce.js";
import { element } from "./dom.js";
import { lookAt } from "./look.js";

export const LIMIT = 8; // images of each split
const POLL_MS = 600;

/** Return the answer for an image of the run. */
export function nearestOfRow(row) {
  return fetchJson(`/api/images/${row}/nearest?limit=${LIMIT}`);
}

/** Show the nearest images in `place`; `ask()` is asked again while the server computes the features of the data set. */
export async function showNearest(place, ask) {
  const load = () => ask().catch((error) => ({ status: "failed", message: error.message }));
  place.setAttribute("aria-busy", "true");
  let answer = await load();
  while (answer.status === "computing") {
    place.textContent = `The features of the data set are being computed, once: ${Math.round(100 * (answer.progress ?? 0))}%`;
    await pause(POLL_MS);
    answer = await load();
  }
  const splits = answer.status === "ready" ? answer.splits.filter(({ images }) => images.length) : [];
  if (splits.length) place.replaceChildren(...splits.flatMap(splitNodes));
  else place.textContent = answer.status === "ready" ? "No other image is known." : answer.message;
  place.removeAttribute("aria-busy");
}

function splitNodes({ split, images }) {
  return [element("h3", {}, split || "all images"), element("ol", { class: "neighbours" }, ...images.map((image) => neighbour(image, split)))];
}

/** An image of the run is a link to its page, with the class and the ranking of this one. Another one, which has no page, is shown large in place. */
function neighbour(image, split) {
  const labels = image.labels.join(", ") || "no label";
  const parts = [
    element("img", { src: `/data/${image.row}/thumbnail`, alt: "", loading: "lazy" }),
    element("span", { class: "named" }, element("b", {}, image.distance.toFixed(3)), " " + labels, element("span", { class: "id" }, image.id))];
  if (image.image === null) {
    const made = element("button", { type: "button", "aria-haspopup": "dialog" }, ...parts);
    made.addEventListener("click", () => lookAt({ ...image, split, labels }, { from: made }));
    return element("li", {}, made);
  }
  const ranked = document.querySelector(".image-page")?.dataset.ranked; // none on the page of predictions
  const parameters = withParameters(ranked ? location.search : "", { class: ranked, id: image.image, offset: null, ...kept() });
  return element("li", {}, element("a", { href: "/image?" + parameters }, ...parts));
}
