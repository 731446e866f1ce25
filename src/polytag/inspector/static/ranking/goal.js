// A goal in words, such as "recall 0.8": the threshold that it leads to, and the one that is guaranteed for new images.
import { fetchJson } from "../shared/api.js";
import { button, byId } from "../shared/dom.js";

export class GoalField {
  /** `onGoal(threshold, safe)` receives the threshold of a goal, and the range of thresholds at which it is guaranteed, or null. */
  constructor({ classOf, onGoal }) {
    Object.assign(this, { classOf, onGoal, numAsked: 0 });
    byId("goal").hidden = false;
    byId("goal").addEventListener("change", () => this.ask());
    byId("goal").addEventListener("input", () => !byId("goal").value && this.clear());
  }

  clear() {
    this.numAsked++;
    byId("goal").value = "";
    byId("promise").hidden = true;
  }

  async ask() {
    const goal = (byId("goal").value = byId("goal").value.trim().toLowerCase());
    const [className, asked] = [this.classOf(), ++this.numAsked];
    if (!goal) return this.clear();
    if (!byId("goal").checkValidity()) return this.say(`“${goal}” is no goal for a threshold. Try recall 0.8, precision 0.9, top 0.05 or f1.`);
    const answer = await fetchJson("/api/goal?" + new URLSearchParams({ class: className, goal })).catch((error) => error);
    if (asked !== this.numAsked || className !== this.classOf()) return; // another goal or class is asked for by now
    if (answer instanceof Error) this.say(answer.message);
    else this.show(answer);
  }

  show({ goal, best, guaranteed, confidence, safe_side, caveat }) {
    const words = goal.replace("=", " ");
    const parts = [best.attainable ? `${words}: ${reached(best)} on all images of this run.` : `${words} is not attainable: ${best.reason}.`];
    if (guaranteed) {
      const chance = `with ${Math.round(100 * confidence)}% confidence`;
      parts.push(guaranteed.attainable ? ` On new images, ${chance}, at ` : ` No guarantee for new images ${chance}: ${guaranteed.reason}.`);
      if (guaranteed.attainable) parts.push(button(guaranteed.threshold.toFixed(3), () => this.onGoal(guaranteed.threshold, safe), { class: "quiet" }), ".", caveat && ` ${caveat}`);
    }
    const isSafe = guaranteed?.attainable && safe_side;
    const safe = !isSafe ? null : safe_side === "below" ? [0, guaranteed.threshold] : [guaranteed.threshold, 1];
    this.say(...parts);
    if (best.attainable) this.onGoal(best.threshold, safe);
  }

  say(...parts) {
    byId("promise").replaceChildren(...parts);
    byId("promise").hidden = false;
  }
}

function reached({ precision, recall }) {
  const text = (value) => (value === null ? "–" : value.toFixed(3));
  return `precision ${text(precision)}, recall ${text(recall)}`;
}
