// The field above the table of classes. The address holds its text; the rows that lack it are hidden.
import { isAddress, withParameters, writeAddress } from "../shared/address.js";
import { byId } from "../shared/dom.js";
import { bind } from "../shared/frame.js";

const input = byId("filter");
const rows = [...document.querySelectorAll("table.classes tbody tr")];
const names = rows.map((row) => row.querySelector("th").textContent.trim().toLowerCase());

function show() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let numShown = 0;
  for (const [index, row] of rows.entries()) {
    row.hidden = !words.every((word) => names[index].includes(word));
    numShown += !row.hidden;
  }
  byId("num-classes").textContent = words.length ? `${numShown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "";
  for (const link of document.querySelectorAll("table.classes thead a")) link.search = withParameters(link.search, { filter: input.value });
}

input.addEventListener("input", () => {
  show();
  const parameters = withParameters(location.search, { filter: input.value });
  if (!isAddress(parameters)) writeAddress(parameters);
});
byId("filter-form").addEventListener("submit", (event) => event.preventDefault());
bind("/", "filter the classes by name", () => input.focus());
show();
