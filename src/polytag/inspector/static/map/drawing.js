// Draws the points on the canvas. Each kind is drawn once as a stamp, and stamped wherever there is a point of it.
import { EXTENT } from "./state.js";

const MARGIN_PX = 28; // between the points and the frame, at scale 1
const FEW = 3000; // points up to which signs have their whole size
const LEAST_SHARE = 0.5; // of the size of a sign
const LEAST_PX = 3;
const FADED = 0.16; // how much is left of what is not selected
const BEYOND = 0.25; // of the window: how far points are drawn beyond it, to be there when it moves
const MANY = 4000; // points that are moved as an image: drawn anew they would not follow the pointer

/** What the image of the points is made of. */
const partsOf = ({ points, kindOf, selected }, stamps) => [points.isShown, kindOf, selected, stamps];

export class Drawing {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.size = { width: 0, height: 0, ratio: 1 };
    this.stamps = this.layer = null;
    this.kinds = [];
  }

  /** Take the size of the canvas on the page; returns whether it has one. */
  fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    this.size = { width, height, ratio };
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.stamps = null;
    return width > 0 && height > 0;
  }

  /** Take kinds for so many points: the more, the smaller the signs. */
  use(kinds, number) {
    const share = Math.max(LEAST_SHARE, Math.min(1, (FEW / Math.max(1, number)) ** 0.25));
    this.kinds = kinds.map((kind) => ({ ...kind, size: Math.max(LEAST_PX, kind.size * share) }));
    this.recolour();
  }

  /** Take the colours of the page again, which follow its light or dark scheme. */
  recolour() {
    this.stamps = null;
  }

  // ---- places and pixels ----

  pixels(view) {
    return (view.scale * Math.max(1, Math.min(this.size.width, this.size.height) - 2 * MARGIN_PX)) / EXTENT; // of one place
  }

  toScreen(view, x, y) {
    const pixels = this.pixels(view);
    return [this.size.width / 2 + (x - view.x) * pixels, this.size.height / 2 - (y - view.y) * pixels];
  }

  toPlace(view, left, top) {
    const pixels = this.pixels(view);
    return [view.x + (left - this.size.width / 2) / pixels, view.y - (top - this.size.height / 2) / pixels];
  }

  // ---- drawing ----

  /**
   * `selected` are rows, or null; `focused` is a row, or -1; `lassos` are polygons of places, `open` is one that is being drawn. With
   * `isMoving` many points are shown as they were drawn last, moved and enlarged.
   */
  draw(scene, { isMoving = false } = {}) {
    const { context, size } = this;
    const { view, points, focused, lassos, open } = scene;
    this.stamps ??= this.makeStamps();
    const { layer } = this;
    const isCurrent = layer?.made.every((part, place) => part === partsOf(scene, this.stamps)[place]);
    const isOften = isMoving && layer?.numDrawn > MANY;
    if (!isCurrent || (layer.view !== view && !isOften)) this.makeLayer(scene);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.putLayer(view);
    context.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
    for (const lasso of lassos) this.outline(view, lasso);
    if (open?.length > 1) this.outline(view, open);
    if (focused >= 0) this.ring(...this.toScreen(view, points.x[focused], points.y[focused]));
  }

  /** Draw all points on a canvas of their own, somewhat beyond the window. */
  makeLayer(scene) {
    const { view, points, kindOf, selected } = scene;
    const canvas = this.layer?.canvas ?? document.createElement("canvas");
    [canvas.width, canvas.height] = [this.canvas.width, this.canvas.height].map((side) => Math.ceil(side * (1 + 2 * BEYOND)));
    this.layer = { canvas, context: canvas.getContext("2d"), view };
    for (const [kind, { others }] of this.kinds.entries()) {
      if (others) this.stampAll(view, others.x, others.y, kind, selected ? FADED : 1);
    }
    const isSelected = selected && new Uint8Array(points.length);
    for (const row of selected ?? []) isSelected[row] = 1;
    const sorted = this.sorted(view, points, kindOf, isSelected);
    if (selected) this.stampRows(view, points, sorted.behind, FADED);
    this.stampRows(view, points, sorted.front, 1);
    const numDrawn = [...sorted.behind, ...sorted.front].reduce((sum, rows) => sum + rows.length, 0);
    Object.assign(this.layer, { made: partsOf(scene, this.stamps), numDrawn });
  }

  /** Put the points on the page where they are in this view. */
  putLayer(view) {
    const { canvas, view: drawn } = this.layer;
    const { ratio } = this.size;
    const share = view.scale / drawn.scale;
    const [left, top] = this.toScreen(view, drawn.x, drawn.y);
    const [width, height] = [canvas.width * share, canvas.height * share];
    const place = [left * ratio - width / 2, top * ratio - height / 2].map(Math.round);
    this.context.drawImage(canvas, ...place, width, height);
  }

  /** Rows in and near the window by kind: those to be drawn faded, and the others. */
  sorted(view, points, kindOf, isSelected) {
    const [behind, front] = [this.kinds.map(() => []), this.kinds.map(() => [])];
    const [across, along] = [this.size.width, this.size.height].map((side) => BEYOND * side + 12);
    const [left, high] = this.toPlace(view, -across, -along);
    const [right, low] = this.toPlace(view, this.size.width + across, this.size.height + along);
    points.within(left, low, right, high, (row) => (isSelected && !isSelected[row] ? behind : front)[kindOf[row]].push(row));
    return { behind, front };
  }

  stampRows(view, points, rowsOf, opacity) {
    const { x, y } = points;
    for (const [kind, rows] of rowsOf.entries()) this.stamping(view, kind, opacity, (stamp) => rows.forEach((row) => stamp(x[row], y[row])));
  }

  stampAll(view, x, y, kind, opacity) {
    this.stamping(view, kind, opacity, (stamp) => x.forEach((_, index) => stamp(x[index], y[index])));
  }

  stamping(view, kind, opacity, run) {
    const { canvas, context } = this.layer;
    const { image, half } = this.stamps[kind];
    const pixels = this.pixels(view) * this.size.ratio;
    const [left, top] = [canvas.width / 2 - view.x * pixels - half, canvas.height / 2 + view.y * pixels - half];
    context.globalAlpha = this.kinds[kind].opacity * opacity;
    run((x, y) => context.drawImage(image, (left + x * pixels) | 0, (top - y * pixels) | 0));
    context.globalAlpha = 1;
  }

  colour(name) {
    return getComputedStyle(this.canvas).getPropertyValue(name).trim();
  }

  /** A small canvas for each kind, with its sign in the middle. */
  makeStamps() {
    return this.kinds.map((kind) => {
      const pixels = Math.ceil((kind.size + 4) * this.size.ratio);
      const image = document.createElement("canvas");
      image.width = image.height = pixels;
      const context = image.getContext("2d");
      context.scale(this.size.ratio, this.size.ratio);
      context.translate((kind.size + 4) / 2, (kind.size + 4) / 2);
      drawSign(context, kind, { ink: this.inkOf(kind), paper: this.colour("--paper") });
      return { image, half: pixels / 2 };
    });
  }

  inkOf({ ink, mix }) {
    return mix === 1 ? this.colour(ink) : `color-mix(in srgb, ${this.colour(ink)} ${100 * mix}%, ${this.colour("--soft")})`;
  }

  outline(view, polygon) {
    const { context } = this;
    context.beginPath();
    for (const [index, [x, y]] of polygon.entries()) context[index ? "lineTo" : "moveTo"](...this.toScreen(view, x, y));
    context.closePath();
    context.fillStyle = context.strokeStyle = this.colour("--ink");
    context.globalAlpha = 0.06;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.5;
    context.setLineDash([5, 4]);
    context.stroke();
    context.setLineDash([]);
  }

  ring(left, top) {
    const { context } = this;
    for (const [width, colour] of [[6, "--paper"], [2.5, "--ink"]]) {
      context.beginPath();
      context.arc(left, top, 9, 0, 2 * Math.PI);
      context.lineWidth = width;
      context.strokeStyle = this.colour(colour);
      context.stroke();
    }
  }
}

/** Draw the sign of a kind around the origin. Filled ones have a thin edge of paper, so that they stay apart where they overlap. */
function drawSign(context, { shape, size }, { ink, paper }) {
  const half = size / 2;
  context.fillStyle = context.strokeStyle = ink;
  context.lineWidth = size < 8 ? 1.2 : 1.8;
  context.beginPath();
  if (shape === "cross") {
    for (const side of [-1, 1]) {
      context.moveTo(-half, side * half);
      context.lineTo(half, -side * half);
    }
    return context.stroke();
  }
  if (shape === "dot" || shape === "ring") context.arc(0, 0, half, 0, 2 * Math.PI);
  if (shape === "square") context.rect(-half, -half, size, size);
  if (shape === "diamond") polygon(context, [[0, -half], [half, 0], [0, half], [-half, 0]]);
  if (shape === "triangle") polygon(context, [[0, -half], [half, half], [-half, half]]);
  if (shape === "ring" || shape === "diamond") {
    context.fillStyle = paper; // open signs: what is missed
    context.fill();
    return context.stroke();
  }
  context.fill();
  context.strokeStyle = paper;
  context.lineWidth = 0.75;
  context.stroke();
}

function polygon(context, corners) {
  for (const [index, corner] of corners.entries()) context[index ? "lineTo" : "moveTo"](...corner);
  context.closePath();
}

/** The sign of a kind as an image for the legend. */
export function signOf(drawing, kind) {
  const canvas = document.createElement("canvas");
  const ratio = drawing.size.ratio;
  canvas.width = canvas.height = 16 * ratio;
  canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.translate(8, 8);
  drawSign(context, { ...kind, size: Math.max(6, kind.size) }, { ink: drawing.inkOf(kind), paper: drawing.colour("--paper") });
  return canvas;
}
