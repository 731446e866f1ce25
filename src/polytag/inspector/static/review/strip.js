// The labels around the one that is asked about, as small images; each is a button that leads there.
import { element, version } from "../shared/frame.js";

const NUM_BEFORE = 2;
const NUM_AFTER = 12;

/** Draw the entries around `place`; `markOf(entry)` is what lies on its image, or null; `choose(place)` leads to one. */
export function drawStrip(list, { entries, place, markOf, choose }) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const first = Math.max(0, place - NUM_BEFORE);
  const cells = entries.slice(first, place + NUM_AFTER).map((entry, index) => {
    const image = element("img", { src: `/thumbnails/${entry.row}?v=${version}`, alt: "", decoding: "async" });
    const button = element("button", { type: "button", title: entry.image, "aria-current": first + index === place ? "true" : null },
      element("span", { class: "thumb" }, image, markOf(entry)), element("span", { class: "name" }, element("bdi", {}, entry.class_name)));
    button.dataset.key = entry.image + "\n" + entry.class_name;
    button.addEventListener("click", () => choose(first + index));
    return element("li", {}, button);
  });
  list.replaceChildren(...cells);
  if (focused !== null) [...list.querySelectorAll("button")].find((button) => button.dataset.key === focused)?.focus({ preventScroll: true });
}
