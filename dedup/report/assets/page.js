"use strict";
// Draws the list as it is scrolled. Every name goes in as text, never as markup. There is nothing to act on; what is
// decided is saved as a file.
(() => {
  const STEP = 24;            // groups drawn at a time
  const MOST_ROWS = 12;       // members shown before "show more"
  const data = JSON.parse(document.getElementById("data").textContent);
  const main = document.getElementById("groups");
  const form = document.getElementById("filters");
  const dialog = document.getElementById("compare");

  function element(name, kind, ...inside) {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    for (const part of inside) if (part !== null && part !== undefined) made.append(part);
    return made;
  }
  const number = (value) => value.toLocaleString("en");
  const plural = (count, thing) => `${number(count)} ${thing}${count === 1 ? "" : "s"}`;
  function bytes(size) {
    const units = ["bytes", "kB", "MB", "GB", "TB"];
    let unit = 0;
    while (size >= 999.5 && unit < 4) { size /= 1000; unit += 1; }
    return `${unit === 0 || size >= 99.95 ? size.toFixed(0) : size.toFixed(1)} ${units[unit]}`;
  }
  const words = (relation) => relation.replace("-", " ");
  const base = (name) => name.slice(name.lastIndexOf("/") + 1);
  const folder = (name) => name.slice(0, Math.max(name.lastIndexOf("/"), 0));

  // Pictures: portions of JSON further down in the file, opened when a group of theirs is drawn.
  const portions = new Map();
  const waiting = new Map();
  let indexed = 0;
  function index() {
    const found = document.getElementsByClassName("pictures");
    // The last one may still be arriving.
    const ready = document.readyState === "loading" ? found.length - 1 : found.length;
    for (; indexed < ready; indexed += 1) {
      const holder = { element: found[indexed], open: null };
      for (const key of found[indexed].dataset.keys.split(" ")) portions.set(key, holder);
    }
  }
  function pictures(key) {
    const holder = portions.get(key);
    if (!holder) return null;
    if (!holder.open) holder.open = JSON.parse(holder.element.textContent);
    return holder.open[key] || [[], []];
  }
  function source(key, kind, place) {
    const all = pictures(key);
    const code = all && place >= 0 ? all[kind][place] : "";
    return code ? `data:image/webp;base64,${code}` : "";
  }
  function fill(frame, key, kind, place, alt) {
    const known = pictures(key);
    if (!known && document.readyState === "loading") {
      if (!waiting.has(key)) waiting.set(key, []);
      waiting.get(key).push(() => fill(frame, key, kind, place, alt));
      return;
    }
    const address = source(key, kind, place);
    if (address) {
      const image = element("img");
      image.alt = alt;
      image.decoding = "async";
      image.src = address;
      frame.replaceChildren(image);
    } else {
      frame.classList.add("gone");
      frame.disabled = true;
      frame.textContent = "no picture";
    }
  }
  function settle() {
    index();
    for (const [key, calls] of waiting) {
      if (portions.has(key) || document.readyState !== "loading") {
        waiting.delete(key);
        for (const call of calls) call();
      }
    }
  }
  const clock = setInterval(settle, 120);
  document.addEventListener("DOMContentLoaded", () => { clearInterval(clock); settle(); });

  // One group.
  function named(photo) {
    const link = element("a", "", base(photo.name));
    link.href = photo.url;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.title = "Open the file";
    return element("div", "file", link);
  }
  const dims = (photo) => `${photo.w} × ${photo.h} ${photo.fmt} · ${bytes(photo.size)}${photo.taken ? ` · taken ${photo.taken}` : ""}`;
  function frame(kind, label, action) {
    const made = element(action ? "button" : "div", `frame ${kind}`);
    if (action) {
      made.type = "button";
      made.setAttribute("aria-label", label);
      made.addEventListener("click", action);
    }
    return made;
  }
  function about(photo, badges, say) {
    const made = element("div", "about", element("div", "line", ...badges), named(photo));
    if (folder(photo.name)) made.append(element("div", "folder", folder(photo.name)));
    made.append(element("div", "dims", dims(photo)));
    if (say) made.append(say);
    if (photo.unit) made.append(element("div", "aside", `goes with ${photo.unit.join(", ")}`));
    return made;
  }
  function badge(kind, label) { return element("span", `badge ${kind}`, label); }
  function damaged(photo) { return photo.damage ? badge("damaged", `damaged: ${photo.damage}`) : null; }

  // Deciding: for each group the photo to keep (-1 for the proposed one), and a word for each of the others.
  const decided = new Map();
  let unsaved = false;
  const photosOf = (group) => [group.keep, ...group.members];
  const saidOf = (key) => decided.get(key) || { keep: -1, marks: {} };
  const WORDS = { goes: "may go", stays: "keep as well", apart: "no duplicate", later: "later" };
  function decide(group, key, place, word) {
    const { keep, marks } = saidOf(key);
    const photos = photosOf(group);
    const kept = photos[keep + 1];
    const now = { keep, marks: { ...marks } };
    if (word === "instead") {
      now.keep = place;
      now.marks = {};
      photos.forEach((photo, at) => { if (at - 1 !== place) now.marks[at - 1] = "goes"; });
    } else {
      // Files with the same bytes share one decision, which is about contents.
      photos.forEach((photo, at) => {
        if (photo === kept || photo.sha !== photos[place + 1].sha) return;
        if (marks[place] === word) delete now.marks[at - 1]; else now.marks[at - 1] = word;
      });
    }
    if (now.keep < 0 && !Object.keys(now.marks).length) decided.delete(key); else decided.set(key, now);
    unsaved = decided.size > 0;
    drawSaving();
  }
  function drawSaving() {
    const bar = document.getElementById("saving");
    bar.hidden = decided.size === 0;
    document.getElementById("saving-count").textContent = `${plural(decided.size, "group")} decided${unsaved ? "" : ", saved"}`;
  }
  function placed(photo) {
    const bytes = Uint8Array.from(photo.url.slice(7).match(/%[0-9A-Fa-f]{2}|[^%]/g), (part) => (part.length > 1 ? parseInt(part.slice(1), 16) : part.charCodeAt(0)));
    try {
      return { place: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
    } catch {
      return { place: new TextDecoder().decode(bytes), place_bytes: btoa(String.fromCharCode(...bytes)) };
    }
  }
  const VERDICTS = { goes: "remove", stays: "keep-both", apart: "not-duplicates", later: "later" };
  function decisionsOf(group, { keep, marks }, now) {
    const photos = photosOf(group);
    const kept = photos[keep + 1];
    const pairs = new Map();
    const say = (verdict, left, right) => {
      const [low, high] = left <= right ? [left, right] : [right, left];
      const mutual = verdict !== "remove";
      pairs.set(low + high, { verdict, left: mutual ? low : left, right: mutual ? high : right, decided: now });
    };
    let chosen = keep >= 0;
    for (const [place, word] of Object.entries(marks)) {
      const photo = photos[Number(place) + 1];
      if (word === "goes" && photo.sha === kept.sha) chosen = true;
      else say(VERDICTS[word], kept.sha, photo.sha);
    }
    for (const [place, word] of Object.entries(marks)) {
      if (word !== "apart") continue;
      const own = photos[Number(place) + 1].sha;
      for (const photo of photos) if (photo.sha !== own) say("not-duplicates", own, photo.sha);
    }
    const first = chosen ? [{ verdict: "keep", left: kept.sha, decided: now, ...placed(kept) }] : [];
    return [...first, ...pairs.values()];
  }
  function saveDecisions() {
    const now = new Date().toISOString().replace(/\.\d+Z$/, "+00:00");
    const all = [...decided].flatMap(([key, said]) => decisionsOf(data.groups[Number(key.slice(1))], said, now));
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([`${JSON.stringify({ schema: 1, decisions: all }, null, 1)}\n`], { type: "application/json" }));
    link.download = "dedup-decisions.json";
    link.click();
    unsaved = false;
    drawSaving();
  }
  document.getElementById("save")?.addEventListener("click", saveDecisions);
  window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
  function decisionRow(group, key, place, redraw) {
    const { keep, marks } = saidOf(key);
    const row = element("div", "choices");
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", `Decide about ${base(photosOf(group)[place + 1].name)}`);
    if (place === keep) { row.append(element("span", "badge keep", place < 0 ? "keep" : "keep, as you chose")); return row; }
    const offer = (word, label) => {
      const made = element("button", `choice ${word}`, label);
      made.type = "button";
      made.setAttribute("aria-pressed", String(marks[place] === word));
      made.addEventListener("click", () => { decide(group, key, place, word); redraw(place, word); });
      row.append(made);
    };
    for (const [word, label] of Object.entries(WORDS)) offer(word, label);
    if (!photosOf(group)[place + 1].damage) offer("instead", "keep this instead");
    return row;
  }

  function keeperOf(group, key, redraw) {
    const photo = { ...group.keep, unit: group.unit.length ? group.unit : undefined };
    const shown = frame("", `Compare ${base(photo.name)} with its copies`, () => compare(group, key, 0));
    fill(shown, key, 0, 0, base(photo.name));
    let why = null;
    if (group.why.length) {
      const list = element("ul", "");
      for (const reason of group.why) list.append(element("li", "", reason));
      why = element("div", "why", element("p", "", "kept because"), list);
    }
    const text = about(photo, [badge("keep", "keep"), damaged(photo)], why);
    if (saidOf(key).keep >= 0) {
      text.querySelector(".badge.keep").textContent = "proposed";
      text.append(decisionRow(group, key, -1, redraw));
    }
    return element("div", "keeper", shown, text);
  }
  function memberOf(group, key, place, redraw) {
    const photo = group.members[place];
    const plain = photo.diff < 0;
    const shots = element("div", "shots");
    const open = () => compare(group, key, place);
    const shown = frame("", `Compare ${base(photo.name)} with the photo to keep`, open);
    if (photo.pic >= 0) {
      fill(shown, key, 0, photo.pic, base(photo.name));
      shots.append(shown);
    }
    if (!plain) {
      const glow = frame("diff", `Where ${base(photo.name)} differs`, () => compare(group, key, place, "diff"));
      fill(glow, key, 1, photo.diff, "where it differs");
      shots.append(glow);
    }
    const label = photo.link ? "hard link" : words(photo.rel);
    const repeats = photo.say === `the ${label}`;
    const say = repeats ? null : element("p", "say", photo.say);
    const text = about(photo, [badge(photo.rel, label), damaged(photo)], null);
    if (say) text.querySelector(".line").after(say);
    if (photo.copy) text.append(element("div", "aside", `${words(photo.copy[1])} as ${photo.copy[0]}`));
    text.append(decisionRow(group, key, place, redraw));
    return element("div", `member ${plain ? "plain" : ""}`, shots, text);
  }
  function card(group, key, shown) {
    const made = element("section", "group");
    made.tabIndex = -1;
    made.setAttribute("aria-label", `Group of ${base(group.keep.name)}`);
    made.dataset.key = key;
    const rows = element("div", "members");
    const redraw = (place, word) => {
      const anew = card(group, key, shown);
      made.replaceWith(anew);
      const again = [...anew.querySelectorAll(".choices")].flatMap((row) => [...row.querySelectorAll("button")]);
      const label = `Decide about ${base(photosOf(group)[place + 1].name)}`;
      (again.find((one) => one.parentElement.getAttribute("aria-label") === label && one.classList.contains(word)) || anew).focus({ preventScroll: true });
    };
    const draw = (from, to) => { for (const place of shown.slice(from, to)) rows.append(memberOf(group, key, place, redraw)); };
    const first = shown.length > MOST_ROWS + 2 ? MOST_ROWS : shown.length;
    draw(0, first);
    if (first < shown.length) {
      const rest = element("button", "quiet rest", `Show ${number(shown.length - first)} more`);
      rest.type = "button";
      rest.addEventListener("click", () => { rest.remove(); draw(first, shown.length); rows.children[first].querySelector("a").focus(); });
      rows.append(rest);
    }
    const hidden = group.members.length - shown.length;
    if (hidden) {
      const rest = element("button", "quiet rest", `${plural(hidden, "photo")} hidden by the filter; show`);
      rest.type = "button";
      rest.addEventListener("click", () => made.replaceWith(card(group, key, group.members.map((_, place) => place))));
      rows.append(rest);
    }
    made.append(element("div", "inside", keeperOf(group, key, redraw), rows));
    if (group.free) made.append(element("p", "freed", "Removing the proven copies gives back ", element("b", "", bytes(group.free))));
    if (group.also.length) {
      const list = element("ul", "");
      for (const [name, say, why] of group.also) list.append(element("li", "", element("span", "path", name), ` – ${say} (${why})`));
      made.append(element("details", "also", element("summary", "", `Also like it: ${plural(group.also.length, "photo")}`), list));
    }
    return made;
  }

  // The list.
  const safe = new Set(["same-bytes", "same-pixels", "same-picture"]);
  let visible = [];
  let drawn = 0;
  function drawMore() {
    const part = document.createDocumentFragment();
    const end = Math.min(drawn + STEP, visible.length);
    for (; drawn < end; drawn += 1) {
      const [place, shown] = visible[drawn];
      part.append(card(data.groups[place], `g${place}`, shown));
    }
    main.append(part);
  }
  function choices() {
    const chosen = new FormData(form);
    return {
      relations: new Set(chosen.getAll("relation")),
      folder: chosen.get("folder"),
      text: chosen.get("text").trim().toLowerCase(),
      order: chosen.get("order"),
    };
  }
  const lies = (name, where) => !where || name.startsWith(`${where}/`);
  function filter() {
    const { relations, folder: where, text, order } = choices();
    visible = [];
    let copies = 0, free = 0;
    data.groups.forEach((group, place) => {
      const photos = [group.keep, ...group.members];
      if (where && !photos.some((photo) => lies(photo.name, where))) return;
      if (text && !photos.some((photo) => photo.name.toLowerCase().includes(text))) return;
      const shown = [];
      group.members.forEach((member, at) => { if (relations.has(member.rel)) shown.push(at); });
      if (!shown.length) return;
      visible.push([place, shown]);
      copies += shown.length;
      free += group.free;
    });
    const edited = (place) => data.groups[place].members.filter((member) => !safe.has(member.rel)).length;
    if (order === "space") visible.sort((a, b) => data.groups[b[0]].free - data.groups[a[0]].free || a[0] - b[0]);
    if (order === "edited") visible.sort((a, b) => edited(b[0]) - edited(a[0]) || a[0] - b[0]);
    const all = visible.length === data.groups.length;
    document.getElementById("count").textContent =
      `${all ? "" : `${number(visible.length)} of `}${plural(data.groups.length, "group")}, ${plural(copies, "photo")} beside the kept ones${free ? `; ${bytes(free)} would come back` : ""}`;
    main.querySelectorAll(".group, .nothing").forEach((old) => old.remove());
    drawn = 0;
    drawMore();
    if (!visible.length) main.append(element("p", "nothing", "No group matches these filters."));
  }
  function listFolders() {
    const counts = new Map();
    for (const group of data.groups) {
      const seen = new Set();
      for (const photo of [group.keep, ...group.members]) {
        for (let where = folder(photo.name); where; where = folder(where)) seen.add(where);
      }
      for (const where of seen) counts.set(where, (counts.get(where) || 0) + 1);
    }
    const select = form.elements.folder;
    const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 300).sort((a, b) => (a[0] < b[0] ? -1 : 1));
    for (const [where, count] of most) {
      const option = element("option", "", `${where}  (${number(count)})`);
      option.value = where;
      select.append(option);
    }
  }

  // Comparing.
  const view = { group: null, key: "", place: 0, kind: "side", from: null };
  function compare(group, key, place, kind) {
    Object.assign(view, { group, key, place, kind: kind || (view.kind === "diff" ? "side" : view.kind), from: document.activeElement });
    drawCompare();
    if (!dialog.open) dialog.showModal();
  }
  function pictured(kind, place, alt, more) {
    const image = element("img", more || "");
    image.alt = alt;
    const address = source(view.key, kind, place);
    if (address) image.src = address; else image.alt = `no picture of ${alt}`;
    return image;
  }
  function figure(caption, ...images) {
    return element("figure", "", element("div", "box", ...images), element("figcaption", "", caption));
  }
  function drawCompare() {
    const { group, place } = view;
    const photo = group.members[place];
    const hasDifference = photo.diff >= 0 && source(view.key, 1, photo.diff) !== "";
    if (!hasDifference && view.kind === "diff") view.kind = "side";
    const canvas = dialog.querySelector(".canvas");
    canvas.className = `canvas ${view.kind}`;
    const kept = () => pictured(0, 0, base(group.keep.name), "base");
    const other = () => pictured(0, photo.pic, base(photo.name), view.kind === "flip" ? "other" : "");
    const captions = [`Keep: ${group.keep.name}, ${dims(group.keep)}`, `${photo.name}, ${dims(photo)}`];
    if (view.kind === "side") canvas.replaceChildren(figure(captions[0], kept()), figure(captions[1], other()));
    if (view.kind === "flip") {
      const flip = figure("Press space, or click the picture, to change between the kept photo and this one", kept(), other());
      flip.addEventListener("click", () => canvas.classList.toggle("flipped"));
      canvas.replaceChildren(flip);
    }
    if (view.kind === "diff") {
      const legend = element("span", "legend",
        element("span", "", element("i", "glow"), "differs"), element("span", "", element("i", "off"), "only in the kept photo"));
      canvas.replaceChildren(figure(captions[0], kept()), figure(legend, pictured(1, photo.diff, "where the two differ")));
    }
    for (const button of dialog.querySelectorAll("[data-view]")) {
      button.setAttribute("aria-pressed", String(button.dataset.view === view.kind));
      if (button.dataset.view === "diff") button.disabled = !hasDifference;
    }
    const label = photo.link ? "hard link" : words(photo.rel);
    dialog.querySelector("h2").replaceChildren(badge(photo.rel, label), ` ${base(photo.name)}`);
    dialog.querySelector(".say").textContent = photo.say;
    const list = dialog.querySelector(".figures");
    list.replaceChildren();
    const put = (name, value) => list.append(element("div", "", element("dt", "", name), element("dd", "", value)));
    if (photo.fig.length) {
      const [rms, tile, correlation, bits, compared] = photo.fig;
      if (rms >= 0) put("difference over all, of 255", String(rms));
      if (tile >= 0) put("in the worst place, of 255", String(tile));
      put("structure in common", `${(100 * correlation).toFixed(1)} %`);
      put("hash distance, of 64 bits", String(bits));
      if (compared[0]) put("compared at", `${compared[0]} × ${compared[1]}`);
    } else put("proof", "every byte is equal");
    const steps = dialog.querySelectorAll(".step");
    steps[0].disabled = place === 0;
    steps[1].disabled = place === group.members.length - 1;
  }
  function stepBy(step) {
    const next = view.place + step;
    if (next >= 0 && next < view.group.members.length) { view.place = next; drawCompare(); }
  }
  function show(kind) { view.kind = kind; drawCompare(); }
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => { if (view.from && view.from.isConnected) view.from.focus(); });
  for (const button of dialog.querySelectorAll("[data-view]")) button.addEventListener("click", () => show(button.dataset.view));
  for (const button of dialog.querySelectorAll(".step")) button.addEventListener("click", () => stepBy(Number(button.dataset.step)));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") stepBy(1);
    else if (event.key === "ArrowLeft") stepBy(-1);
    else if (event.key === "d") show(view.kind === "diff" ? "side" : "diff");
    else if (event.key === " " && event.target.tagName !== "BUTTON" || event.key === "f") {
      event.preventDefault();
      if (view.kind !== "flip") show("flip");
      dialog.querySelector(".canvas").classList.toggle("flipped");
    }
  });

  // Keys of the list.
  function move(step) {
    const cards = [...main.querySelectorAll(".group")];
    let at = cards.indexOf(document.activeElement.closest(".group"));
    if (at < 0 && step < 0) return;
    at += step;
    if (at >= cards.length) { drawMore(); cards.splice(0, cards.length, ...main.querySelectorAll(".group")); }
    const next = cards[Math.max(at, 0)];
    if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "start" }); }
  }
  document.addEventListener("keydown", (event) => {
    if (dialog.open || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "/" && form) { event.preventDefault(); form.elements.text.focus(); }
    else if (event.key === "Enter" && event.target.classList.contains("group")) event.target.querySelector(".member .frame, .keeper .frame")?.click();
  });

  // Below the list.
  function later(id, draw) {
    const details = document.getElementById(id);
    if (!details) return;
    details.addEventListener("toggle", () => {
      const list = details.querySelector(".list");
      if (details.open && !list.childElementCount) draw(list);
    });
  }
  later("similar", (list) => {
    let from = 0;
    const more = element("button", "quiet rest", "Show more");
    more.type = "button";
    const draw = () => {
      for (const pair of data.similar.slice(from, from + STEP)) {
        const row = element("div", "pair");
        for (const [place, photo] of [pair.left, pair.right].entries()) {
          const shown = frame("", "", null);
          fill(shown, pair.key, 0, place, base(photo.name));
          row.append(shown);
        }
        row.append(element("div", "about", element("div", "path", pair.left.name), element("div", "path", pair.right.name), element("p", "say", pair.say)));
        list.insertBefore(row, more);
      }
      from += STEP;
      more.hidden = from >= data.similar.length;
    };
    more.addEventListener("click", draw);
    list.append(more);
    draw();
  });
  later("skipped", (list) => {
    const table = element("table", "table");
    for (const [name, reason, detail] of data.skipped) {
      table.append(element("tr", "", element("td", "", name), element("td", "", reason), element("td", "", detail)));
    }
    list.append(table);
  });
  document.querySelector('a[href="#skipped"]')?.addEventListener("click", () => { document.getElementById("skipped").open = true; });

  // Light and dark.
  const theme = document.getElementById("theme");
  const saved = (value) => {
    try { if (value) localStorage.setItem("dedup-theme", value); return localStorage.getItem("dedup-theme"); } catch { return null; }
  };
  if (saved()) document.documentElement.dataset.theme = saved();
  theme.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    saved(document.documentElement.dataset.theme);
  });

  if (form) {
    listFolders();
    form.addEventListener("submit", (event) => event.preventDefault());
    let pending = 0;
    form.addEventListener("input", () => { clearTimeout(pending); pending = setTimeout(filter, 90); });
    index();
    filter();
    const watcher = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) drawMore(); }, { rootMargin: "1600px" });
    watcher.observe(document.getElementById("more"));
  }
})();
