// Annotated boxes, drawn over an image.
import { element } from "./dom.js";

/** Return the frame of a box, placed by shares of the image; `isOwn` for a box of the class that is looked at. */
export function boxFrame(box, { isOwn, text = null }) {
  const kinds = [isOwn && "own", box.is_doubtful && "doubtful"].filter(Boolean);
  const made = element("span", { class: ["box", ...kinds].join(" ") }, text === null ? null : element("span", {}, text));
  const places = { left: box.left, top: box.top, right: 1 - box.right, bottom: 1 - box.bottom };
  for (const [side, share] of Object.entries(places)) made.style[side] = 100 * share + "%";
  return made;
}
