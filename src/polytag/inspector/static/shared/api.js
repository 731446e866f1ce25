// Requests to the API.

/** Return the JSON answer; throws an Error whose message can be shown, with `status` and `answer` of a refusal. */
export async function fetchJson(path, options = {}) {
  const response = await fetch(path, options).catch(unanswered);
  const changed = response.headers.get("polytag-changed");
  if (changed) document.dispatchEvent(new CustomEvent("polytag:changed", { detail: changed }));
  const answer = await response.json().catch(response.ok ? unanswered : () => ({})); // a connection may break within an answer
  if (response.ok) return answer;
  throw Object.assign(new Error(problemText(answer, response.status)), { status: response.status, answer });
}

function unanswered(error) {
  if (error.name === "AbortError") throw error;
  throw new Error("polytag does not answer: is it still running?");
}

/** Send a body as JSON; returns and throws as fetchJson does. */
export function post(path, body) {
  return fetchJson(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

/** The sentence of a refusal: its `detail`, or the first message of a validation error. */
export function problemText({ detail }, status) {
  return (typeof detail === "string" ? detail : detail?.[0]?.msg) || `refused (${status})`;
}
