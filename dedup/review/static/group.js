// One group: its photos, what is known about them, and what the person says.
import { Refused, get, post } from "./ask.js";
import * as compare from "./compare.js";
import { bytes, change, element, find, number, plural, say, words } from "./dom.js";
import * as lists from "./list.js";
import { framed, load } from "./pictures.js";

export const open = { index: -1, group: null, selected: "" };
const ready = new Map();
let onStale = () => {};
export function whenStale(call) { onStale = call; }
let busy = Promise.resolve();

function fetched(id) {
  if (!ready.has(id)) {
    const asked = get("/api/group", { id });
    ready.set(id, asked);
    asked.catch(() => ready.delete(id));
    if (ready.size > 12) ready.delete(ready.keys().next().value);
  }
  return ready.get(id);
}

export async function show(index, select = "") {
  let answer;
  let wanted;
  try {
    const card = await lists.cardAt(index);
    if (!card) return false;
    wanted = open.index = index;
    answer = await fetched(card.id);
  } catch (error) {
    failed(error, "");
    return true;
  }
  if (open.index !== wanted) return true;
  take(answer, select);
  find("#list").hidden = true;
  find("#group").hidden = false;
  window.scrollTo(0, 0);
  find("#group-title").focus({ preventScroll: true });
  lists.list.current = index;
  performance.mark("dedup-group-shown");
  prefetch(index + 1);
  return true;
}

async function prefetch(index) {
  const card = await lists.cardAt(index).catch(() => null);
  const { group } = (card && (await fetched(card.id).catch(() => null))) || {};
  if (!group) return;
  for (const photo of group.photos.slice(0, 4)) load({ group: group.id, of: photo.id, size: "view" }, { urgent: 0 }).catch(() => {});
}

export function forget() {
  ready.clear();
  if (open.group) close();
}

export function close() {
  find("#group").hidden = true;
  find("#list").hidden = false;
  open.group = null;
  lists.redraw();
  lists.select(open.index);
  open.index = -1;
}

// The server's answer is how it is; the page shows nothing else.
function take(answer, select = "") {
  open.group = answer.group;
  ready.set(answer.group.id, Promise.resolve(answer));
  const known = answer.group.photos.some((one) => one.id === select);
  open.selected = known ? select : answer.group.keeper;
  lists.replaceCard(answer.card);
  setUndo(answer.undo);
  draw();
}

export function setUndo(what) {
  const button = find("#undo");
  button.disabled = !what;
  button.title = what ? `Take back: ${what}` : "";
}

function draw() {
  const { group } = open;
  const keeper = group.photos.find((one) => one.id === group.keeper);
  const state = { open: "", later: "later", decided: "✓ decided" }[group.state];
  find("#group-title").replaceChildren(keeper.name, " ", state ? element("span", `badge state ${group.state}`, state) : "");
  find("#place").textContent = `${number(open.index + 1)} of ${number(lists.list.total)}`;
  compare.setGroup(group, open.selected);
  drawMembers();
  drawFacts();
}

const SAID = { goes: ["✕", "may go"], stays: ["✓", "keep as well"], apart: ["≠", "no duplicate"], later: ["…", "later"] };

function badgeOf(photo) {
  const { group } = open;
  if (photo.id === group.keeper) return element("span", "mark keep", group.keep ? "✓ keep" : "✓ proposed to keep");
  const said = SAID[group.marks[photo.id]];
  return element("span", said ? `mark ${group.marks[photo.id]}` : "mark none", said ? `${said[0]} ${said[1]}` : "not decided");
}

function drawMembers() {
  const { group } = open;
  const rows = group.photos.map((photo) => {
    const picture = framed({ group: group.id, of: photo.id, size: "thumb" }, photo.name, { urgent: 2, damaged: Boolean(photo.damage) });
    const choose = element("button", "choose");
    choose.type = "button";
    choose.setAttribute("aria-pressed", String(photo.id === open.selected));
    choose.setAttribute("aria-label", `Select ${photo.name}`);
    choose.addEventListener("click", () => select(photo.id));
    picture.setAttribute("aria-hidden", "true");
    const text = element("div", "about",
      element("div", "line", badgeOf(photo), photo.relation ? element("span", `badge ${photo.relation}`, photo.link ? "hard link" : words(photo.relation)) : null),
      element("div", "name", photo.name),
      element("div", "folder", photo.folder),
      element("div", "dims", `${photo.dims} · ${photo.size}${photo.taken ? ` · taken ${photo.taken}` : ""}`));
    if (photo.sentence) text.append(element("p", "sentence", photo.sentence));
    if (photo.copy) text.append(element("p", "aside", photo.copy));
    if (photo.damage) text.append(element("p", "bad", `damaged: ${photo.damage}`));
    if (photo.units.length) text.append(element("p", "aside", `goes with ${photo.units.join(", ")}`));
    if (photo.id === group.proposed && group.reasons.length) {
      const why = element("ul", "why");
      for (const reason of group.reasons) why.append(element("li", "", reason));
      text.append(element("p", "aside", "proposed because"), why);
    }
    const row = element("article", `member ${photo.id === open.selected ? "selected" : ""} ${photo.id === group.keeper ? "keeper" : group.marks[photo.id] || ""}`, picture, text, choose);
    row.setAttribute("role", "listitem");
    return row;
  });
  find("#members").replaceChildren(...rows);
  const chosen = group.photos.find((one) => one.id === open.selected);
  for (const who of document.querySelectorAll(".decide .who")) who.textContent = chosen.id === group.keeper ? "choose another first" : "";
}

function drawFacts() {
  const { group } = open;
  const facts = find("#facts");
  facts.replaceChildren();
  const table = element("table", "facts-table");
  const head = element("tr", "", element("th", "", element("span", "hidden", "What")));
  head.firstChild.scope = "col";
  for (const photo of group.photos) {
    const cell = element("th", photo.id === group.keeper ? "keeper" : "", photo.name);
    cell.scope = "col";
    head.append(cell);
  }
  table.append(element("caption", "hidden", "What the files say; ≠ where they differ, ▲ where one says more"), element("thead", "", head));
  const body = element("tbody");
  for (const row of group.table) {
    const name = element("th", "", row.name);
    name.scope = "row";
    const line = element("tr", row.differs ? "differs" : "", name);
    row.cells.forEach((text, at) => {
      const cell = element("td", "", element("span", "value", text || "–"));
      if (row.differs && row.better.includes(at)) cell.append(element("span", "better", "▲ better"));
      else if (row.differs) cell.append(element("span", "other", "≠"));
      line.append(cell);
    });
    body.append(line);
  }
  table.append(body);
  const wide = element("div", "scroll", table);
  wide.tabIndex = 0;
  wide.setAttribute("role", "region");
  wide.setAttribute("aria-label", "Table of metadata");
  facts.append(element("h3", "", "What the files say"), wide);
  for (const photo of group.photos) {
    if (photo.id !== open.selected || !photo.figures?.length) continue;
    const list = element("dl", "figures");
    for (const [name, value] of photo.figures) list.append(element("div", "", element("dt", "", name), element("dd", "", value)));
    facts.append(element("h3", "", `${photo.name} against the proposed photo`), list);
  }
  if (group.freed) facts.append(element("p", "note", `Removing the proven copies gives back ${bytes(group.freed)}.`));
  if (group.also.length) {
    const list = element("ul", "");
    for (const row of group.also) list.append(element("li", "", element("span", "path", row.name), ` – ${row.sentence} (${row.why})`));
    facts.append(element("details", "also", element("summary", "", `Also like it, but not in this group: ${plural(group.also.length, "photo")}`), list));
  }
}

export function select(id) {
  open.selected = id;
  compare.select(id);
  drawMembers();
  drawFacts();
  const photo = open.group.photos.find((one) => one.id === id);
  say(`${photo.name}, ${find("#members .selected .mark").textContent}`);
}

export function selectBy(step) {
  const { photos } = open.group;
  const at = photos.findIndex((one) => one.id === open.selected);
  select(photos[(at + step + photos.length) % photos.length].id);
}

export async function go(step, skip = false) {
  let index = open.index + step;
  if (skip) {
    for (let card = await lists.cardAt(index); card && card.state !== "open"; card = await lists.cardAt((index += 1)));
  }
  performance.mark("dedup-next-asked");
  if (!(await show(index))) say(step > 0 ? "This was the last group. Press P for the plan." : "This is the first group.");
}

// What is said about the group as a whole; the server answers when it is on the disk.
const others = (keeper) => open.group.photos.filter((one) => one.id !== keeper);
const WHOLE = {
  pick: () => ({ keep: open.selected, marks: Object.fromEntries(others(open.selected).map((one) => [one.id, "goes"])) }),
  both: () => ({ keep: open.group.keep, marks: Object.fromEntries(others(open.group.keeper).map((one) => [one.id, "stays"])) }),
  apart: () => ({ keep: open.group.keep, marks: Object.fromEntries(others(open.group.keeper).map((one) => [one.id, "apart"])) }),
  later: () => ({ keep: open.group.keep, marks: Object.fromEntries(others(open.group.keeper).map((one) => [one.id, "later"])) }),
  clear: () => ({ keep: null, marks: {} }),
};

export function decide(what) {
  busy = busy.then(() => decideNow(what), () => decideNow(what));
  return busy;
}

async function decideNow(what) {
  const { group, selected } = open;
  if (!group) return;
  if (group.hidden && what !== "clear") { say(`This group has ${group.hidden} more photos than are shown here; decide about it by a rule.`, "bad"); return; }
  let wanted;
  if (WHOLE[what]) wanted = WHOLE[what]();
  else {
    if (selected === group.keeper) {
      say("This is the photo to keep. Choose another one with the arrow keys, or keep that one first.", "bad");
      return;
    }
    const marks = { ...group.marks };
    const { content } = group.photos.find((one) => one.id === selected);
    for (const one of group.photos) {
      if (one.content !== content || one.id === group.keeper) continue;
      if (group.marks[selected] === what) delete marks[one.id];
      else marks[one.id] = what;
    }
    wanted = { keep: group.keep, marks };
  }
  try {
    const answer = await post("/api/decide", { change: change(), group: group.id, mark: group.mark, version: group.version, ...wanted });
    if (open.group?.id !== group.id) {
      // The person went on meanwhile: what was said is noted where the group is listed.
      ready.delete(group.id);
      lists.replaceCard(answer.card);
      setUndo(answer.undo);
      return;
    }
    take(answer, selected);
    say(what === "clear" ? "Taken back: nothing is decided about this group" : `Saved: ${answer.card.said || "nothing is decided"}. u takes it back`);
    if (["pick", "both", "apart", "later"].includes(what)) await go(1);
  } catch (error) {
    failed(error, selected);
  }
}

function failed(error, selected) {
  if (!(error instanceof Refused)) throw error;
  if (error.answer.group && error.answer.group.id === open.group?.id) take(error.answer, selected);
  else if (error.status === 409 || error.status === 404) onStale();
  say(error.message, "bad");
}

export function undo() {
  busy = busy.then(undoNow, undoNow);
  return busy;
}

async function undoNow() {
  try {
    const answer = await post("/api/undo", { change: change() });
    setUndo(answer.undo);
    if (!answer.words) { say("There is nothing to take back."); return; }
    ready.clear();
    for (const card of answer.cards) lists.replaceCard(card);
    say(`Taken back: ${answer.words}`);
    if (open.group) {
      const index = answer.groups.length === 1 ? await indexOf(answer.groups[0]) : -1;
      await show(index >= 0 ? index : open.index);
    }
  } catch (error) {
    failed(error, open.selected);
  }
}

// Where a group stands, looked for near the one that is open.
async function indexOf(id) {
  for (let away = 0; away < 60; away += 1) {
    for (const index of [open.index - away, open.index + away]) {
      const card = await lists.cardAt(index);
      if (card?.id === id) return index;
    }
  }
  return -1;
}
