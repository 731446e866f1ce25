// A heat map over the image of a run.
import { fetchJson, element, version } from "./frame.js";

/** Lay over `sheet` where the model sees the class of this entry; nothing without an entry. `told` says how far it is. */
export function layHeat(sheet, told, entry) {
  sheet.querySelector(".heat")?.remove();
  told.textContent = "";
  if (!entry) return;
  const image = element("img", { class: "heat", alt: `Where the model looks for ${entry.class_name}` });
  const tell = (text) => image.isConnected && (told.textContent = text); // another may have taken its place
  told.textContent = "heat map …";
  image.addEventListener("load", () => tell(""));
  image.addEventListener("error", async () => {
    const problem = await fetchJson(image.getAttribute("src")).catch((error) => error);
    tell(`no heat map: ${problem.message ?? "it could not be drawn"}`);
    image.remove();
  });
  image.src = `/api/images/${entry.row}/heat?` + new URLSearchParams({ class: entry.class_name, v: version });
  sheet.append(image);
}
