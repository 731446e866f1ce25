// Loads the parts of a page again while one of them is being computed. Without scripts a reload does the same.
import "./frame.js";
import { pause } from "./debounce.js";
import { laterPage } from "./later-page.js";

const POLL_MS = 1000;

while (document.querySelector("[data-pending]")) {
  await pause(POLL_MS);
  const later = await laterPage();
  for (const part of document.querySelectorAll("[data-part]")) {
    const fresh = later?.querySelector(`[data-part="${part.dataset.part}"]`);
    if (fresh && !part.isEqualNode(fresh)) part.replaceWith(document.adoptNode(fresh));
  }
}
