// The search by text: how far the server is with it. Its first use reads every image, which may take long and can be stopped.
import { withParameters } from "../shared/address.js";
import { fetchJson } from "../shared/api.js";
import { pause } from "../shared/debounce.js";
import { byId } from "../shared/dom.js";
import { queryOf } from "./state.js";

const POLL_MS = 500;

/** Wait until the server has the images in the order of the text, if there is one. Returns whether it has; `onWait` is called where it has not. */
export async function waitForOrder(state, { isReplaced, onWait }) {
  while (!isReplaced()) {
    const answer = state.find ? await fetchJson("/api/find?" + new URLSearchParams({ find: state.find })) : { status: "ready", text: "" };
    if (isReplaced()) return false;
    say(answer, state);
    if (answer.status === "ready") return true;
    onWait();
    if (answer.status === "waiting") return false;
    await pause(POLL_MS);
  }
  return false;
}

function say({ status, text }, state) {
  const [form, button] = [byId("finding"), byId("finding").querySelector("button")];
  const isWaiting = status === "waiting";
  form.hidden = !text;
  form.action = "/ranking?" + withParameters(queryOf(state), { action: isWaiting ? "begin" : "stop" });
  if (form.firstElementChild.textContent !== text) form.firstElementChild.textContent = text;
  button.hidden = status === "ready";
  button.textContent = isWaiting ? "Read them" : "Stop";
}
