// The frame of every page: announcements to screen readers, notices, files that changed, and its keys (keys.js).
import { fetchJson } from "./api.js";
import { button, byId, element } from "./dom.js";
import { debounce } from "./debounce.js";
import { goToClass } from "./go-to-class.js";
import { bind, leaveTo } from "./keys.js";

export { bind, leaveTo };

const NOTICE_MS = 6000;

// ---- announcements and notices ----

/** Announce a text to screen readers. */
export function announce(text) {
  byId("announcement").textContent = text;
}

const hideNotice = debounce(() => (byId("notice").hidden = true), NOTICE_MS);

/** Show a text at the foot of the page for a few seconds, and announce it. */
export function notify(text) {
  if (!byId("notice")) document.body.append(element("p", { id: "notice", class: "notice" }));
  byId("notice").textContent = text;
  byId("notice").hidden = false;
  announce(text);
  hideNotice();
}

// ---- files that changed on the disk ----

const CHANGED = {
  thresholds: "The thresholds of this run changed on the disk.",
  scores: "The scores of this run changed on the disk.",
  unreadable: "The files of this run changed, and cannot be read now. Start polytag inspect again.",
};

document.addEventListener("polytag:changed", ({ detail }) => {
  if (byId("changed")?.dataset.change === detail) return;
  byId("changed")?.remove();
  const reload = detail === "unreadable" ? null : button("Reload", () => location.reload());
  document.body.append(element("p", { id: "changed", class: "notice", role: "status", "data-change": detail }, CHANGED[detail], reload));
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) fetchJson("/api/run").catch(() => {}); // its answer says whether they did
});

bind("g", "go to a class", () => void goToClass());
for (const each of document.querySelectorAll(".scriptless")) each.hidden = true;
