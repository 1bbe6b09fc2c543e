// Pictures: a few asked for at a time, the ones in sight first, and no more kept than a page needs.
import { picture } from "./ask.js";
import { element } from "./dom.js";

const AT_ONCE = 4;
const MOST_KEPT = 400;
const kept = new Map();      // key -> { url } or { why }
const queue = [];
let running = 0;

const keyOf = (values) => JSON.stringify(values);

function pump() {
  while (running < AT_ONCE && queue.length) {
    queue.sort((a, b) => b.urgent - a.urgent);
    const task = queue.shift();
    if (task.signal?.aborted) { task.fail(new DOMException("not wanted any more", "AbortError")); continue; }
    running += 1;
    picture(task.values, task.signal).then(task.done, task.fail).finally(() => { running -= 1; pump(); });
  }
}

export function load(values, { urgent = 1, signal } = {}) {
  const key = keyOf(values);
  const known = kept.get(key);
  if (known) {
    kept.delete(key);
    kept.set(key, known);
    return known.why ? Promise.reject(new Error(known.why)) : Promise.resolve(known.url);
  }
  return new Promise((done, fail) => queue.push({ values, urgent, signal, done, fail }) && pump()).then(
    (blob) => {
      const again = kept.get(key);
      if (again?.url) return again.url;
      const url = URL.createObjectURL(blob);
      kept.set(key, { url });
      while (kept.size > MOST_KEPT) {
        const [oldest, { url: old }] = kept.entries().next().value;
        kept.delete(oldest);
        if (old) setTimeout(() => URL.revokeObjectURL(old), 10_000);
      }
      return url;
    },
    (error) => {
      if (error.status === 404 || error.status === 422) kept.set(key, { why: error.message });
      throw error;
    },
  );
}

// A frame with a picture in it, or with the reason why there is none.
export function framed(values, alt, { urgent = 1, signal, damaged = false } = {}) {
  const frame = element("div", "frame");
  if (damaged) frame.append(element("span", "flag", "damaged"));
  load(values, { urgent, signal }).then(
    (url) => {
      const image = element("img");
      image.alt = alt;
      image.decoding = "async";
      image.src = url;
      frame.prepend(image);
    },
    (error) => {
      if (error.name === "AbortError") return;
      frame.classList.add("gone");
      frame.append(element("span", "reason", `${alt}: ${error.message}`));
    },
  );
  return frame;
}
