// Whether an image is shown, or only the drawing that stands for a missing one. Nobody decides about what they do not see.

const DRAWING_PX = 96; // the size of missing.svg; an image may have the same, and then the type of the answer tells

export const NOT_SHOWN = {
  loading: "The image is still loading.",
  missing: "The image is missing or cannot be read, so nothing can be decided about it.",
  failed: "The image could not be loaded, so nothing can be decided about it.",
};

/** Whether it may be the drawing. */
export const isDrawing = (image) => image.dataset.state !== "shown" && image.naturalWidth === DRAWING_PX && image.naturalHeight === DRAWING_PX;

/** Return "shown", "missing" (the server has no such image, or cannot read it), "failed" (no answer) or "loading". */
export async function stateOf(image) {
  const address = image.currentSrc;
  if (!image.complete || !address) return "loading";
  if (!image.naturalWidth) return "failed";
  if (image.naturalWidth !== DRAWING_PX || image.naturalHeight !== DRAWING_PX) return "shown";
  if (address.startsWith("data:")) return "shown"; // the grid's, which the drawing never is
  const answer = await fetch(address).catch(() => null);
  if (image.currentSrc !== address) return "loading";
  return answer?.headers.get("content-type")?.startsWith("image/svg") ? "missing" : "shown";
}

/** Keep `image.dataset.state` true, and call `onState(state)` when it changes, also for an image that has loaded already. */
export function watchState(image, onState) {
  const settle = async () => {
    const state = await stateOf(image);
    if (state === "loading") return;
    image.dataset.state = state;
    image.dispatchEvent(new Event("polytag:state"));
    onState(state);
  };
  image.addEventListener("load", settle);
  image.addEventListener("error", settle);
  settle();
}
