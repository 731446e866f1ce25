// Reloads the page once the numbers that it shows as pending are computed.
import "./frame.js";
import { fetchJson } from "./api.js";
import { pause } from "./debounce.js";

const POLL_MS = 700;

while (document.querySelector(".pending")) {
  await pause(POLL_MS);
  const { is_evaluated } = await fetchJson("/api/run");
  if (!is_evaluated) continue;
  location.reload();
  break;
}
