// The form above the list: class, order and filters. It reads a change from its controls, and shows a state in them.
import { withParameters } from "../shared/address.js";
import { byId, element, words } from "../shared/dom.js";
import { debounce } from "../shared/debounce.js";
import { listQueryOf, queryOf } from "./state.js";

const TYPING_MS = 150;
const form = byId("controls");

/** Return the part of the state that the controls hold. */
export function readControls() {
  const data = new FormData(form);
  const text = (name) => data.get(name) ?? "";
  const names = (name) => data.getAll(name).filter(Boolean);
  return {
    class: text("class"), sort: text("sort"), find: text("find").trim(), order: text("order"), size: text("size"),
    outcome: names("outcome"), min_labels: text("min_labels"), max_labels: text("max_labels"),
    min_score: text("min_score"), max_score: text("max_score"),
    present: names("present"), absent: names("absent"), predicted: names("predicted"), not_predicted: names("not_predicted"), region: names("region"),
    other: text("other"), bond: text("bond"),
    column: text("column"), value: text("value"), text: text("text"), tag: text("tag"), change: text("change"), against: text("against"), disagree: data.has("disagree"),
  };
}

/** Show a state in the controls; those that show it already are left alone, and so is the focus in them. */
export function fillControls(state, columns) {
  if (byId("column")) fillValues(columns[state.column] ?? []);
  for (const name of ["class", "sort", "find", "order", "min_labels", "max_labels", "min_score", "max_score", "column", "value", "text", "other", "bond", "tag", "change", "against"]) {
    const control = form.elements[name];
    if (control && control.value !== state[name] && !(control.value === "" && state[name] === "0")) control.value = state[name];
  }
  if (form.elements.against?.selectedIndex < 0) form.elements.against.selectedIndex = 0; // the first run, by its name
  for (const choice of document.querySelectorAll("input[name=size]")) choice.checked = choice.value === state.size;
  for (const box of document.querySelectorAll("input[name=outcome]")) box.checked = state.outcome.includes(box.value);
  if (form.elements.disagree) form.elements.disagree.checked = state.disagree;
  for (const name of ["present", "absent", "predicted", "not_predicted"]) if (form.elements[name]) fillSelects(name, state[name]);
  showRegions(state.region);
  for (const link of document.querySelectorAll(".views a")) {
    const parameters = new URLSearchParams(link.search);
    for (const name of ["class", "present", "absent"]) if (parameters.has(name)) parameters.set(name, state.class);
    link.search = withParameters(parameters, { against: state.against });
  }
  for (const link of document.querySelectorAll(".bar a")) link.search = withParameters(link.search, { against: state.against });
  for (const link of document.querySelectorAll("[data-change]")) {
    const isChosen = link.dataset.change === state.change;
    if (isChosen) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    link.search = queryOf({ ...state, offset: 0, change: isChosen ? "" : link.dataset.change });
  }
  byId("to-map").search = listQueryOf(state);
  byId("clear").search = withParameters("", { class: state.class, sort: state.sort, find: state.find, order: state.order, against: state.against });
}

/** A box for each region of the map that filters; one that is cleared ends its filter. */
function showRegions(regions) {
  const boxes = regions.map((region) => {
    const box = element("input", { type: "checkbox", name: "region", value: region });
    box.setAttribute("form", form.id);
    box.checked = true;
    return element("label", {}, box, ` lasso on the map of ${words.place[region.split(".")[0]]}`);
  });
  byId("regions").hidden = !regions.length;
  if ([...document.querySelectorAll("input[name=region]")].map(({ value, checked }) => checked && value).join() === regions.join()) return;
  byId("regions").replaceChildren(byId("regions").firstElementChild, ...boxes);
}

/** Offer the values of the chosen column. */
function fillValues(values) {
  const select = byId("value");
  if ([...select.options].map((option) => option.value).join("\n") === values.join("\n")) return;
  select.replaceChildren(...(values.length ? values.map((value) => element("option", {}, value)) : [element("option", { value: "" }, "–")]));
}

/** One select for each chosen class, and an empty one to add another. */
function fillSelects(name, chosen) {
  const selects = [...document.querySelectorAll(`select[name=${name}]`)];
  for (const [index, value] of [...chosen, ""].entries()) {
    if (!selects[index]) {
      selects.push(selects[0].cloneNode(true));
      selects[index - 1].after(selects[index]);
    }
    if (selects[index].value !== value) selects[index].value = value;
  }
  for (const select of selects.slice(chosen.length + 1)) select.remove();
}

/**
 * Call `onChange(isTyped)` when a control changes; typing in a text or number field is one change after a pause, and in the search by
 * text none before enter.
 */
export function listenToControls(onChange) {
  const afterTyping = debounce(() => onChange(true), TYPING_MS);
  const isTyped = (control) => (control.type === "search" && control.id !== "find") || control.type === "number";
  const isOurs = (control) => control.form === form && control.id !== "threshold";
  const tools = byId("main");
  tools.addEventListener("input", ({ target }) => isOurs(target) && isTyped(target) && afterTyping());
  byId("find")?.addEventListener("input", ({ target }) => target.value || onChange(false)); // the cross in it
  tools.addEventListener("change", ({ target }) => {
    if (!isOurs(target) || isTyped(target)) return;
    afterTyping.cancel();
    onChange(false);
  });
  byId("both")?.addEventListener("click", (event) => {
    const { change } = event.target.closest("[data-change]")?.dataset ?? {};
    if (!change || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    form.elements.change.value = form.elements.change.value === change ? "" : change;
    onChange(false);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    afterTyping.cancel();
    onChange(false);
  });
  return afterTyping;
}

export function showPanel(button, panel, isOpen) {
  panel.hidden = !isOpen;
  button.setAttribute("aria-expanded", String(isOpen));
}

/** Let a button unfold a panel; `onToggle` is called after each change. */
export function bindPanel(button, panel, onToggle = () => {}) {
  button.hidden = false;
  button.addEventListener("click", () => {
    showPanel(button, panel, panel.hidden);
    onToggle();
  });
}
