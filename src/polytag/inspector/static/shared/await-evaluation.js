// Reloads the page once the numbers that it shows as pending are computed, and nobody types in it.
import "./frame.js";
import { fetchJson } from "./api.js";
import { pause } from "./debounce.js";

const POLL_MS = 700;

let isLeaving = false;
addEventListener("beforeunload", () => (isLeaving = true)); // a reload would cancel the way to another page
const isInUse = () => isLeaving || document.querySelector("dialog[open], input:focus") !== null;

while (document.querySelector(".pending")) {
  await pause(POLL_MS);
  if (isInUse()) continue;
  const { is_evaluated } = await fetchJson("/api/run").catch(() => ({})); // the server may be there again later
  if (!is_evaluated || isInUse()) continue;
  location.reload();
  break;
}
