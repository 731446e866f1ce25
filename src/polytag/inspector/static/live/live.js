// Follows a run that trains: loads the parts of the page again every few seconds. Once it has ended, the page is the inspector.
import { announce } from "../shared/frame.js";
import { pause } from "../shared/debounce.js";
import { laterPage } from "../shared/later-page.js";

const POLL_MS = 3000;

for (;;) {
  await pause(POLL_MS);
  if (document.hidden) continue;
  const later = await laterPage();
  if (later === null) continue;
  const [before, now] = [document, later].map((each) => each.querySelector("[data-part=progress]"));
  if (now === null) {
    location.reload();
    break;
  }
  if (now.dataset.epoch !== before.dataset.epoch) announce(now.dataset.said);
  const [links, freshLinks] = [document, later].map((each) => [...each.querySelectorAll(".bar nav a")]);
  if (links.length !== freshLinks.length) { // the first scores are there
    document.getElementById("keys").before(...freshLinks.map((each) => document.adoptNode(each)));
    for (const each of links) each.remove();
  }
  document.title = later.title;
  document.body.dataset.version = later.body.dataset.version;
  for (const part of document.querySelectorAll("[data-part]")) {
    const fresh = later.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!part.isEqualNode(fresh) && !part.contains(document.activeElement)) part.replaceWith(document.adoptNode(fresh));
  }
}
