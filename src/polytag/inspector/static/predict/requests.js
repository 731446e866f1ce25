// Requests to the model: one at a time, repeated while the model is busy.
import { problemText } from "../shared/api.js";
import { pause } from "../shared/debounce.js";

const MAX_WAIT_MS = 120_000; // for a busy model, of one image

const tasks = [];
let isWorking = false;

async function work() {
  if (isWorking) return;
  isWorking = true;
  while (tasks.length) await tasks.shift()();
  isWorking = false;
}

/** Run an asynchronous task after those before it; with `first` before all that wait. */
export function inTurn(task, { first = false } = {}) {
  return new Promise((resolve, reject) => {
    tasks[first ? "unshift" : "push"](() => task().then(resolve, reject));
    work();
  });
}

/**
 * Post a file and return the response. A busy model is asked again after the time that it names, which `onBusy(seconds)` learns.
 * Throws an Error whose message can be shown; `canRetry` where another attempt may succeed.
 */
export async function postFile(path, file, { signal, onBusy }) {
  const end = performance.now() + MAX_WAIT_MS;
  for (;;) {
    const response = await post(path, file, signal);
    if (response.ok) return response;
    const seconds = Number(response.headers.get("retry-after"));
    const isBusy = response.status === 503 || response.status === 429;
    if (isBusy && seconds > 0 && performance.now() < end) {
      onBusy(seconds);
      await pause(1000 * seconds);
      if (signal.aborted) throw new DOMException("removed", "AbortError");
      continue;
    }
    const answer = await response.json().catch(() => ({}));
    throw Object.assign(new Error(problemText(answer, response.status)), { canRetry: response.status >= 500 || response.status === 429 });
  }
}

async function post(path, file, signal) {
  try {
    return await fetch(path, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" }, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("No answer from polytag: is it still running?"), { canRetry: true });
  }
}
