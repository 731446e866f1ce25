// How far the review has come: counts and a bar.
import { fetchJson } from "../shared/api.js";
import { debounce } from "../shared/debounce.js";
import { byId } from "../shared/dom.js";

const POLL_MS = 1000;
const showLater = debounce(() => showProgress(), POLL_MS);

/** Load the progress and show it; again after a while where the queue is still being computed. */
export async function showProgress() {
  showLater.cancel();
  let progress;
  try {
    progress = await fetchJson("/api/review/progress");
  } catch {
    return; // the last known numbers stay
  }
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
