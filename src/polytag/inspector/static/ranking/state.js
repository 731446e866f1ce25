// The state of the ranking page, and how the address holds it.
//
//   class, sort, order        the ranking
//   threshold                 a number, or null for the class's own
//   outcome, present, absent  arrays of names
//   min_labels, max_labels, column, value, text   strings, "" for no filter
//   disagree                  whether only images are shown that the two runs decide differently
//   offset                    the index of the first image in the window
import { withParameters } from "../shared/address.js";

const ARRAYS = ["outcome", "present", "absent"];
const TEXTS = ["min_labels", "max_labels", "column", "value", "text"];
export const NO_FILTERS = {
  ...Object.fromEntries(ARRAYS.map((name) => [name, []])), ...Object.fromEntries(TEXTS.map((name) => [name, ""])), disagree: false,
};

/** Return the state that a query describes; `defaultClass` where it names no class. */
export function readState(query, defaultClass) {
  const parameters = new URLSearchParams(query);
  const texts = Object.fromEntries(TEXTS.map((name) => [name, parameters.get(name) ?? ""]));
  const arrays = Object.fromEntries(ARRAYS.map((name) => [name, parameters.getAll(name).filter(Boolean)]));
  return {
    class: parameters.get("class") || defaultClass,
    sort: parameters.get("sort") || "score",
    order: parameters.get("order") || "desc",
    threshold: parameters.get("threshold") ? Number(parameters.get("threshold")) : null,
    ...arrays,
    ...texts,
    disagree: ["true", "1", "yes", "on"].includes(parameters.get("disagree")),
    offset: Number(parameters.get("offset") ?? 0) || 0,
  };
}

/** Return the query of a state, without what is default. */
export function queryOf(state) {
  return withParameters("", {
    ...state,
    sort: state.sort === "score" ? null : state.sort,
    order: state.order === "desc" ? null : state.order,
    threshold: state.threshold === null ? null : round(state.threshold),
    min_labels: state.min_labels === "0" ? null : state.min_labels,
    value: state.column ? state.value : null,
    disagree: state.disagree ? "true" : null,
    offset: state.offset > 0 ? state.offset : null,
  });
}

/** Return the query of the list alone. Two states with the same one show the same images in the same order. */
export function listQueryOf(state) {
  const dependsOnThreshold = state.outcome.length > 0 || state.disagree;
  return queryOf({ ...state, offset: 0, threshold: dependsOnThreshold ? state.threshold : null });
}

/** Six decimals of a threshold, or all of one so close to 0 or 1 that they would read as always or never. */
export function round(value) {
  const rounded = Math.round(value * 1e6) / 1e6;
  return rounded === 0 || rounded === 1 ? value : rounded;
}
