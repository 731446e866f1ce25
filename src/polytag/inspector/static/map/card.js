// The card beside a point: its image, with its score and its classes.
import { byId } from "../shared/dom.js";

const GAP_PX = 16;

export class Card {
  constructor(images) {
    Object.assign(this, { images, place: byId("card"), row: -1 });
  }

  hide() {
    this.row = -1;
    this.place.hidden = true;
  }

  /** Show the image of a row beside a point of the canvas; with `isOpen` its link can be pressed. Returns the image. */
  async show(row, [left, top], { isOpen = false } = {}) {
    if (row === this.row) return this.move(left, top);
    this.row = row;
    const [image] = await this.images.of([row]).catch(() => []);
    if (row !== this.row || !image) return undefined;
    this.place.replaceChildren(this.images.cell(image));
    this.place.classList.toggle("open", isOpen);
    this.place.hidden = false;
    this.move(left, top);
    return image;
  }

  /** Put the card on that side of the point where there is room. */
  move(left, top) {
    const { clientWidth, clientHeight } = this.place.parentElement;
    const { offsetWidth: width, offsetHeight: height } = this.place;
    const isRight = left + GAP_PX + width <= clientWidth || left < clientWidth / 2;
    const x = isRight ? Math.min(left + GAP_PX, clientWidth - width) : Math.max(0, left - GAP_PX - width);
    this.place.style.left = `${x}px`;
    this.place.style.top = `${Math.max(0, Math.min(top - height / 2, clientHeight - height))}px`;
  }
}
