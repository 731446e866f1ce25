// One cell of the grid. Its markup is the server's own macro, cloned from a <template>.
import { LABELS, clone, element, version, words } from "../shared/dom.js";

export function makeCell() {
  return element("li", {}, clone("cell"));
}

/** Return the decision at a threshold compared with the label. */
export function outcomeOf({ truth, probability }, threshold) {
  if (truth === -1) return "unknown";
  if (probability === null) return "undecided";
  const isAbove = probability > threshold || threshold === 0; // at 0 every image counts as predicted: decide() of the metrics
  return truth === 1 ? (isAbove ? "true_positive" : "false_negative") : isAbove ? "false_positive" : "true_negative";
}

/** Show an image in a cell. The grid loads the image from `data-source` when its turn comes. */
export function fillCell(cell, image, { threshold, href, comparedName }) {
  const outcome = outcomeOf(image, threshold);
  const link = cell.firstElementChild;
  const part = (selector) => link.querySelector(selector);
  link.className = `cell ${outcome}` + (outcome === "false_negative" || outcome === "true_negative" ? " below" : "");
  link.href = href;
  link.title = image.id + (image.compared === null ? "" : `\n${comparedName}: ${image.compared.toFixed(3)}`);
  part("img").dataset.source = `/thumbnails/${image.row}?v=${version}`;
  part("use").setAttribute("href", "#sign" + image.truth);
  part(".reviewed").hidden = image.reviewed === null;
  part(".reviewed").textContent = image.reviewed === null ? "" : `reviewed: ${LABELS[image.reviewed]}`;
  part(".score").textContent = image.text;
  part(".outcome").textContent = words.outcome[outcome];
  part(".id").textContent = image.value === null ? image.id : `${image.value.toFixed(2)} · ${image.id}`;
  part(".sr").textContent = ", " + words.truth[image.truth];
}
