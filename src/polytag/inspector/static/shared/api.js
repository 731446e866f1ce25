// Requests to the API.

/** Return the JSON answer; throws an Error whose message can be shown, with `status` and `answer` of a refusal. */
export async function fetchJson(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("polytag does not answer: is it still running?");
  }
  const changed = response.headers.get("polytag-changed");
  if (changed) document.dispatchEvent(new CustomEvent("polytag:changed", { detail: changed }));
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw Object.assign(new Error(problemText(answer, response.status)), { status: response.status, answer });
}

/** Send a body as JSON; returns and throws as fetchJson does. */
export function post(path, body) {
  return fetchJson(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

/** The sentence of a refusal: its `detail`, or the first message of a validation error. */
export function problemText({ detail }, status) {
  return (typeof detail === "string" ? detail : detail?.[0]?.msg) || `refused (${status})`;
}
