// What the decisions are worth: mAP under the labels as they are in the data, and under the corrected ones.
import { pageAddress } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";
import { byId, element } from "../shared/dom.js";

let isLoading = false;
let isAskedAgain = false;

/** Load and show the numbers. Calls that come meanwhile are answered by one request after it; the last numbers stay until then. */
export async function showWorth() {
  if (isLoading) return void (isAskedAgain = true);
  isLoading = true;
  try {
    show(await fetchJson("/api/review/worth"));
  } catch {
    // the last known numbers stay, with the number of decisions that they are of
  }
  isLoading = false;
  if (!isAskedAgain) return;
  isAskedAgain = false;
  await showWorth();
}

function show({ num_decided, num_confirmed, before, after }) {
  byId("worth").hidden = !num_decided || (before.value === null && after.value === null);
  const number = ({ value }) => (value === null ? "–" : value.toFixed(4));
  const classes = before.num_classes === after.num_classes ? "" : ` over ${after.num_classes} in place of ${before.num_classes} classes`;
  const decisions = `${num_decided.toLocaleString("en")} ${num_decided === 1 ? "decision" : "decisions"}`;
  const confirmed = `${num_confirmed.toLocaleString("en")} of them confirmed`;
  byId("worth").replaceChildren(
    element("a", { href: pageAddress("/decisions") }, "mAP ", element("b", {}, number(before)), " → ", element("b", {}, number(after))),
    `${classes} with ${decisions}, ${confirmed}. Mostly labels that contradict the model are reviewed, which favours it.`,
    ...(byId("worth").dataset.split === "train" ? [" ", element("a", { href: pageAddress("/decisions") + "#train" }, "Train on these")] : []),
  );
}
