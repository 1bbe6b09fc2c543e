// Looking at the photos of a group: side by side, blinking, with a slider, or where they differ; at one zoom and pan.
import { element, find } from "./dom.js";
import { load } from "./pictures.js";

const stage = find("#stage");
const caption = find("#caption");
const MOST_ZOOM = 16;
const MOST_PANES = 12;
const state = { group: null, selected: "", mode: "side", zoom: 1, x: 0.5, y: 0.5, slider: 50, flipped: false };
let panes = [];
let onSelect = () => {};
let leaving = new AbortController();

export function whenSelected(call) { onSelect = call; }
export const mode = () => state.mode;

export function setGroup(group, selected) {
  const other = state.group?.id !== group.id;
  state.group = group;
  state.selected = selected;
  if (other) Object.assign(state, { zoom: 1, x: 0.5, y: 0.5, flipped: false });
  draw();
}

export function select(id) { state.selected = id; draw(); }

export function setMode(kind) {
  if (kind === "blink" && state.mode === "blink") { state.flipped = !state.flipped; showFlip(); return; }
  state.mode = kind;
  state.flipped = false;
  draw();
}

const photo = (id) => state.group.photos.find((one) => one.id === id);
const against = () => photo(state.group.proposed);
// Every photo was measured against the proposed one; of that one itself, its first copy is shown.
const other = () => (state.selected === state.group.proposed ? state.group.photos.find((one) => one.id !== state.group.proposed) : photo(state.selected));

function draw() {
  leaving.abort();
  leaving = new AbortController();
  panes = [];
  stage.className = `stage ${state.mode}`;
  stage.replaceChildren();
  for (const one of document.querySelectorAll(".views [data-do]")) {
    if (["side", "blink", "slider", "difference"].includes(one.dataset.do)) one.setAttribute("aria-pressed", String(one.dataset.do === state.mode));
  }
  find("#sliderow").hidden = state.mode !== "slider";
  find("#to-place").hidden = !place();
  if (state.mode === "side") side();
  else pair();
  apply();
}

function pane(label, kind = "") {
  const box = element("div", `pane ${kind}`);
  const name = element("span", "label", label);
  box.append(name);
  stage.append(box);
  listen(box);
  const made = { box, name, layers: [], ratio: 1 };
  panes.push(made);
  return made;
}

function layer(made, values, alt, ratio, kind = "") {
  const image = element("img", kind);
  image.alt = alt;
  image.draggable = false;
  made.box.append(image);
  const entry = { image, values, ratio, size: "" };
  made.layers.push(entry);
  fetchInto(made, entry, state.zoom > 2.2 ? "full" : "view");
  return entry;
}

function fetchInto(made, entry, size) {
  if (entry.size === size || entry.size === "full") return;
  entry.size = size;
  const { signal } = leaving;
  load({ ...entry.values, size }, { urgent: 3, signal }).then(
    (url) => { entry.image.src = url; made.box.classList.add("ready"); },
    (error) => {
      if (error.name === "AbortError" || entry.image.src) return;
      entry.image.remove();
      made.box.append(element("p", "reason", `${entry.image.alt} cannot be shown: ${error.message}`));
    },
  );
}

const MARKS = { goes: "may go", stays: "keep as well", apart: "no duplicate", later: "later" };
function standing(one) {
  if (one.id === state.group.keeper) return state.group.keep ? "keep" : "proposed to keep";
  return MARKS[state.group.marks[one.id]] || "";
}

function side() {
  const shown = state.group.photos.slice(0, MOST_PANES);
  stage.dataset.count = String(shown.length);
  for (const one of shown) {
    const said = standing(one);
    const made = pane(said ? `${one.name} – ${said}` : one.name, `${one.id === state.selected ? "selected" : ""} ${one.id === state.group.keeper ? "keeper" : ""}`);
    if (one.damage) made.box.append(element("span", "flag", `damaged: ${one.damage}`));
    made.box.dataset.id = one.id;
    layer(made, { group: state.group.id, of: one.id }, one.name, one.width / one.height);
  }
  const hidden = state.group.photos.length - shown.length + state.group.hidden;
  caption.textContent = hidden ? `${hidden} more photos of this group are listed below` : "";
}

function pair() {
  const kept = against();
  const one = other();
  stage.dataset.count = "1";
  if (!one) return;
  const ratio = kept.width / kept.height;
  const base = { group: state.group.id, of: kept.id };
  const laid = one.differs ? { group: state.group.id, of: one.id, against: kept.id, look: "aligned" } : { group: state.group.id, of: one.id };
  if (state.mode === "difference") {
    if (!one.differs) {
      const made = pane(`${one.name} against ${kept.name}`);
      made.box.append(element("p", "reason", one.relation === "same-bytes" ? "Nothing differs: every byte is equal." : "Nothing differs: every pixel is equal."));
      caption.textContent = one.sentence || "";
      return;
    }
    const made = pane(`where ${one.name} differs from ${kept.name}`);
    layer(made, { ...laid, look: "difference" }, `where ${one.name} differs from ${kept.name}`, ratio);
    marks(made, one);
    caption.replaceChildren(element("span", "legend-glow", "differs"), element("span", "legend-off", `only in ${kept.name}`), ` ${one.sentence || ""}`);
    return;
  }
  const made = pane("");
  layer(made, base, kept.name, ratio, "under");
  layer(made, laid, one.name, one.differs ? ratio : one.width / one.height, "over");
  if (state.mode === "blink") {
    caption.textContent = `Press 2 or space to change between ${kept.name} and ${one.name}, or click the picture. ${one.sentence || ""}`;
    showFlip();
  } else {
    made.name.textContent = `${kept.name}  |  ${one.name}`;
    made.box.append(element("span", "split"));
    caption.textContent = `Left of the line ${kept.name}, right of it ${one.name}. ${one.sentence || ""}`;
    slide(state.slider);
  }
}

function showFlip() {
  if (state.mode !== "blink" || !panes.length) return;
  const [made] = panes;
  made.box.classList.toggle("flipped", state.flipped);
  made.name.textContent = state.flipped ? other().name : against().name;
}

export function slide(value) {
  state.slider = Math.max(0, Math.min(100, value));
  find("#slider").value = String(state.slider);
  const box = panes[0]?.box;
  const over = box && find(".over", box);
  if (over) clip(over, box);
}

function clip(over, box) {
  const line = (state.slider / 100) * box.clientWidth;
  const left = parseFloat(over.dataset.left || "0");
  const width = parseFloat(over.dataset.width || "1");
  over.style.clipPath = `inset(0 0 0 ${Math.max(0, Math.min(100, (100 * (line - left)) / width))}%)`;
  find(".split", box).style.left = `${line}px`;
}
export const slideBy = (step) => { if (state.mode === "slider") slide(state.slider + step); };

function place() {
  const one = state.group && other();
  if (!one || !one.differs) return null;
  return one.places?.[0] || one.worst || null;
}

function marks(made, one) {
  const boxes = one.places?.length ? one.places : one.worst ? [one.worst] : [];
  made.marks = boxes.map((box) => {
    const mark = element("span", "placemark");
    mark.append(element("span", "", one.places?.length ? "changed here" : "differs most here"));
    made.box.append(mark);
    return { mark, box };
  });
}

// One zoom and pan for all: the point of the picture (0 to 1) that stands in the middle of each pane.
function apply() {
  state.x = Math.max(0.5 / state.zoom, Math.min(1 - 0.5 / state.zoom, state.x));
  state.y = Math.max(0.5 / state.zoom, Math.min(1 - 0.5 / state.zoom, state.y));
  for (const made of panes) {
    const { clientWidth: w, clientHeight: h } = made.box;
    for (const entry of made.layers) {
      const wide = Math.min(w, h * entry.ratio);
      const width = wide * state.zoom;
      const tall = (wide / entry.ratio) * state.zoom;
      const left = width <= w ? (w - width) / 2 : Math.max(w - width, Math.min(0, w / 2 - state.x * width));
      const top = tall <= h ? (h - tall) / 2 : Math.max(h - tall, Math.min(0, h / 2 - state.y * tall));
      const { style, dataset } = entry.image;
      style.width = `${width}px`;
      style.height = `${tall}px`;
      style.transform = `translate(${left}px, ${top}px)`;
      dataset.left = String(left);
      dataset.width = String(width);
      if (state.zoom > 2.2) fetchInto(made, entry, "full");
      for (const { mark, box } of made.marks || []) {
        const pad = 6;
        mark.style.left = `${left + box[0] * width - pad}px`;
        mark.style.top = `${top + box[1] * tall - pad}px`;
        mark.style.width = `${(box[2] - box[0]) * width + 2 * pad}px`;
        mark.style.height = `${(box[3] - box[1]) * tall + 2 * pad}px`;
      }
    }
    const over = find(".over", made.box);
    if (over && state.mode === "slider") clip(over, made.box);
  }
  find("#zoom").textContent = state.zoom === 1 ? "whole" : `${Math.round(state.zoom * 100)} %`;
  stage.classList.toggle("zoomed", state.zoom > 1);
}

export function zoomBy(factor, x = state.x, y = state.y) {
  const zoom = Math.max(1, Math.min(MOST_ZOOM, state.zoom * factor));
  const share = 1 - state.zoom / zoom;
  state.x += (x - state.x) * share;
  state.y += (y - state.y) * share;
  state.zoom = zoom;
  apply();
}
export function whole() { Object.assign(state, { zoom: 1, x: 0.5, y: 0.5 }); apply(); }
export function toPlace() {
  const box = place();
  if (!box) return false;
  state.zoom = Math.max(2, Math.min(8, 0.4 / Math.max(box[2] - box[0], box[3] - box[1], 0.01)));
  state.x = (box[0] + box[2]) / 2;
  state.y = (box[1] + box[3]) / 2;
  apply();
  return true;
}

function listen(box) {
  const fingers = new Map();
  let moved = false;
  const point = (event) => {
    const made = panes.find((one) => one.box === box);
    const entry = made.layers[0];
    if (!entry) return [0.5, 0.5];
    const area = entry.image.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
  };
  box.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && state.zoom === 1 && event.deltaY > 0) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 400), ...point(event));
  }, { passive: false });
  box.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    moved = false;
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const image = panes.find((one) => one.box === box)?.layers[0]?.image;
    if (!image) return;
    if (Math.hypot(now[0] - before[0], now[1] - before[1]) > 1) moved = true;
    if (fingers.size === 2) {
      const still = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const apart = (a) => Math.hypot(a[0] - still[0], a[1] - still[1]);
      zoomBy(apart(now) / Math.max(1, apart(before)), ...point(event));
    } else if (state.mode === "slider" && state.zoom === 1) {
      slide((100 * (event.clientX - box.getBoundingClientRect().left)) / box.clientWidth);
    } else if (state.zoom > 1) {
      const area = image.getBoundingClientRect();
      state.x -= (now[0] - before[0]) / area.width;
      state.y -= (now[1] - before[1]) / area.height;
      apply();
    }
    fingers.set(event.pointerId, now);
  });
  const up = (event) => {
    fingers.delete(event.pointerId);
    if (moved || event.type !== "pointerup") return;
    if (state.mode === "blink") setMode("blink");
    else if (box.dataset.id) onSelect(box.dataset.id);
  };
  box.addEventListener("pointerup", up);
  box.addEventListener("pointercancel", up);
  box.addEventListener("dblclick", (event) => { if (state.zoom > 1) whole(); else zoomBy(4, ...point(event)); });
}

find("#slider").addEventListener("input", (event) => slide(Number(event.target.value)));
new ResizeObserver(() => { if (state.group) apply(); }).observe(stage);
