// Precision over recall and the distribution of scores, drawn by Vega. Its bundle is loaded when a chart is first shown.
import { fetchJson } from "../shared/api.js";
import { byId } from "../shared/dom.js";

const PLACES = { precision_recall: "precision-recall", histogram: "histogram" };
const OPTIONS = { actions: false, renderer: "svg", ast: true, defaultStyle: false, logLevel: 1, tooltip: { disableDefaultStyle: true } };

let bundle;

function loadBundle() {
  bundle ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.type = "module";
    script.src = "/static/vega.js";
    script.onload = () => resolve();
    script.onerror = () => reject(new Error("the charts cannot be drawn"));
    document.head.append(script);
  });
  return bundle;
}

/** Replace the names of CSS variables in a specification by their colours. */
function withColours(specification) {
  const style = getComputedStyle(document.documentElement);
  return JSON.parse(JSON.stringify(specification).replace(/var\((--[a-z]+)\)/g, (_, name) => style.getPropertyValue(name).trim()));
}

/** Draw both charts of a class. `at({threshold, recall, precision})` of the answer moves the mark at the threshold. */
export async function showCharts(className) {
  const [specifications] = await Promise.all([fetchJson("/api/charts?" + new URLSearchParams({ class: className })), loadBundle()]);
  const views = [];
  for (const [name, id] of Object.entries(PLACES)) {
    byId(id).replaceChildren();
    if (!specifications[name]) {
      byId(id).textContent = "This class has no positive or no negative, so there is no curve.";
      continue;
    }
    views.push((await window.vegaEmbed(byId(id), withColours(specifications[name]), OPTIONS)).view);
  }
  return {
    at(point) {
      const isDefined = Object.values(point).every((value) => value !== null);
      for (const view of views) view.data("at", isDefined ? [point] : []).run();
    },
  };
}
