// The key g of every page: choose a class by typing. A page that is about one class then shows that one; the others go to its ranking.
import { pageAddress } from "./address.js";
import { fetchJson } from "./api.js";
import { pickClass } from "./pick-class.js";

const SHOWN_BY = { "/class": "", "/together": "#one" }; // pages of one class that the server renders, and where on them it is
let here = null; // {names, choose, title} of a page that shows a class itself

/** Let the page show the chosen class instead of another page. `names` are its classes; by default all of the run. */
export function onClassChosen(names, choose, { title } = {}) {
  here = { names, choose, title };
}

export async function goToClass() {
  const names = here?.names ?? fetchJson("/api/run").then(({ classes }) => classes);
  const parameters = new URLSearchParams(location.search);
  const name = await pickClass(names, { current: parameters.get("label") ?? parameters.get("class") ?? "", title: here?.title });
  if (!name) return;
  if (here) return here.choose(name);
  const path = location.pathname in SHOWN_BY ? location.pathname : "/ranking";
  location.assign(pageAddress(path, { class: name }) + (SHOWN_BY[path] ?? ""));
}
