// A finger that swipes the image answers: to the right it is present, to the left absent. A mouse has the buttons, and there are keys.

const DECIDING = 0.3; // of the stage's width, from which letting go is an answer
const SHOWING = 12; // pixels, from which the image moves

/** Call `onSwipe(label)` for each swipe. Two fingers and a movement up or down are the browser's: they zoom and scroll. */
export function bindSwipe(stage, sheet, onSwipe) {
  let start = null; // {id, x} of the finger
  const labelOf = (moved) => (Math.abs(moved) < DECIDING * stage.clientWidth ? null : moved > 0 ? 1 : 0);

  function show(moved) {
    sheet.style.transform = Math.abs(moved) > SHOWING ? `translateX(${moved}px)` : "";
    const label = labelOf(moved);
    if (label === null) delete stage.dataset.swipe;
    else stage.dataset.swipe = label;
  }

  function end() {
    start = null;
    show(0);
  }

  stage.addEventListener("pointerdown", ({ pointerType, pointerId, clientX, isPrimary }) => {
    if (pointerType !== "touch") return;
    if (!isPrimary) return end(); // a second finger
    start = { id: pointerId, x: clientX };
  });
  stage.addEventListener("pointermove", ({ pointerId, clientX }) => start?.id === pointerId && show(clientX - start.x));
  stage.addEventListener("pointerup", ({ pointerId, clientX }) => {
    if (start?.id !== pointerId) return;
    const label = labelOf(clientX - start.x);
    end();
    if (label !== null) onSwipe(label);
  });
  stage.addEventListener("pointercancel", end);
}
