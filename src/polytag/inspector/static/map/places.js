// Where the images are: asks the server, shows the map of the scores while what the model sees is computed, and says how far it is.
import { fetchJson } from "../shared/api.js";
import { pause } from "../shared/debounce.js";
import { byId } from "../shared/dom.js";
import { announce } from "../shared/frame.js";

const POLL_MS = 1000;
const percent = (share) => `${Math.round(100 * share)}%`;
const ofShares = (shares) => (shares ? ` The two axes hold ${percent(shares[0] + shares[1])} of the variance.` : "");
const MAP_OF = { features: "of what the model sees", umap: "by UMAP", scores: "of the scores" };
const umapText = (progress) => (progress ? `UMAP places the images: ${percent(progress)}.` : "UMAP looks for the images that are nearest to each one …");
const MADE_OF = {
  features: ({ shares }) => `Images that look alike to the model lie near each other: the principal components of its features.${ofShares(shares)}`,
  umap: () => "Images that look alike to the model lie near each other, by UMAP: the distance between groups says little.",
  scores: ({ shares }) => `Images with similar scores lie near each other: the principal components of the scores.${ofShares(shares)}`,
};

/**
 * `wanted()` is the map of the state, or ""; `isPinned()` whether a selection belongs to it, so that no other map may stand in for it;
 * `use(answer)` shows places.
 */
export function placesOf({ wanted, isPinned, use }) {
  const sources = [...byId("by").options].map(({ value }) => value);
  let shown = "";
  let numAsked = 0;

  const chosen = () => (sources.includes(wanted()) ? wanted() : sources[0]);

  async function get(source, isAskedFor = false) {
    const parameters = new URLSearchParams({ by: source, begin: isAskedFor });
    let answer = await fetchJson(`/api/map?${parameters}`);
    if (source !== "scores") return answer;
    while (answer.status === "computing") {
      await pause(POLL_MS / 2);
      answer = await fetchJson(`/api/map?${parameters}`);
    }
    return answer;
  }

  function put(source, answer) {
    shown = source;
    byId("made-of").textContent = MADE_OF[source](answer);
    use(answer);
  }

  async function show(isAskedFor = false) {
    const asked = ++numAsked;
    const source = chosen();
    if (source === shown) return say(null);
    let answer = await get(source, isAskedFor).catch((error) => ({ status: "failed", message: error.message }));
    while (asked === numAsked && answer.status !== "ready") {
      say(answer);
      if (!shown && !isPinned() && source !== "scores") {
        const stand = await get("scores");
        if (asked === numAsked) put("scores", stand);
      }
      if (answer.status !== "computing") return;
      await pause(POLL_MS);
      if (asked !== numAsked) return;
      if (chosen() !== source) return show(); // the state has another map by now: a lasso keeps the one that it was drawn on
      answer = await get(source).catch((error) => ({ status: "failed", message: error.message }));
    }
    if (asked !== numAsked) return;
    say(null);
    put(source, answer);
    announce("The map is there.");
  }

  /** Say what is computed and how far, or why not; null for nothing. */
  function say(answer) {
    const stand = shown || !isPinned() ? ` Until then this is the map ${MAP_OF[shown || "scores"]}.` : "";
    const isUmap = answer?.step === "umap";
    const canStop = answer?.status === "computing" && (isUmap || answer.progress < 1);
    const text = {
      computing: () => (canStop ? (isUmap ? umapText(answer.progress) : `What the model sees is being computed, once: ${percent(answer.progress)}.`) + stand : "The map is being computed …"),
      waiting: () => (isUmap ? "The map by UMAP is not computed." : "What the model sees is not computed yet.") + stand,
      failed: () => answer.message,
    }[answer?.status]?.() ?? "";
    byId("computing").hidden = !text;
    byId("computing").firstElementChild.textContent = text;
    byId("stop-or-begin").hidden = !canStop && answer?.status !== "waiting";
    byId("stop-or-begin").textContent = canStop ? "Stop" : "Compute it";
  }

  byId("stop-or-begin").addEventListener("click", async ({ target }) => {
    if (target.textContent !== "Stop") return show(true);
    numAsked++;
    say(await fetchJson("/api/map/stop", { method: "POST" }).catch((error) => ({ status: "failed", message: error.message })));
  });

  return { show, shown: () => shown };
}
