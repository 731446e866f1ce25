// An image of the data set that has no page, shown as large as the window allows.
import { element } from "./dom.js";

/** Show an image {row, id, split, labels, distance}; Escape, a press beside it or the button closes it, and `from` has the focus again. */
export function lookAt({ row, id, split, labels, distance }, { from }) {
  const dialog = element("dialog", { class: "enlarged-image", "aria-labelledby": "enlarged-title", "aria-describedby": "enlarged-text", closedby: "any" },
    element("h2", { id: "enlarged-title" }, element("bdi", {}, id)),
    element("img", { src: `/data/${row}/image`, alt: id }),
    element("p", { id: "enlarged-text", class: "note" }, [split, labels, `distance ${distance.toFixed(3)}`].filter(Boolean).join(" · ")),
    element("form", { method: "dialog", class: "line" }, element("button", { autofocus: true }, "Close")));
  document.body.append(dialog);
  dialog.addEventListener("close", () => {
    dialog.remove();
    from.focus();
  });
  dialog.showModal();
}
