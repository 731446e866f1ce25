// Says that images of the list could not be loaded, until they are, and offers to try again at once.
import { button, byId, element } from "../shared/dom.js";
import { announce } from "../shared/frame.js";
import { reasonText } from "../shared/retry.js";

/** Show why; nothing where `error` is null. `again()` is called by the button. */
export function showUnloaded(error, again) {
  const before = byId("unloaded");
  if (before?.contains(document.activeElement)) byId("main").focus({ preventScroll: true });
  before?.remove();
  if (!error) return;
  const tryNow = () => {
    announce("Trying again.");
    again();
  };
  const text = `Some images are not loaded. ${reasonText(error)}`;
  document.body.append(element("p", { id: "unloaded", class: "notice" }, element("span", {}, text), button("Try now", tryNow)));
  announce(text);
}
