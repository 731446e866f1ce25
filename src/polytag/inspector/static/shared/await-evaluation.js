// The overview: a page that waits for numbers that are still being computed.
import { fetchJson } from "./frame.js";

async function waitForNumbers() {
  const { is_evaluated } = await fetchJson("/api/run");
  if (is_evaluated) location.reload();
  else setTimeout(waitForNumbers, 700);
}
if (document.querySelector(".pending")) setTimeout(waitForNumbers, 500);
