// One cell of the grid. Its markup is the server's own macro, cloned from a <template>.
import { LABELS, clone, version, words } from "../shared/dom.js";

export function makeCell() {
  const cell = clone("cell");
  cell.lastElementChild.hidden = false;
  return cell;
}

/** Return the decision at a threshold compared with the label. */
function outcomeOf({ truth, probability }, threshold) {
  if (truth === -1) return "unknown";
  if (probability === null) return "undecided";
  const isAbove = probability > threshold || threshold === 0; // at 0 every image counts as predicted: decide() of the metrics
  return truth === 1 ? (isAbove ? "true_positive" : "false_negative") : isAbove ? "false_positive" : "true_negative";
}

/** Whether a cell shows the decision about its image at a threshold. */
export function showsDecision(cell, image, threshold) {
  return cell.firstElementChild.classList.contains(outcomeOf(image, threshold));
}

/** Show an image in a cell. The grid loads the image from `data-source` when its turn comes. */
export function fillCell(cell, image, { className, threshold, href, comparedName, isSelected }) {
  const outcome = outcomeOf(image, threshold);
  const link = cell.firstElementChild;
  const part = (selector) => link.querySelector(selector);
  link.className = `cell ${outcome}` + (outcome === "false_negative" || outcome === "true_negative" ? " below" : "");
  link.href = href;
  link.title = image.id + (image.compared === null ? "" : `\n${comparedName}: ${image.compared.toFixed(3)}`) + (image.note ? `\n${image.note}` : "");
  part("img").dataset.source = `/thumbnails/${image.row}?v=${version}`;
  part("use").setAttribute("href", "#sign" + image.truth);
  part(".reviewed").hidden = image.reviewed === null;
  part(".reviewed").textContent = image.reviewed === null ? "" : `reviewed: ${LABELS[image.reviewed]}`;
  part(".score").textContent = image.text;
  part(".outcome").textContent = words.outcome[outcome];
  part(".id").textContent = image.value === null ? image.id : `${image.value.toFixed(3).replace("-", "−")} · ${image.id}`;
  link.lastElementChild.textContent = ", " + words.truth[image.truth];
  cell.lastElementChild.setAttribute("aria-label", `Select ${image.id}`);
  showSelected(cell, isSelected);
  part(".chips").replaceChildren(...chipsOf(image, className, outcome));
}

/** Show whether the image of a cell is selected. */
export function showSelected(cell, isSelected) {
  cell.classList.toggle("selected", isSelected);
  cell.lastElementChild.setAttribute("aria-pressed", String(isSelected));
}

/** Tags, the class of the ranking where the image is labelled with it or predicted to have it, and the other classes. */
function chipsOf({ truth, chips, num_more, tags }, className, outcome) {
  const own = truth === 1 || outcome === "false_positive" ? [{ name: className, outcome }] : [];
  const more = num_more ? [{ name: `+${num_more}`, outcome: "more" }] : [];
  return [...tags.map((tag) => ({ name: `#${tag}`, outcome: "tag" })), ...own, ...chips, ...more].map(makeChip);
}

function makeChip({ name, outcome }) {
  const chip = clone("chip");
  chip.className = `chip ${outcome}`;
  chip.firstElementChild.textContent = `${words.outcome[outcome] ?? ""} `;
  chip.lastElementChild.textContent = name;
  return chip;
}
