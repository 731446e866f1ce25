// The key g of every page: choose a class, and see its images.
import { fetchJson } from "./api.js";
import { pickClass } from "./pick-class.js";

let here = null; // {names, choose} of a page that shows a class itself

/** Let the page show the chosen class instead of the page of its ranking. */
export function onClassChosen(names, choose) {
  here = { names, choose };
}

export async function goToClass() {
  const names = here?.names ?? fetchJson("/api/run").then(({ classes }) => classes);
  const name = await pickClass(names, { current: new URLSearchParams(location.search).get("class") ?? "" });
  if (!name) return;
  if (here) here.choose(name);
  else location.assign("/ranking?" + new URLSearchParams({ class: name }));
}
