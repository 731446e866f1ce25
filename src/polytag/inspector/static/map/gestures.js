// Mouse, touch, pen and wheel on the map: a lasso, a move, a zoom, a click. One finger does what the chosen tool does; two move and zoom.

const CLICK_PX = 4; // a shorter drag is a click
const STEP_PX = 3; // between two corners of a lasso

export class Gestures {
  /**
   * `on` has lassoing(points), lassoed(points, isMore), moved(dx, dy), zoomed(factor, left, top), clicked(left, top, isTouch) and
   * hovered(left, top), or hovered() where the pointer leaves; all in pixels of the canvas.
   */
  constructor(canvas, on) {
    Object.assign(this, { canvas, on, tool: "lasso", pointers: new Map(), drag: null });
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.end(event));
    canvas.addEventListener("pointercancel", (event) => this.cancel(event));
    canvas.addEventListener("pointerleave", () => this.drag || on.hovered());
    canvas.addEventListener("contextmenu", (event) => this.drag && event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  at({ clientX, clientY }) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [clientX - left, clientY - top];
  }

  begin(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.at(event));
    if (this.pointers.size > 1) {
      this.drag = { kind: "pinch" };
      return this.on.lassoing(null);
    }
    const kind = event.button === 0 && this.tool === "lasso" ? "lasso" : "move";
    this.drag = { kind, from: this.at(event), points: [this.at(event)], isClick: event.button === 0 };
  }

  move(event) {
    const at = this.at(event);
    if (!this.drag) return event.pointerType === "touch" || this.on.hovered(...at);
    if (!this.pointers.has(event.pointerId)) return;
    if (this.drag.kind === "pinch") return this.pinch(event.pointerId, at);
    const last = this.pointers.get(event.pointerId);
    if (this.drag.isClick && Math.hypot(at[0] - this.drag.from[0], at[1] - this.drag.from[1]) < CLICK_PX) return;
    if (this.drag.isClick) this.on.hovered();
    this.drag.isClick = false;
    this.pointers.set(event.pointerId, at);
    if (this.drag.kind === "move") return this.on.moved(at[0] - last[0], at[1] - last[1]);
    const corner = this.drag.points.at(-1);
    if (Math.hypot(at[0] - corner[0], at[1] - corner[1]) >= STEP_PX) this.drag.points.push(at);
    this.on.lassoing(this.drag.points);
  }

  pinch(id, at) {
    const before = [...this.pointers.values()];
    this.pointers.set(id, at);
    const after = [...this.pointers.values()];
    const middle = (pair) => [0, 1].map((side) => (pair[0][side] + pair[1][side]) / 2);
    const width = (pair) => Math.max(1, Math.hypot(pair[0][0] - pair[1][0], pair[0][1] - pair[1][1]));
    const [from, to] = [middle(before), middle(after)];
    this.on.moved(to[0] - from[0], to[1] - from[1]);
    this.on.zoomed(width(after) / width(before), ...to);
  }

  end(event) {
    const { drag } = this;
    this.pointers.delete(event.pointerId);
    if (drag?.kind === "pinch" && this.pointers.size) return; // the other finger ends it
    this.drag = null;
    if (drag?.isClick) this.on.clicked(...drag.from, event.pointerType === "touch");
    else if (drag?.kind === "lasso") this.on.lassoed(drag.points, event.shiftKey);
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    this.drag = null;
    this.on.lassoing(null);
  }

  wheel(event) {
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? 16 * event.deltaY : event.deltaY;
    this.on.zoomed(Math.exp(-Math.max(-200, Math.min(200, pixels)) / 300), ...this.at(event));
  }
}
