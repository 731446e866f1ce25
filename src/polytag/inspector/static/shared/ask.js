// Small dialogs: a text, and a choice.
import { element } from "./dom.js";

/**
 * Ask for a text; resolves to {text, choice}, or to null where the dialog is closed. `choices` are the words of the buttons, the main
 * one first; with `isLong` the text may have lines; `suggestions` are a promise of texts to choose from, for which nobody waits.
 */
export function askText({ title, label, choices, maxLength, isLong = false, isNeeded = true, suggestions = null }) {
  const attributes = { id: "asked", maxLength, required: isNeeded, autocomplete: "off" };
  const input = isLong ? element("textarea", { ...attributes, rows: 3 }) : element("input", { ...attributes, list: "suggested" });
  const list = element("datalist", { id: "suggested" });
  suggestions?.then((texts) => list.append(...texts.map((text) => element("option", { value: text }))), () => {});
  return opened(title, choices, element("label", { for: "asked" }, label), input, list)
    .then((choice) => (choice ? { text: input.value, choice } : null));
}

/** Ask whether to go on; resolves to whether the main button was pressed. */
export function askWhether({ title, text, yes }) {
  return opened(title, [yes], element("p", { class: "note" }, text)).then(Boolean);
}

/** Open a dialog with these buttons; resolves to the word of the pressed one, or to "". */
function opened(title, choices, ...content) {
  const buttons = choices.map((choice, index) => element("button", { class: index ? "" : "main", value: choice }, choice));
  const dialog = element("dialog", { class: "asking-text", "aria-labelledby": "asked-title" },
    element("form", { method: "dialog" }, element("h2", { id: "asked-title" }, title), ...content,
      element("div", { class: "line" }, ...buttons, element("button", { value: "", formnovalidate: "" }, "Cancel"))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue);
  }));
}
