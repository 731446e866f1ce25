// Precision over recall and the spread of scores, drawn by Vega; its one script is loaded when a chart is first wanted.
import { fetchJson } from "../shared/frame.js";

let loading;

function library() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.type = "module";
    script.src = "/static/vega.js";
    script.onload = () => resolve();
    script.onerror = () => reject(new Error("the charts cannot be drawn"));
    document.head.append(script);
  });
  return loading;
}

/** Colours are the page's own: names of its variables become what they stand for, and again when the scheme changes. */
function coloured(specification) {
  const style = getComputedStyle(document.documentElement);
  return JSON.parse(JSON.stringify(specification).replace(/var\((--[a-z]+)\)/g, (_, name) => style.getPropertyValue(name).trim()));
}

/** Draw both charts of a class; the answer's `at({threshold, recall, precision})` moves what stands for the threshold. */
export async function showCharts(className) {
  const [specifications] = await Promise.all([fetchJson("/api/charts?" + new URLSearchParams({ class: className })), library()]);
  const places = { precision_recall: "precision-recall", histogram: "histogram" };
  const views = [];
  for (const [name, id] of Object.entries(places)) {
    const place = document.getElementById(id);
    place.replaceChildren();
    if (!specifications[name]) {
      place.textContent = "No image is labelled with this class: there is no curve.";
      continue;
    }
    const options = { actions: false, renderer: "svg", ast: true, defaultStyle: false, logLevel: 1, tooltip: { disableDefaultStyle: true } };
    views.push((await window.vegaEmbed(place, coloured(specifications[name]), options)).view);
  }
  return {
    at(point) {
      for (const view of views) {
        const known = Object.values(point).every((value) => value !== null);
        view.data("at", known ? [point] : []).run();
      }
    },
  };
}
