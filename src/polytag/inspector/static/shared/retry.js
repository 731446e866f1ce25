// Asks again for what could not be loaded: after a while that doubles, when the page is seen again, and when the connection returns.

const FIRST_MS = 1000;
const LAST_MS = 30_000;

/** Whether the same request may be answered later: nobody answered, or the server could not do it then. */
export const mayPass = ({ status }) => status === undefined || status >= 500;

/** Why something could not be loaded, and that it is asked for again, where it is. */
export function reasonText(error) {
  return mayPass(error) ? `${error.message.replace(/[^.?!]$/, "$&.")} The page goes on trying.` : error.message;
}

export class Retry {
  /** `again()` loads what is missing. `onState(error)` is called with the reason when it turns out, and with null once all is there. */
  constructor({ again, onState }) {
    Object.assign(this, { again, onState, error: null, wait_ms: FIRST_MS, timer: null, triedAt: 0 });
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
  }

  /** Something could not be loaded. A request that was refused is asked again only where somebody wants it. */
  failed(error) {
    this.triedAt = performance.now();
    const isNew = this.error?.message !== error.message;
    this.error = error;
    if (isNew) this.onState(error);
    if (this.timer !== null || !mayPass(error)) return;
    this.timer = setTimeout(() => this.now(), this.wait_ms);
    this.wait_ms = Math.min(2 * this.wait_ms, LAST_MS);
  }

  now() {
    if (!this.error) return;
    clearTimeout(this.timer);
    this.timer = null;
    this.triedAt = performance.now();
    this.again();
  }

  /** Ask again unless that was done a moment ago: where something happens many times a second. */
  soon() {
    if (performance.now() - this.triedAt > FIRST_MS) this.now();
  }

  /** All is there. */
  done() {
    if (!this.error) return;
    clearTimeout(this.timer);
    Object.assign(this, { error: null, wait_ms: FIRST_MS, timer: null });
    this.onState(null);
  }
}
