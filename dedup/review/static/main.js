// The page begins here: who may look, the filters, and what each key does.
import { enter, get } from "./ask.js";
import * as compare from "./compare.js";
import { find, number, plural, say, trouble, words } from "./dom.js";
import * as group from "./group.js";
import * as lists from "./list.js";
import * as panels from "./panels.js";

const root = document.documentElement;
const form = find("#filters");
const keys = JSON.parse(document.body.dataset.keys);

// Light and dark: as the system says, unless somebody chose.
const chosen = localStorage.getItem("dedup-theme");
if (chosen) root.dataset.theme = chosen;
function theme() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("dedup-theme", root.dataset.theme);
}

// Filters.
let pair = null;
function query() {
  const said = new FormData(form);
  return {
    state: said.get("state") || "",
    order: said.get("order"),
    text: said.get("text").trim(),
    relations: said.getAll("relation"),
    folder: said.get("folder"),
    format: said.get("format"),
    least_bytes: Number(said.get("least_bytes")),
    since: said.get("since"),
    until: said.get("until"),
    pair: pair ? [pair.folder, pair.other] : [],
  };
}
async function show(current = 0) {
  try {
    await lists.show(query(), current);
  } catch (error) { say(error.message, "bad"); }
}
let typing = 0;
form.addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => show(), event.target.name === "text" ? 200 : 0);
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => { pair = null; find("#pairnote").hidden = true; show(); }));
function further(open = find("#further").hidden) {
  find("#further").hidden = !open;
  find("#more-filters").setAttribute("aria-expanded", String(open));
  if (open) find("#further input, #further select").focus();
}
find("#more-filters").addEventListener("click", () => further());
function choosePair(found) {
  pair = found;
  const note = find("#pairnote");
  note.hidden = false;
  note.replaceChildren(`${plural(found.groups, "group")} with copies in both `);
  for (const [at, name] of [found.name, found.other_name].entries()) {
    const path = document.createElement("span");
    path.className = "path";
    path.textContent = name;
    note.append(at ? " and " : "", path);
  }
  if (group.open.group) group.close();
  show();
}

async function begin() {
  const start = await get("/api/start");
  find("#where").textContent = `${start.roots.join("  ·  ")}  ·  scanned ${start.finished}`;
  const counts = { "": start.tally.groups, open: start.tally.open, later: start.tally.later, decided: start.tally.decided };
  for (const input of form.elements.state) find("b", input.parentElement).textContent = number(counts[input.value]);
  for (const [relation, count] of start.relations) {
    const chip = find(`#relations [value="${relation}"]`).parentElement;
    chip.hidden = false;
    find("b", chip).textContent = number(count);
  }
  return start;
}
async function recount() {
  const start = await begin();
  group.setUndo(start.undo);
}

// A scan or a plan has made the groups anew: the list begins again, about where it was.
let renewing = null;
function renew() {
  renewing ??= (async () => {
    const { current } = lists.list;
    group.forget();
    await show(current);
    lists.select(current);
    await recount();
  })().catch((error) => say(error.message, "bad")).finally(() => { renewing = null; });
  return renewing;
}

async function first() {
  if (!(await enter())) {
    find("#list").hidden = true;
    trouble("This page opens by the link that dedup review gives, and each link is good for one use. Run dedup review again, or open the page from the tab that has it.");
    return;
  }
  try {
    const [start] = await Promise.all([begin(), lists.show(query())]);
    performance.mark("dedup-first-list");
    panels.fillFolders(start.folders);
    for (const format of start.formats) {
      const option = document.createElement("option");
      option.textContent = format;
      option.value = format;
      form.elements.format.append(option);
    }
    group.setUndo(start.undo);
    if (!start.tally.groups) {
      find("#nothing").hidden = false;
      find("#nothing").textContent = "The last scan found no duplicates. There is nothing to decide.";
    }
    lists.select(0, false);
  } catch (error) {
    if (error.status === 403) {
      sessionStorage.clear();
      find("#list").hidden = true;
      trouble("This tab belongs to a review that has ended. Run dedup review again and open its link.");
    } else trouble(error.message);
  }
}

lists.whenStale(renew);
group.whenStale(renew);
lists.whenOpened((index) => group.show(index));
compare.whenSelected((id) => group.select(id));
panels.whenRuled(async () => { await recount(); await show(); if (group.open.group) group.close(); });

// What can be done, by key or by button. What is about a group waits until one is open.
const inGroup = (action) => () => { if (group.open.group) action(); };
const ACTIONS = {
  next: () => (group.open.group ? group.go(1) : lists.select(lists.list.current + 1)),
  previous: () => (group.open.group ? group.go(-1) : lists.select(lists.list.current - 1)),
  "next-open": () => (group.open.group ? group.go(1, true) : nextOpen()),
  open: () => { if (!group.open.group) group.show(lists.list.current); },
  close: () => { if (group.open.group) { group.close(); recount(); } },
  "photo-next": inGroup(() => group.selectBy(1)),
  "photo-previous": inGroup(() => group.selectBy(-1)),
  undo: () => group.undo().then(() => { if (!group.open.group) recount(); }),
  side: inGroup(() => compare.setMode("side")),
  blink: inGroup(() => compare.setMode("blink")),
  slider: inGroup(() => compare.setMode("slider")),
  difference: inGroup(() => compare.setMode("difference")),
  "zoom-in": inGroup(() => compare.zoomBy(1.5)),
  "zoom-out": inGroup(() => compare.zoomBy(1 / 1.5)),
  "zoom-fit": inGroup(() => compare.whole()),
  "zoom-place": inGroup(() => { if (!compare.toPlace()) say("There is no single changed place to go to."); }),
  "slider-left": inGroup(() => compare.slideBy(-5)),
  "slider-right": inGroup(() => compare.slideBy(5)),
  filter: () => { if (group.open.group) group.close(); further(); },
  plan: () => panels.showPlan(),
  pairs: () => panels.showPairs(choosePair).catch((error) => say(error.message, "bad")),
  rules: () => panels.openPanel("rules"),
  files: () => panels.openPanel("files"),
  theme,
  help: () => panels.openPanel("help"),
};
for (const what of ["pick", "goes", "stays", "both", "apart", "later", "clear"]) ACTIONS[what] = inGroup(() => group.decide(what));

async function nextOpen() {
  let index = lists.list.current + 1;
  for (let card = await lists.cardAt(index); card && card.state !== "open"; card = await lists.cardAt((index += 1)));
  lists.select(index);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || find("dialog[open]")) return;
  const { target } = event;
  const typingHere = target.matches("input:not([type=checkbox]):not([type=radio]), select, textarea");
  if (typingHere) {
    if (event.key === "Escape") target.blur();
    return;
  }
  const action = keys[event.key];
  if (!action) return;
  const pressed = target.matches("button, a, summary, input") && (event.key === " " || event.key === "Enter");
  const moves = target.matches("input") && event.key.startsWith("Arrow");
  if (pressed || moves) return;
  if (event.repeat && !["next", "previous"].includes(action) && !action.startsWith("zoom") && !action.startsWith("slider")) return;
  event.preventDefault();
  ACTIONS[action]();
});
document.addEventListener("click", (event) => {
  const asked = event.target.closest("[data-do]");
  if (asked) ACTIONS[asked.dataset.do]();
});

first();
