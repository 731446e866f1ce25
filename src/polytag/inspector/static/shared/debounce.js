/** Return a function that calls `run` once it has not been called for `wait_ms`; its `cancel()` drops the pending call. */
export function debounce(run, wait_ms) {
  let timer;
  const debounced = (...parameters) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...parameters), wait_ms);
  };
  debounced.cancel = () => clearTimeout(timer);
  return debounced;
}

/** Resolve after this time. */
export const pause = (wait_ms) => new Promise((resolve) => setTimeout(resolve, wait_ms));
