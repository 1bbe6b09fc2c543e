// The list: as long as there are groups, but only the rows in sight exist.
import { get, post } from "./ask.js";
import { bytes, change, element, find, number, plural, words } from "./dom.js";
import { framed } from "./pictures.js";

const PAGE = 24;
const MOST_PAGES = 60;
const BESIDE = 4;                    // rows drawn above and below the ones in sight
const MOST_PX = 15_000_000;          // browsers stop at about 17 million

const holder = find("#groups");
export const list = { view: "", total: 0, shown: 0, current: 0, tally: null, pair: null };
const pages = new Map();
const drawn = new Map();
let height = 0;
let onOpen = () => {};
let onStale = () => {};
export function whenStale(call) { onStale = call; }

export function whenOpened(call) { onOpen = call; }

function measure() {
  height = parseFloat(getComputedStyle(holder).getPropertyValue("--row")) * parseFloat(getComputedStyle(document.documentElement).fontSize);
}

export async function show(query, current = 0) {
  const answer = await post("/api/view", { ...query, id: change() });
  const last = Math.max(0, answer.tally.groups - 1);
  Object.assign(list, { view: answer.view, total: answer.tally.groups, tally: answer.tally, current: Math.min(current, last) });
  pages.clear();
  pages.set(0, Promise.resolve(answer.rows));
  layOut();
  say(answer.tally);
  draw();
}

function layOut() {
  measure();
  list.shown = Math.min(list.total, Math.floor(MOST_PX / height));
  holder.style.height = `${list.shown * height}px`;
  for (const row of drawn.values()) row.remove();
  drawn.clear();
  const nothing = find("#nothing");
  nothing.hidden = list.total > 0;
  nothing.textContent = "No group matches these filters.";
}

function say(tally) {
  const cut = list.shown < list.total ? `; the first ${number(list.shown)} are listed, the filters lead to the others` : "";
  find("#count").textContent = `${plural(tally.groups, "group")}, ${plural(tally.copies, "photo")} beside the kept ones; ${bytes(tally.freed)} would come back${cut}`;
}

function page(at) {
  if (!pages.has(at)) {
    pages.set(at, get("/api/rows", { view: list.view, from: at * PAGE, count: PAGE }).then((answer) => answer.rows));
    pages.get(at).catch(() => pages.delete(at));
    if (pages.size > MOST_PAGES) pages.delete(pages.keys().next().value);
  }
  return pages.get(at);
}

export async function cardAt(index) {
  if (index < 0 || index >= list.total) return null;
  return (await page(Math.floor(index / PAGE)))[index % PAGE] || null;
}

export function replaceCard(card) {
  for (const [at, waiting] of pages) {
    waiting.then((rows) => {
      const place = rows.findIndex((row) => row.id === card.id);
      if (place < 0) return;
      rows[place] = card;
      const index = at * PAGE + place;
      const row = drawn.get(index);
      if (row) { const had = row.contains(document.activeElement); row.replaceWith(make(card, index)); if (had) drawn.get(index).focus(); }
    });
  }
}

function draw() {
  if (!list.view || find("#list").hidden) return;
  const top = window.scrollY - holder.offsetTop;
  const first = Math.max(0, Math.floor(top / height) - BESIDE);
  const last = Math.min(list.shown, Math.ceil((top + window.innerHeight) / height) + BESIDE);
  for (const [index, row] of drawn) {
    if ((index < first || index >= last) && index !== list.current) { row.leave(); row.remove(); drawn.delete(index); }
  }
  for (let index = first; index < last; index += 1) if (!drawn.has(index)) put(index);
}

function put(index) {
  const blank = element("article", "row blank");
  blank.leave = () => {};
  place(blank, index);
  const { view } = list;
  cardAt(index).then((card) => {
    if (card && list.view === view && drawn.get(index) === blank) blank.replaceWith(make(card, index));
  }, (error) => { if (error.status === 409 && list.view === view) onStale(); });
}

function place(row, index) {
  row.style.transform = `translateY(${index * height}px)`;
  row.setAttribute("role", "listitem");
  row.setAttribute("aria-setsize", String(list.total));
  row.setAttribute("aria-posinset", String(index + 1));
  drawn.set(index, row);
  if (!row.isConnected) holder.append(row);
}

const STATES = { open: "", later: "later", decided: "decided" };

function make(card, index) {
  const gone = new AbortController();
  const open = element("button", "open");
  open.type = "button";
  open.tabIndex = index === list.current ? 0 : -1;
  open.setAttribute("aria-label", `Group ${index + 1}: ${card.name}, ${plural(card.count, "photo")}, ${card.relations.map(words).join(" and ")}, ${card.sentence}. ${card.said || "Not decided."}`);
  open.addEventListener("click", () => { select(index, false); onOpen(index); });
  open.addEventListener("focus", () => { if (list.current !== index) select(index, false); });
  const shots = element("div", "shots");
  for (const photo of card.photos) {
    const frame = framed({ group: card.id, of: photo.id, size: "thumb" }, photo.name, { signal: gone.signal, damaged: photo.damaged });
    frame.setAttribute("aria-hidden", "true");
    shots.append(frame);
  }
  if (card.count > card.photos.length) shots.append(element("span", "rest", `+${number(card.count - card.photos.length)}`));
  const badges = element("div", "line");
  for (const relation of card.relations) badges.append(element("span", `badge ${relation}`, words(relation)));
  if (STATES[card.state]) badges.append(element("span", `badge state ${card.state}`, card.state === "decided" ? "✓ decided" : "later"));
  const text = element("div", "text", badges,
    element("div", "name", card.name),
    element("p", "sentence", card.said || card.sentence),
    element("div", "folders", card.folders.join("  ·  ") + (card.more_folders ? `  ·  ${plural(card.more_folders, "folder")} more` : "")));
  const gain = element("div", "gain", card.freed ? bytes(card.freed) : "");
  if (card.freed) gain.append(element("span", "", "to gain"));
  const row = element("article", `row ${card.state} ${index === list.current ? "current" : ""}`, shots, text, gain, open);
  row.leave = () => gone.abort();
  row.focus = () => open.focus({ preventScroll: true });
  place(row, index);
  return row;
}

export function select(index, focus = true) {
  if (!list.shown) return;
  index = Math.max(0, Math.min(index, list.shown - 1));
  const before = drawn.get(list.current);
  if (before) { before.classList.remove("current"); const old = find(".open", before); if (old) old.tabIndex = -1; }
  list.current = index;
  const edge = find(".bar").getBoundingClientRect();
  const margin = (getComputedStyle(find(".bar")).position === "sticky" ? edge.height : 0) + 8;
  const top = holder.offsetTop + index * height;
  if (top - margin < window.scrollY) window.scrollTo(0, top - margin);
  else if (top + height > window.scrollY + window.innerHeight) window.scrollTo(0, top + height - window.innerHeight + 8);
  draw();
  const row = drawn.get(index);
  if (!row) return;
  row.classList.add("current");
  const open = find(".open", row);
  if (open) { open.tabIndex = 0; if (focus) open.focus({ preventScroll: true }); }
  else if (focus) cardAt(index).then(() => requestAnimationFrame(() => { if (list.current === index) drawn.get(index)?.focus(); }));
}

export function redraw() {
  measure();
  for (const row of drawn.values()) row.leave();
  layOut();
  draw();
}

let waiting = false;
window.addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}, { passive: true });
let width = window.innerWidth;
window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; redraw(); } else draw(); });
