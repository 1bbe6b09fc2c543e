// The panels: folders that hold the same pictures, rules, the plan, files of decisions.
import { Refused, get, post } from "./ask.js";
import { button, bytes, change, element, find, number, plural, say } from "./dom.js";
import { list } from "./list.js";

export function openPanel(id) {
  const panel = find(`#${id}`);
  if (!panel.open) panel.showModal();
  return panel;
}
for (const panel of document.querySelectorAll("dialog")) {
  find("[data-close]", panel).addEventListener("click", () => panel.close());
  panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
}
const shown = (error) => say(error.message, "bad");

// Folders.
export async function showPairs(choose) {
  const panel = openPanel("pairs");
  const place = find(".pairlist", panel);
  place.replaceChildren(element("li", "note", "Counting…"));
  const { pairs } = await get("/api/pairs");
  const rows = pairs.map((pair) => {
    const open = button("Show them", () => { panel.close(); choose(pair); });
    const all = pair.shared === pair.pictures ? "all" : number(pair.shared);
    const sentence = element("p", "", element("b", "", all), ` of ${plural(pair.pictures, "picture")} in `, element("span", "path", pair.name), pair.shared === 1 && pair.pictures === 1 ? " is also in " : " are also in ", element("span", "path", pair.other_name));
    const bar = element("meter");
    bar.max = pair.pictures;
    bar.value = pair.shared;
    bar.setAttribute("aria-hidden", "true");
    return element("li", "", element("div", "", sentence, bar), open);
  });
  place.replaceChildren(...(rows.length ? rows : [element("li", "note", "No two folders hold the same pictures.")]));
}

// Rules.
const form = find("#rule-form");
form.elements.rule.addEventListener("change", () => { find("#rule-folder").hidden = form.elements.rule.value !== "folder"; find("#outlook").replaceChildren(); });
export function fillFolders(folders) {
  for (const select of [form.elements.folder, find("#filters").elements.folder]) {
    for (const [id, name, count] of folders) {
      const option = element("option", "", `${name}  (${number(count)})`);
      option.value = id;
      select.append(option);
    }
  }
}
let done = () => {};
export function whenRuled(call) { done = call; }
const asked = () => ({ rule: form.elements.rule.value, folder: form.elements.rule.value === "folder" ? form.elements.folder.value : "", view: list.view });
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const place = find("#outlook");
  place.replaceChildren(element("p", "note", "Looking…"));
  try {
    const question = asked();
    const outlook = await post("/api/rule", question);
    place.replaceChildren(...preview(outlook, question));
  } catch (error) { place.replaceChildren(); shown(error); }
});
function preview(outlook, question) {
  const parts = [element("p", "strong", outlook.groups ? `${plural(outlook.groups, "group")} would be decided: ${plural(outlook.goes, "photo")} may go, ${bytes(outlook.freed)}.` : "No group would be decided.")];
  if (outlook.left_alone.length) {
    const rows = element("ul", "bullets");
    for (const [why, count] of outlook.left_alone) rows.append(element("li", "", `${plural(count, "group")} left alone: ${why}`));
    parts.push(rows);
  }
  if (!outlook.groups) return parts;
  const sample = element("ul", "bullets sample");
  for (const one of outlook.sample) {
    const row = element("li", "path", element("b", "", one.keep), element("span", "aside", " stays"));
    for (const path of one.goes) row.append(element("div", "", path, element("span", "aside", " may go")));
    sample.append(row);
  }
  parts.push(element("p", "note", outlook.groups > outlook.sample.length ? `The first ${outlook.sample.length} of them:` : "These are:"), sample);
  parts.push(button(`Decide ${plural(outlook.groups, "group")} this way`, async () => {
    try {
      const made = await post("/api/rule", { ...question, stamp: outlook.stamp, change: change() });
      find("#rules").close();
      say(`Saved: ${plural(made.groups, "group")} decided; u takes all of it back`);
      done(made);
    } catch (error) { shown(error); }
  }, "primary"));
  return parts;
}

// The plan.
let asking = 0;
export async function showPlan() {
  openPanel("plan");
  await makePlan();
}
for (const choice of document.querySelectorAll("#plan [name=scope]")) choice.addEventListener("change", makePlan);
async function makePlan() {
  const mine = (asking += 1);
  const place = find("#planned");
  const decided = find("#plan [name=scope]:checked").value === "decided";
  try {
    let status = await post("/api/plan", { decided_only: decided });
    while (status.state === "working" || (status.state === "made" && status.decided_only !== decided)) {
      place.replaceChildren(element("p", "note", `Looking at the files: ${number(status.done || 0)}${status.total ? ` of ${number(status.total)}` : ""}`));
      await new Promise((go) => setTimeout(go, 250));
      status = status.state === "made" ? await post("/api/plan", { decided_only: decided }) : await get("/api/plan");
      if (mine !== asking) return;
    }
    if (mine !== asking) return;
    if (status.state === "failed") throw new Refused(0, status);
    place.replaceChildren(...planned(status));
  } catch (error) { place.replaceChildren(element("p", "bad", error.message)); }
}
function planned(status) {
  const parts = [];
  for (const line of status.summary) parts.push(element("p", "strong", line));
  if (status.operations.length) {
    const rows = element("ul", "operations");
    for (const one of status.operations) {
      const row = element("li", "", element("span", "path goes", one.goes), element("span", "aside", `goes; `), element("span", "path", one.keep), element("span", "aside", ` stays – ${one.sentence}`));
      if (one.losses.length) row.append(element("p", "bad", `lost with it: ${one.losses.join("; ")}`));
      rows.append(row);
    }
    const details = element("details", "also", element("summary", "", `${plural(status.count, "file")} would go${status.count > status.operations.length ? `; the first ${status.operations.length}` : ""}`), rows);
    details.open = status.count <= 30;
    parts.push(details);
  }
  if (status.left_count) {
    const rows = element("ul", "operations");
    for (const one of status.left_out) rows.append(element("li", "", element("span", "path", one.path), element("span", "aside", ` stays: ${one.why}${one.remedy ? ` (${one.remedy})` : ""}`)));
    parts.push(element("details", "also", element("summary", "", `${plural(status.left_count, "duplicate")} left alone`), rows));
  }
  const said = element("div", "commands");
  said.setAttribute("aria-live", "polite");
  if (status.count) {
    parts.push(button("Write the plan file", async () => {
      try {
        const written = await post("/api/plan/write", {});
        said.replaceChildren(element("p", "strong", `Written: ${written.file}`), element("p", "", "Nothing has happened to a photo yet. Now, in a terminal:"), code(status.commands.slice(1)));
      } catch (error) { said.replaceChildren(element("p", "bad", error.message)); }
    }, "primary"), element("p", "note", `It goes to ${status.file}. The same from a terminal:`), code(status.commands), said);
  }
  return parts;
}
function code(lines) {
  const block = element("pre", "", element("code", "", lines.join("\n")));
  block.tabIndex = 0;
  return block;
}

// Files of decisions.
find("#export").addEventListener("click", async () => {
  try {
    const decisions = await get("/api/export");
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([`${JSON.stringify(decisions, null, 1)}\n`], { type: "application/json" }));
    link.download = "dedup-decisions.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    find("#files-said").textContent = `${plural(decisions.decisions.length, "decision")} saved to a file.`;
  } catch (error) { shown(error); }
});
const PORTION = 2000;
find("#import").addEventListener("change", async (event) => {
  const said = find("#files-said");
  const [file] = event.target.files;
  if (!file) return;
  try {
    const data = JSON.parse(await file.text());
    if (!Array.isArray(data?.decisions)) throw new Error("these are no decisions");
    const portions = [];
    for (let at = 0; at < data.decisions.length; at += PORTION) portions.push({ ...data, decisions: data.decisions.slice(at, at + PORTION) });
    // All of it is read before any of it counts.
    for (const portion of portions) await post("/api/import", { file: portion, dry: true });
    let news = 0;
    for (const portion of portions) news += (await post("/api/import", { file: portion })).news;
    said.textContent = `${plural(data.decisions.length, "decision")} read, ${number(news)} of them new.`;
    done(null);
  } catch (error) { said.textContent = error instanceof SyntaxError ? "This file is no JSON." : error.message; }
  event.target.value = "";
});
