// Reads and writes the address of the page without loading it.

/** Return a query with some parameters replaced. undefined, null and "" remove one; an array sets several. */
export function withParameters(query, changes) {
  const parameters = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    parameters.delete(name);
    for (const each of [value].flat()) if (each !== undefined && each !== null && each !== "") parameters.append(name, each);
  }
  return parameters;
}

/** What links to other pages keep of the address: the compared run. */
export const kept = () => ({ against: new URLSearchParams(location.search).get("against") });

/** Return the address of a page of the inspector, with what links keep. */
export function pageAddress(path, parameters = {}) {
  const query = String(withParameters("", { ...parameters, ...kept() }));
  return path + (query ? "?" + query : "");
}

/** Show this query in the address: as a new entry of the history with `push`, else in the current one. `data` is stored with it. */
export function writeAddress(parameters, { push = false, data = null } = {}) {
  const query = String(parameters);
  const address = location.pathname + (query ? "?" + query : "");
  if (push) history.pushState(data, "", address);
  else history.replaceState(data, "", address);
}

/** Whether the address shows this query already. Replacing it by itself would cancel a step back that has just begun. */
export function isAddress(parameters) {
  return location.search.slice(1) === String(parameters);
}
