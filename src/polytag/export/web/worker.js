// Loads ONNX Runtime and image.onnx from beside this file, then decodes and scores images one after the other.

import * as ort from "./onnxruntime-web/ort.wasm.bundle.min.mjs";

const MAX_PIXELS = 100_000_000; // its copies and the graph's have to fit into the 4 GB of a browser's memory
const MAX_THREADS = 4;

const place = (name) => new URL(name, import.meta.url).href;
const forgotten = new Set();
let chain = load();

async function load() {
  try {
    const answer = await fetch(place("model.json"));
    if (!answer.ok) throw new Error(`model.json: status ${answer.status}`);
    const model = await answer.json();
    const total = Object.values(model.files).reduce((sum, file) => sum + file.bytes, 0);
    const done = {};
    const loaded = await Promise.all(
      Object.entries(model.files).map(([name, file]) => fetched(name, file, (bytes) => {
        done[name] = bytes;
        postMessage({ kind: "loading", done: Object.values(done).reduce((sum, each) => sum + each, 0), total });
      })),
    );
    const content = Object.fromEntries(Object.keys(model.files).map((name, index) => [name, loaded[index]]));
    ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency) : 1;
    ort.env.wasm.wasmBinary = content["onnxruntime-web/ort-wasm-simd-threaded.wasm"].buffer;
    const session = await ort.InferenceSession.create(content["image.onnx"], { executionProviders: ["wasm"] });
    postMessage({ kind: "ready", model });
    return session;
  } catch (error) {
    postMessage({ kind: "broken", problem: error.message || String(error) });
    return null;
  }
}

/** The content of a file, compared with its SHA-256 where the browser computes one (https, and localhost). */
async function fetched(name, file, onBytes) {
  const answer = await fetch(place(name));
  if (!answer.ok) throw new Error(`${name}: status ${answer.status}`);
  const content = new Uint8Array(file.bytes);
  let length = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (length + value.length > content.length) throw new Error(`${name} is another file than was exported`);
    content.set(value, length);
    length += value.length;
    onBytes(length);
  }
  const digest = globalThis.crypto?.subtle ? hexadecimal(await crypto.subtle.digest("SHA-256", content)) : file.sha256;
  if (length !== content.length || digest !== file.sha256) throw new Error(`${name} is damaged, or another file than was exported`);
  return content;
}

function hexadecimal(buffer) {
  return [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

addEventListener("message", ({ data }) => {
  if (data.forget) forgotten.add(data.number);
  else chain = chain.then((session) => score(session, data));
});

async function score(session, { number, file }) {
  if (session === null || forgotten.delete(number)) return session;
  const began = performance.now();
  try {
    const { pixels, width, height } = await decoded(file);
    const decodedAt = performance.now();
    const { logit, probability, present } = await session.run({ image: new ort.Tensor("uint8", pixels, [height, width, 3]) });
    const ended = performance.now();
    postMessage({
      number, width, height, logit: [...logit.data], probability: [...probability.data], present: [...present.data].map(Boolean),
      milliseconds: ended - began, decoding: decodedAt - began,
    });
  } catch (error) {
    postMessage({ number, problem: error.message || String(error) });
  }
  return session;
}

/** uint8 height x width x 3, as polytag reads an image: upright, colour profiles not applied, transparent parts over white. */
async function decoded(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, options).catch(() => {
    throw new Error("this browser cannot read the file as an image");
  });
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    bitmap.close();
    throw new Error(`the image has ${Math.round((width * height) / 1e6)} megapixels, more than ${MAX_PIXELS / 1e6}`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const pixels = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    pixels[to++] = rgba[from];
    pixels[to++] = rgba[from + 1];
    pixels[to++] = rgba[from + 2];
  }
  return { pixels, width, height };
}
