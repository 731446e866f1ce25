// The heat map over an image of the run.
import { fetchJson } from "./api.js";
import { element, version } from "./dom.js";

/**
 * Lay the heat map of a class over `sheet`, in place of the one before; without a class remove it.
 * `status` shows progress and problems, and `doneText` once the map is drawn.
 */
export function showHeatMap(sheet, status, { row, className, doneText = "" } = {}) {
  sheet.querySelector(".heat")?.remove();
  status.textContent = "";
  if (className === undefined) return;
  const image = element("img", { class: "heat", alt: `Where the model looks for ${className}` });
  const report = (text) => image.isConnected && (status.textContent = text); // another map may have replaced it
  status.textContent = "heat map …";
  image.addEventListener("load", () => report(doneText));
  image.addEventListener("error", async () => {
    const problem = await fetchJson(image.getAttribute("src")).catch((error) => error);
    report(`no heat map: ${problem.message ?? "it could not be drawn"}`);
    image.remove();
  });
  image.src = `/api/images/${row}/heat?` + new URLSearchParams({ class: className, v: version });
  sheet.append(image);
}
