// The page as the server would render it now, for those that take parts of it over.

/** Return the document; null where the server does not answer, or refuses. */
export async function laterPage() {
  try {
    const answer = await fetch(location.href);
    return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
  } catch {
    return null; // the server may have been ended
  }
}
