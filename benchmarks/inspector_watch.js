// What a page of the inspector shows in every frame, from its beginning. benchmarks/inspector.py runs this before the page's own scripts.
window.watched = (() => {
  const rows = []; // [time, whether all cells of the first row in the window have their image], where that changed
  const moves = []; // of the threshold's line: what a move of the pointer led to
  const lists = []; // from an input event to the list that it asked for
  let stays = new Map(); // cells in the window: since when, without an image for how long
  let past = [];
  let frames = [];
  let bare = 0; // ms in which a part of the list that is in the window had no cells
  let barest = 0;
  let bareFor = 0;
  let last = null;
  let takenOver = null;
  let began = null; // of the input event whose list is waited for

  const afterFrame = (run) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = run;
    channel.port2.postMessage(null);
  });

  function look(now) {
    requestAnimationFrame(look);
    const grid = document.getElementById("grid");
    const step = last === null ? 0 : now - last;
    frames.push(step);
    last = now;
    if (!grid) return;
    const isTakenOver = grid.classList.contains("virtual");
    if (isTakenOver && takenOver === null) takenOver = now;
    const box = grid.getBoundingClientRect();
    const tools = document.querySelector(".tools");
    const top = Math.max(box.top, tools && getComputedStyle(tools).position === "sticky" ? tools.getBoundingClientRect().bottom : 0);
    const bottom = Math.min(box.bottom, innerHeight);
    const seen = new Set();
    let [first, firstRow] = [Infinity, []];
    let [from, to] = [Infinity, -Infinity];
    [...grid.children].forEach((cell, place) => {
      const { top: above, bottom: below } = cell.getBoundingClientRect();
      if (below <= top || above >= bottom) return;
      [from, to] = [Math.min(from, above), Math.max(to, below)];
      const image = cell.querySelector("img");
      const isThere = Boolean(image?.getAttribute("src") && image.complete && image.naturalWidth);
      if (above < first - 1) [first, firstRow] = [above, []];
      if (above < first + 1) firstRow.push(isThere);
      const index = isTakenOver ? Number(cell.dataset.index) : place;
      seen.add(index);
      const stay = stays.get(index) ?? { since: now, blank: 0, empty: 0, isThere: false, isTold: false };
      if (!stay.isThere) stay.blank = now - stay.since;
      if (!stay.isTold) stay.empty = now - stay.since;
      stay.isTold ||= Boolean(cell.querySelector(".caption.id")?.textContent);
      stay.isThere ||= isThere;
      stays.set(index, stay);
    });
    for (const [index, stay] of stays) {
      if (seen.has(index)) continue;
      past.push(stay);
      stays.delete(index);
    }
    const isBare = bottom - top > 40 && (from > top + 20 || to < bottom - 20);
    bareFor = isBare ? bareFor + step : 0;
    bare += isBare ? step : 0;
    barest = Math.max(barest, bareFor);
    const isImaged = firstRow.length > 0 && firstRow.every(Boolean);
    if (isImaged !== (rows.at(-1)?.[1] ?? false)) rows.push([now, isImaged]);
  }
  requestAnimationFrame(look);

  addEventListener("pointermove", (event) => {
    if (!event.buttons || !event.target.closest?.("#living")) return;
    began = event.timeStamp;
    const since = began;
    afterFrame(() => moves.push({
      ms: performance.now() - since, value: document.getElementById("slider").value,
      numbers: document.getElementById("numbers").textContent, below: document.querySelectorAll("#grid .below").length,
    }));
  }, true);
  document.addEventListener("DOMContentLoaded", () => {
    const grid = document.getElementById("grid");
    if (!grid) return;
    new MutationObserver(() => {
      if (grid.hasAttribute("aria-busy") || began === null) return;
      const since = began;
      began = null;
      afterFrame(() => lists.push(performance.now() - since));
    }).observe(grid, { attributeFilter: ["aria-busy"] });
  });

  return {
    /** Begin to watch the scrolling anew. */
    anew() {
      [stays, past, frames, bare, barest, bareFor] = [new Map(), [], [], 0, 0, 0];
    },
    /** What was seen since. */
    scrolled() {
      const all = [...past, ...stays.values()];
      return { blanks: all.map(({ blank }) => blank), empties: all.map(({ empty }) => empty), left: all.filter(({ isThere }) => !isThere).length, frames, bare, barest };
    },
    began() {
      const paint = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null;
      return { paint, rows, takenOver, bare, barest, isBusy: Boolean(document.querySelector("#grid[aria-busy]")) };
    },
    dragged() {
      return { moves: moves.splice(0), lists: lists.splice(0) };
    },
  };
})();
