// How far the review has come: counts and a bar.
import { withParameters } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";
import { debounce } from "../shared/debounce.js";
import { byId } from "../shared/dom.js";

const POLL_MS = 1000;
let numAsked = 0; // a later question replaces one that is on its way
const showLater = debounce(() => showProgress(), POLL_MS);

/** Show how many labels of a class, "" for all, wait for the second opinion of a reviewer: what others decided is not counted here. */
export async function showSecondLeft(reviewer, className) {
  showLater.cancel();
  const asked = ++numAsked;
  const parameters = withParameters("", { kind: "second", reviewer, class: className, limit: 1 });
  const { status, total } = await fetchJson("/api/review/queue?" + parameters).catch(() => ({}));
  if (asked !== numAsked || status !== "ready") return; // the last known number stays
  byId("counts").textContent = `${total.toLocaleString("en")} left · what others decided is hidden`;
  byId("done").hidden = true;
}

/** Load the progress and show it; again after a while where the queue is still being computed. */
export async function showProgress() {
  showLater.cancel();
  const asked = ++numAsked;
  let progress;
  try {
    progress = await fetchJson("/api/review/progress");
  } catch {
    return; // the last known numbers stay
  }
  if (asked !== numAsked) return;
  if (progress.status === "computing") showLater();
  const number = (value) => value.toLocaleString("en");
  const decided = progress.status === "ready"
    ? `${number(progress.num_label_issues_decided)} of ${number(progress.num_label_issues)} suspicious decided`
    : `${number(progress.num_decided)} decided`;
  byId("counts").textContent = [decided, `${number(progress.num_changed)} changed`, `${number(progress.num_confirmed)} confirmed`].join(" · ");
  byId("done").hidden = !progress.num_label_issues;
  byId("done").max = progress.num_label_issues || 1;
  byId("done").value = progress.num_label_issues_decided;
}
