// How far the reviewers agree, and the labels on which they do not. It is loaded when the list is unfolded.
import { pageAddress } from "../shared/address.js";
import { LABELS, byId, element } from "../shared/dom.js";
import { notify } from "../shared/frame.js";
import { showSecond } from "./second.js";

byId("agreement").hidden = false;
byId("agreement").addEventListener("toggle", () => byId("agreement").open && show().catch((error) => notify(error.message)));

async function show() {
  const { classes, disputed, num_disputed } = await showSecond();
  byId("agreement-empty").hidden = classes.length > 0;
  byId("agreement-found").hidden = classes.length === 0;
  byId("agreement-rows").replaceChildren(...classes.map(rowOf));
  const all = num_disputed ? [" ", element("a", { href: pageAddress("/review", { kind: "disputed" }) }, "Review them")] : [];
  byId("disputed-title").replaceChildren(num_disputed ? `${num_disputed.toLocaleString("en")} disputed.` : "No label is disputed.", ...all);
  byId("disputed").replaceChildren(...disputed.map(labelOf));
}

function rowOf({ class_name, first, second, num_labels, num_equal, kappa }) {
  const number = (text) => element("td", { class: "num" }, text);
  return element("tr", {},
    element("td", {}, element("bdi", {}, class_name)), element("td", {}, element("bdi", {}, first), ", ", element("bdi", {}, second)),
    number(num_labels.toLocaleString("en")), number(num_equal.toLocaleString("en")), number(kappa === null ? "–" : kappa.toFixed(2).replace("-", "−")));
}

/** A link to the label, where another decision settles it. */
function labelOf({ image, class_name, votes }) {
  const address = pageAddress("/review", { decided: "1", id: image, label: class_name });
  const said = Object.entries(votes).map(([reviewer, label]) => `${reviewer}: ${LABELS[label]}`).join(", ");
  return element("li", {}, element("a", { href: address }, element("bdi", {}, `${class_name}, ${image}`)), element("span", { class: "soft" }, ` ${said}`));
}
