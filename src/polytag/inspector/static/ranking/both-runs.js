// The compared runs on the class of the page: the numbers of the chosen one, what this run gained and lost against it, and all curves.
import { withParameters } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";
import { byId } from "../shared/dom.js";

const MAX_DRAWN = 5; // as in browse/pages.py
const MAX_KEPT = 30; // answers

const answers = new Map(); // of /api/compared, by their query
let wanted = null; // the query of the numbers that the page shows

/** The answer of /api/compared for a slice; null without a compared run, or where there is none for it. */
function bothRuns(query) {
  if (!byId("both")) return Promise.resolve(null);
  if (!answers.has(query)) {
    if (answers.size >= MAX_KEPT) answers.clear();
    answers.set(query, fetchJson("/api/compared?" + query).catch(() => null));
  }
  return answers.get(query);
}

/** The answers for the runs whose curves are drawn: all of a few, the chosen one of many. Each has its `place` among them, and `isChosen`. */
export async function drawnRuns(query) {
  const choice = byId("against");
  const chosen = choice?.value ?? "";
  const names = choice && choice.options.length <= MAX_DRAWN ? [...choice.options].map(({ value }) => value) : [chosen];
  const found = await Promise.all(names.map((against) => bothRuns(against === chosen ? query : String(withParameters(query, { against })))));
  return found.map((answer, place) => answer && { ...answer, place, isChosen: names[place] === chosen }).filter(Boolean);
}

/** Show the numbers of the chosen run on a slice, unless others have been asked for meanwhile. */
export async function showBothRuns(query) {
  wanted = query;
  const answer = await bothRuns(query);
  if (answer === null || query !== wanted) return;
  const other = answer.runs[1];
  const share = (name) => (other[name] === null ? "" : `${other[`${name}_low`].toFixed(2)}–${other[`${name}_high`].toFixed(2)}`);
  const values = { ...other, num_gained: answer.num_gained, num_lost: answer.num_lost, precision_interval: share("precision"), recall_interval: share("recall") };
  for (const each of byId("both").querySelectorAll("[data-decided]")) each.hidden = answer.num_gained === null;
  for (const place of byId("both").querySelectorAll("[data-key]")) {
    const key = place.dataset.key;
    if (key === "of") {
      place.textContent = `of ${answer.num_images.toLocaleString("en")} that both scored`;
      place.hidden = answer.num_left_out === 0;
    } else if (key.startsWith("num_")) place.textContent = values[key]?.toLocaleString("en") ?? "–";
    else place.textContent = typeof values[key] === "number" ? values[key].toFixed(3) : values[key] ?? "–";
  }
}
