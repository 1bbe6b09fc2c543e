// Making elements, and words for numbers. Names go in as text, never as markup.

export function element(name, kind, ...inside) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  for (const part of inside) if (part !== null && part !== undefined && part !== "") made.append(part);
  return made;
}

export function button(words, action, kind = "quiet framed") {
  const made = element("button", kind, words);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

export const find = (selector, within = document) => within.querySelector(selector);
export const number = (value) => value.toLocaleString("en");
export const plural = (count, thing) => `${number(count)} ${thing}${count === 1 ? "" : "s"}`;
export const words = (relation) => relation.replaceAll("-", " ");

export function bytes(size) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (size >= 999.5 && unit < 4) { size /= 1000; unit += 1; }
  return `${unit === 0 || size >= 99.95 ? size.toFixed(0) : size.toFixed(1)} ${units[unit]}`;
}

let fading = 0;
export function say(text, kind = "") {
  const toast = find("#toast");
  toast.textContent = text;
  toast.className = `toast shown ${kind}`;
  clearTimeout(fading);
  fading = setTimeout(() => toast.classList.remove("shown"), kind === "bad" ? 9000 : 3500);
}

export function trouble(text) {
  const place = find("#trouble");
  place.textContent = text;
  place.hidden = !text;
}

export const change = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
