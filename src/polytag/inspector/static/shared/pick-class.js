// A dialog to choose one of any number of classes by typing: an ARIA combobox with a list.
import { byId, element } from "./dom.js";

const MAX_SHOWN = 100;

/**
 * Ask for a class; resolves to its name, or to "" where the dialog is closed without one. `wanted` are the names, or a promise of them:
 * the dialog takes what is typed while they load. `current` is chosen at the beginning; `title` says what the class is for.
 */
export function pickClass(wanted, { title = "Go to a class", current = "" } = {}) {
  const { dialog, input, list, status } = makeDialog(title);
  let names = null; // until they are loaded
  let isEntered = false; // before they were
  let found = [];
  let chosen = -1;

  function choose(index) {
    list.children[chosen]?.setAttribute("aria-selected", "false");
    chosen = Math.max(0, Math.min(found.length - 1, index));
    const option = list.children[chosen];
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    if (option) input.setAttribute("aria-activedescendant", option.id);
    else input.removeAttribute("aria-activedescendant");
  }

  function search() {
    if (!names) return;
    const all = matches(names, input.value);
    found = all.slice(0, MAX_SHOWN);
    list.replaceChildren(...found.map((name, index) =>
      element("li", { role: "option", id: `class-option-${index}`, "aria-selected": "false" }, element("bdi", {}, name))));
    status.textContent = all.length === 0 ? "No class has this in its name."
      : all.length > found.length ? `${found.length} of ${all.length.toLocaleString("en")} classes: type to narrow` : `${all.length.toLocaleString("en")} of ${names.length.toLocaleString("en")} classes`;
    choose(input.value ? 0 : found.indexOf(current));
  }

  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
    if (event.key === "Enter" && !names) isEntered = true;
    else if (event.key === "Enter") dialog.close(found[chosen] ?? "");
    else if (event.key in steps) choose(chosen + steps[event.key]);
    else return;
    event.preventDefault();
  });
  list.addEventListener("click", (event) => {
    const option = event.target.closest("li");
    if (option) dialog.close(found[[...list.children].indexOf(option)]);
  });
  document.body.append(dialog);
  dialog.showModal();
  status.textContent = "The classes are loading …";
  Promise.resolve(wanted).then((loaded) => {
    names = loaded;
    search();
    if (isEntered) dialog.close(found[chosen] ?? "");
  }, (error) => (status.textContent = error.message));
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue);
  }));
}

function makeDialog(title) {
  const input = element("input", {
    type: "text", role: "combobox", id: "class-wanted", "aria-autocomplete": "list", "aria-expanded": "true", "aria-controls": "class-options",
    "aria-labelledby": "class-title", autocomplete: "off", spellcheck: "false", placeholder: "a part of its name",
  });
  const list = element("ul", { role: "listbox", id: "class-options", "aria-labelledby": "class-title" });
  const status = element("p", { class: "note small", role: "status" });
  const dialog = element("dialog", { class: "picking", "aria-labelledby": "class-title" },
    element("form", { method: "dialog" }, element("h2", { id: "class-title" }, title), input, list, status));
  byId("picking")?.remove();
  dialog.id = "picking";
  return { dialog, input, list, status };
}

/** Names that hold every typed word: those that begin with the text first, then those with a word that does, then the others. */
export function matches(names, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return names;
  const words = wanted.split(/\s+/);
  const rankOf = (name) => (name.startsWith(wanted) ? 0 : name.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(words[0])) ? 1 : 2);
  return names
    .map((name) => [name, name.toLowerCase()])
    .filter(([, lower]) => words.every((word) => lower.includes(word)))
    .map(([name, lower]) => [rankOf(lower), name])
    .sort(([one], [other]) => one - other)
    .map(([, name]) => name);
}
