// The state of the review page, and how the address holds it.
//
//   kind, class, decided   which labels are reviewed; "" for all classes; `decided` includes those that are decided, as disputed ones are;
//                          second opinions are asked of labels that others decided, and their decisions are hidden
//   order                  which of them come first
//   id, label              the image and the class of the current label, "" at the end of the list
//   heat                   whether the heat map is shown
//   against                the compared run of the other pages, "" for the first one
import { withParameters } from "../shared/address.js";

export function readState(query) {
  const parameters = new URLSearchParams(query);
  return {
    kind: parameters.get("kind") || "issues",
    order: parameters.get("order") || "suspicion",
    class: parameters.get("class") ?? "",
    decided: includesDecided(parameters.get("kind"), parameters.has("decided")),
    id: parameters.get("id") ?? "",
    label: parameters.get("label") ?? "",
    heat: parameters.has("heat"),
    against: parameters.get("against") ?? "",
  };
}

/** Whether the list of a kind includes decided labels, where the reviewer `wishes` it or not. */
export const includesDecided = (kind, wishes) => kind === "disputed" || (kind !== "second" && wishes);

/** Return the query of a state, without what is default. */
export function queryOf(state) {
  return withParameters("", {
    ...state,
    kind: state.kind === "issues" ? null : state.kind,
    order: state.order === "suspicion" ? null : state.order,
    decided: state.decided ? "1" : null,
    heat: state.heat ? "1" : null,
  });
}

export const haveSameQueue = (one, other) => one.kind === other.kind && one.order === other.order && one.class === other.class && one.decided === other.decided;
