// Fits an image into its stage. Layers over the sheet then cover exactly the image.

import { isDrawing } from "./shown.js";

const MIN_PX = 640; // smaller images are enlarged up to this

/** Resize `sheet` to the size at which `image` fits into `stage`, now and whenever the stage is resized. */
export function fitImage(stage, sheet, image) {
  const fit = () => {
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    if (!width || !stage.clientWidth) return;
    const largest = isDrawing(image) ? 1 : Math.max(1, MIN_PX / Math.max(width, height));
    const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height, largest);
    sheet.style.width = width * scale + "px";
    sheet.style.height = height * scale + "px";
  };
  for (const name of ["load", "polytag:state"]) image.addEventListener(name, fit);
  new ResizeObserver(fit).observe(stage);
}
