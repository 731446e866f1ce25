// The state of the ranking page, and how the address holds it.
//
//   class, sort, order        the ranking
//   find                      a text by which it is ordered in place of a sort, which is "" then; "" for none
//   size                      of the images: s, m or l
//   threshold                 a number, or null for the class's own
//   outcome, present, absent, predicted, not_predicted   arrays of names
//   region                    array of regions of the map, as browse/regions.py reads them
//   min_labels, max_labels, column, value, text, other, bond, tag, change   strings, "" for no filter
//   min_score, max_score      bounds of the score, strings, "" for none
//   change                    "gained" or "lost" against the compared run, "" for any
//   against                   the name of the compared run, "" for the first one
//   disagree                  whether only images are shown that the two runs decide differently
//   offset                    the index of the first image in the window
//   id                        the image that is focused once, on the return from its page; "" for none
//   curves                    whether the curves are unfolded
import { withParameters } from "../shared/address.js";

export const SIZES = ["s", "m", "l"];
const ARRAYS = ["outcome", "present", "absent", "predicted", "not_predicted", "region"];
const TEXTS = ["min_labels", "max_labels", "min_score", "max_score", "column", "value", "text", "other", "bond", "tag", "change"];
export const NO_FILTERS = {
  ...Object.fromEntries(ARRAYS.map((name) => [name, []])), ...Object.fromEntries(TEXTS.map((name) => [name, ""])), disagree: false,
  bond: "labelled",
};

const NO_VIEW = { size: "m", offset: 0, id: "", curves: false }; // what changes no list

/** Return the state that a query describes; `defaultClass` where it names no class. */
export function readState(query, defaultClass) {
  const parameters = new URLSearchParams(query);
  const texts = Object.fromEntries(TEXTS.map((name) => [name, parameters.get(name) ?? ""]));
  const find = (parameters.get("find") ?? "").trim();
  const arrays = Object.fromEntries(ARRAYS.map((name) => [name, parameters.getAll(name).filter(Boolean)]));
  return {
    class: parameters.get("class") || defaultClass,
    sort: find ? "" : parameters.get("sort") || "score",
    find,
    order: parameters.get("order") || "desc",
    size: SIZES.includes(parameters.get("size")) ? parameters.get("size") : "m",
    threshold: parameters.get("threshold") ? Number(parameters.get("threshold")) : null,
    ...arrays,
    ...texts,
    bond: texts.bond || NO_FILTERS.bond,
    against: parameters.get("against") ?? "",
    disagree: ["true", "1", "yes", "on"].includes(parameters.get("disagree")),
    offset: Number(parameters.get("offset") ?? 0) || 0,
    id: parameters.get("id") ?? "",
    curves: parameters.has("curves"),
  };
}

/** Changes that leave one order: a text that is typed takes the place of a sort, and a sort that is chosen that of a text. */
export function withOneOrder(changes, before) {
  if (changes.find === before.find && changes.sort !== before.sort) return { ...changes, find: "" };
  if (!changes.find) return { ...changes, sort: changes.sort || "score" };
  return { ...changes, sort: "", order: before.find ? changes.order : "desc" };
}

/** Return the query of a state, without what is default. */
export function queryOf(state) {
  return withParameters("", {
    ...state,
    sort: state.sort === "score" ? null : state.sort,
    order: state.order === "desc" ? null : state.order,
    size: state.size === "m" ? null : state.size,
    threshold: state.threshold === null ? null : round(state.threshold),
    min_labels: state.min_labels === "0" ? null : state.min_labels,
    value: state.column ? state.value : null,
    bond: state.other ? state.bond : null,
    disagree: state.disagree ? "true" : null,
    curves: state.curves ? "1" : null,
    offset: state.offset > 0 ? state.offset : null,
  });
}

/** Return the query of the list alone. Two states with the same one show the same images in the same order. */
export function listQueryOf(state) {
  const dependsOnThreshold = state.outcome.length > 0 || state.disagree;
  return queryOf({ ...state, ...NO_VIEW, threshold: dependsOnThreshold ? state.threshold : null });
}

/** The ranking of a state as an object, as the bodies of requests hold it. */
export function rankingOf(state) {
  const parameters = queryOf({ ...state, ...NO_VIEW });
  return Object.fromEntries([...new Set(parameters.keys())].map((name) => [name, ARRAYS.includes(name) ? parameters.getAll(name) : parameters.get(name)]));
}

/** What decides which images a list holds, whatever their order. */
export function filterOf(state) {
  const dependsOnClass = state.outcome.length > 0 || state.disagree || [state.other, state.change, state.min_score, state.max_score].some(Boolean);
  const against = state.disagree || state.change ? state.against : "";
  return String(listQueryOf({ ...state, sort: "score", find: "", order: "desc", class: dependsOnClass ? state.class : null, against }));
}

/** Return the query of the slice alone. Two states with the same one show the same numbers at a threshold. */
export function sliceQueryOf(state) {
  return queryOf({ ...state, ...NO_VIEW, threshold: null, sort: "score", find: "", order: "desc" });
}

/** Six decimals of a threshold, or all of one so close to 0 or 1 that they would read as always or never. */
export function round(value) {
  const rounded = Math.round(value * 1e6) / 1e6;
  return rounded === 0 || rounded === 1 ? value : rounded;
}
