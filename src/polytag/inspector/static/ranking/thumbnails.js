// Thumbnails, several in one answer: a request of its own, or even an address of its own, costs the browser more than the image.
import { fetchJson } from "../shared/api.js";
import { version } from "../shared/dom.js";

/** Return an address with the content in it of each image, null of one that cannot be read. */
export async function loadThumbnails(images) {
  const answer = await fetchJson(`/api/thumbnails?rows=${images.map(({ row }) => row)}&v=${version}`);
  return answer.images.map((content) => content && `data:image/jpeg;base64,${content}`);
}
