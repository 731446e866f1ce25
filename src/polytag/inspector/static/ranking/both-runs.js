// The second run on the class of the page: its numbers at its own threshold, and what this run gained and lost against it.
import { fetchJson } from "../shared/api.js";
import { byId } from "../shared/dom.js";

let loaded = { query: null, answer: null };

/** The answer of /api/compared for a slice; null without a second run, or where there is none for it. */
export function bothRuns(query) {
  if (!byId("both")) return Promise.resolve(null);
  if (loaded.query !== query) loaded = { query, answer: fetchJson("/api/compared?" + query).catch(() => null) };
  return loaded.answer;
}

/** Show the numbers of the second run on a slice, unless another one has been asked for meanwhile. */
export async function showBothRuns(query) {
  const answer = await bothRuns(query);
  if (answer === null || query !== loaded.query) return;
  const other = answer.runs[1];
  const share = (name) => (other[name] === null ? "" : `${other[`${name}_low`].toFixed(2)}–${other[`${name}_high`].toFixed(2)}`);
  const values = { ...other, num_gained: answer.num_gained, num_lost: answer.num_lost, precision_interval: share("precision"), recall_interval: share("recall") };
  for (const place of byId("both").querySelectorAll("[data-key]")) {
    const key = place.dataset.key;
    if (key === "of") place.textContent = place.textContent && `of ${answer.num_images.toLocaleString("en")} that both scored`;
    else if (key.startsWith("num_")) place.textContent = values[key].toLocaleString("en");
    else place.textContent = typeof values[key] === "number" ? values[key].toFixed(3) : values[key] ?? "–";
  }
}
