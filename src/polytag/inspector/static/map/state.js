// The state of the map, and how the address holds it: that of a ranking (ranking/state.js), and
//
//   colour    error, label, score, labels or split; "" for the first that there is
//   by        features, umap or scores; "" for the best that is at hand
//   view      {x, y, scale}: the place in the middle of the window, and the zoom; scale 1 shows the whole map
//   lassos    polygons, lists of [x, y] in places of the map; what lies in one of them is selected
import { queryOf as rankingQueryOf, readState as readRanking } from "../ranking/state.js";

export const EXTENT = 65_535; // of places
export const WHOLE = { x: EXTENT / 2, y: EXTENT / 2, scale: 1 };
const MAX_SCALE = 200;
const MAX_CORNERS = 60; // of a lasso: its address stays short
const MAX_LASSOS = 8;

export function readState(query, defaultClass) {
  const parameters = new URLSearchParams(query);
  const lassos = parameters.getAll("lasso").slice(0, MAX_LASSOS).map(polygonOf).filter((polygon) => polygon.length > 2);
  return {
    ...readRanking(query, defaultClass), colour: parameters.get("colour") ?? "", by: parameters.get("by") ?? "",
    view: viewOf(parameters.get("view")), lassos,
  };
}

export function queryOf(state) {
  const parameters = rankingQuery(state);
  if (state.colour) parameters.set("colour", state.colour);
  if (state.by) parameters.set("by", state.by);
  const { x, y, scale } = state.view;
  if (scale !== 1 || x !== WHOLE.x || y !== WHOLE.y) parameters.set("view", [Math.round(x), Math.round(y), scale.toFixed(2)].join("_"));
  for (const polygon of state.lassos) parameters.append("lasso", written(polygon));
  return parameters;
}

/** The query of the ranking of what lies in the lassos, which the filters of the state let pass. */
export function regionQuery(state) {
  const region = [state.by, ...state.lassos.map(written)].join(".");
  return rankingQuery({ ...state, region: [...state.region, region] });
}

/** The query of the ranking with the same class, order and filters. */
export const rankingQuery = (state) => rankingQueryOf({ ...state, offset: 0, id: "", size: "m", curves: false });

const written = (polygon) => polygon.map((corner) => corner.join("_")).join("-");

function viewOf(text) {
  const [x, y, scale] = (text ?? "").split("_").map(Number);
  return [x, y, scale].every(Number.isFinite) ? bounded({ x, y, scale }) : { ...WHOLE };
}

/** A view that shows some of the map. */
export function bounded({ x, y, scale }) {
  const within = (value) => Math.min(EXTENT, Math.max(0, value));
  return { x: within(x), y: within(y), scale: Math.min(MAX_SCALE, Math.max(0.5, scale)) };
}

function polygonOf(text) {
  const corners = text.split("-").map((corner) => corner.split("_").map(Number));
  return corners.every((corner) => corner.length === 2 && corner.every(Number.isFinite)) ? shortened(corners) : [];
}

/** A polygon as the address holds it: whole places, and no more corners than fit. */
function shortened(polygon) {
  const number = Math.min(polygon.length, MAX_CORNERS);
  const kept = Array.from({ length: number }, (_, index) => polygon[Math.floor((index * polygon.length) / number)]);
  return kept.map((corner) => corner.map((value) => Math.round(Math.min(EXTENT + 999, Math.max(0, value)))));
}

/** The lassos with one more; the first gives way where there are too many. */
export const withLasso = (lassos, polygon) => [...lassos, shortened(polygon)].slice(-MAX_LASSOS);
