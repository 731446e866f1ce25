// An image as large as its stage allows, and a layer over it that covers exactly the image.

const SMALLEST_PX = 640; // tiny images are enlarged to this

/** Keep `sheet` at the size at which `image` fits into `stage`. */
export function fitted(stage, sheet, image) {
  const fit = () => {
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    if (!width || !stage.clientWidth) return;
    const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height, Math.max(1, SMALLEST_PX / Math.max(width, height)));
    sheet.style.width = width * scale + "px";
    sheet.style.height = height * scale + "px";
  };
  image.addEventListener("load", fit);
  new ResizeObserver(fit).observe(stage);
}
