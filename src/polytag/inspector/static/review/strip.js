// The labels around the current one, as thumbnails. Each is a button that leads to it.
import { button, element, nameOf, version } from "../shared/dom.js";

const NUM_BEFORE = 2;
const NUM_AFTER = 12;

/** Draw the entries around `index`. `markOf(entry)` returns the mark on its image, or null; `choose(index)` leads to an entry. */
export function drawStrip(list, { entries, index, markOf, choose }) {
  const focusedKey = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const first = Math.max(0, index - NUM_BEFORE);
  const cells = entries.slice(first, index + NUM_AFTER).map((entry, offset) => {
    const image = element("img", { src: `/thumbnails/${entry.row}?v=${version}`, alt: "", decoding: "async" });
    const made = button("", () => choose(first + offset), { title: entry.image, "aria-current": first + offset === index ? "true" : null });
    made.append(element("span", { class: "thumb" }, image, markOf(entry)), nameOf(entry.class_name));
    made.dataset.key = entry.image + "\n" + entry.class_name;
    return element("li", {}, made);
  });
  list.replaceChildren(...cells);
  if (focusedKey !== null) [...list.querySelectorAll("button")].find(({ dataset }) => dataset.key === focusedKey)?.focus({ preventScroll: true });
}
