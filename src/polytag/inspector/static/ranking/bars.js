// The distribution of the scores of a class as bars: images labelled with it upward, those labelled without it downward.
import { svg } from "../shared/svg.js";

export const WIDTH = 1000; // units of the drawing, which is stretched over its place
export const HEIGHT = 64;
const MIDDLE = HEIGHT / 2;
const ROOM = 2;

/** Draw bins {present, absent} into an <svg>. Heights are the square root of the share among the images with that label. */
export function drawBars(place, bins) {
  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
  const heights = (numbers) => numbers.map((number) => Math.sqrt(number / Math.max(1, sum(numbers))));
  const [up, down] = [heights(bins.present), heights(bins.absent)];
  const scale = (MIDDLE - ROOM) / Math.max(...up, ...down, 1e-9);
  place.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  place.setAttribute("preserveAspectRatio", "none");
  place.replaceChildren(
    svg("path", { class: "with", d: outline(up, -scale) }),
    svg("path", { class: "without", d: outline(down, scale) }),
    svg("path", { class: "axis", d: `M0 ${MIDDLE}H${WIDTH}` }),
  );
}

function outline(heights, scale) {
  const width = WIDTH / heights.length;
  const tops = heights.map((height) => `V${(MIDDLE + scale * height).toFixed(2)}h${width}`);
  return `M0 ${MIDDLE}${tops.join("")}V${MIDDLE}Z`;
}
