// What a point shows: its kind by the chosen colour. A kind has a shape and a size beside its colour, and a name in the legend.
//
//   shape   dot, ring, square, diamond, cross or triangle
//   ink     a colour of the palette; `mix` is how much of it there is over --soft
//   of      the value that the kind stands for
//   others  images of another split, in place of those of the run
import { words } from "../shared/dom.js";

const STEPS = 5;
const OTHER_SHAPES = ["cross", "triangle", "square", "ring"];
const PLAIN = { shape: "dot", ink: "--soft", mix: 1, size: 5, opacity: 0.6 };
const FILLED = { ...PLAIN, ink: "--accent", size: 7, opacity: 0.85 };

const DECISIONS = [
  { ...PLAIN, of: "true_negative" },
  { ...PLAIN, of: "unknown", shape: "cross", size: 6 },
  { ...FILLED, of: "true_positive" },
  { ...PLAIN, of: "false_positive", shape: "square", ink: "--orange", size: 8, opacity: 1 },
  { ...PLAIN, of: "false_negative", shape: "diamond", ink: "--orange", size: 10, opacity: 1 },
].map((kind) => ({ ...kind, name: words.filter[kind.of] }));

const LABELS = [{ ...PLAIN, of: 0 }, { ...PLAIN, of: -1, shape: "cross", size: 6 }, { ...FILLED, of: 1 }].map((kind) => ({ ...kind, name: words.truth[kind.of] }));

/** Ever larger dots, from grey to the accent. */
const steps = (names) => names.map((name, of) => {
  const share = of / (names.length - 1);
  return { ...FILLED, of, name, mix: share, size: 4 + of, opacity: 0.6 + 0.3 * share };
});

const SCORES = steps(Array.from({ length: STEPS }, (_, step) => `${(step / STEPS).toFixed(1)} – ${((step + 1) / STEPS).toFixed(1)}`));
const NUMBERS = steps(["no label", "1", "2", "3", "4 or more"]);

/** The kinds of a colour, in the order in which they are drawn, and the kind of every row. */
export function kindsOf(colour, answer, { others, split }) {
  if (colour === "split") return ofSplits(answer, others, split);
  const [kinds, valueOf] = {
    error: () => [DECISIONS, (row) => answer.outcomes[answer.outcome[row]]],
    label: () => [LABELS, (row) => answer.truth[row]],
    score: () => [SCORES, (row) => Math.min(STEPS - 1, Math.floor((STEPS * answer.score[row]) / 1000))],
    labels: () => [NUMBERS, (row) => Math.min(NUMBERS.length - 1, answer.num_labels[row])],
  }[colour]();
  const placeOf = new Map(kinds.map(({ of }, place) => [of, place]));
  return { kinds, kindOf: Uint8Array.from(answer.truth, (_, row) => placeOf.get(valueOf(row)) ?? 0) };
}

/** The images of the run, over those of the other splits. */
function ofSplits(answer, others, split) {
  const behind = others.map((other, place) => ({ ...PLAIN, shape: OTHER_SHAPES[place % OTHER_SHAPES.length], name: other.split || "other images", others: other }));
  const kinds = [...behind, { ...FILLED, name: split || "images of this run" }];
  return { kinds, kindOf: new Uint8Array(answer.truth.length).fill(behind.length) };
}

/** The number of shown points of each kind. */
export function countsOf({ kinds, kindOf }, points) {
  const counts = kinds.map(({ others }) => others?.x.length ?? 0);
  for (let row = 0; row < kindOf.length; row++) if (points.isShown[row]) counts[kindOf[row]]++;
  return counts;
}
