// The way to the labels that wait for a second opinion, where there are any: in the agreement of the reviewers, and with what it is worth.
import { pageAddress, withParameters } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";
import { reviewer } from "../shared/decide.js";
import { byId, element } from "../shared/dom.js";

/** Load the agreement of the reviewers, and show how many labels others decided and this reviewer did not. Returns the agreement. */
export async function showSecond() {
  const answer = await fetchJson("/api/review/agreement?" + withParameters("", { reviewer: reviewer() }));
  const number = answer.num_second;
  const what = `${number.toLocaleString("en")} ${number === 1 ? "label that others decided waits" : "labels that others decided wait"} for your second opinion.`;
  byId("second").replaceChildren(what + " ", element("a", { href: pageAddress("/review", { kind: "second" }) }, "Give it without seeing theirs"));
  byId("second").hidden = !number;
  return answer;
}

if (!byId("agreement")) showSecond().catch(() => {}); // the page of decisions says nothing where the review cannot be read
