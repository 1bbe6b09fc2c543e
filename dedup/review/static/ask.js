// Asking the server. The token lives in this tab; a further tab of this page is handed it by one that has it.
import { trouble } from "./dom.js";

const KEPT = "dedup-review-token";
let token = sessionStorage.getItem(KEPT) || "";
const others = new BroadcastChannel("dedup-review");
others.addEventListener("message", (event) => {
  if (event.data.wanted && token) others.postMessage({ token });
});

export class Refused extends Error {
  constructor(status, answer) {
    super(answer.error || "the server did not answer as it should");
    this.status = status;
    this.answer = answer;
  }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// A connection can be refused because too many are open: what is asked may be asked again.
async function reach(path, options) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await fetch(path, { ...options, cache: "no-store", credentials: "omit", headers: { ...options.headers, "X-Dedup-Token": token } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (attempt >= 3) {
        trouble("The review has ended. What you decided is saved; run dedup review again to go on.");
        throw new Refused(0, { error: "the review has ended" });
      }
      await pause(150 * (attempt + 1));
    }
  }
}

async function read(response) {
  const answer = await response.json();
  if (!response.ok) throw new Refused(response.status, answer);
  trouble("");
  return answer;
}

export async function get(path, values = {}, signal = undefined) {
  const query = new URLSearchParams(values).toString();
  return read(await reach(query ? `${path}?${query}` : path, { signal }));
}

// A change has a name, so it may be sent again: the server makes it once.
export async function post(path, body) {
  for (let attempt = 0; ; attempt += 1) {
    const response = await reach(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (response.status !== 503 || attempt >= 3) return read(response);
    await pause(400 * (attempt + 1));
  }
}

export async function picture(values, signal) {
  for (let attempt = 0; ; attempt += 1) {
    const response = await reach(`/api/picture?${new URLSearchParams(values)}`, { signal });
    if (response.ok) return response.blob();
    if (response.status !== 503 || attempt >= 20) throw new Refused(response.status, await response.json());
    await pause(150 + 100 * attempt);
  }
}

function fromAnotherTab() {
  return new Promise((done) => {
    const hear = (event) => { if (event.data.token) finish(event.data.token); };
    const finish = (found) => { others.removeEventListener("message", hear); done(found); };
    others.addEventListener("message", hear);
    others.postMessage({ wanted: true });
    setTimeout(() => finish(""), 400);
  });
}

export async function enter() {
  const code = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  if (code) {
    const response = await reach("/api/enter", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code }) });
    const answer = await response.json();
    if (response.ok) token = answer.token;
    else if (!token) token = await fromAnotherTab();
  } else if (!token) {
    token = await fromAnotherTab();
  }
  if (token) sessionStorage.setItem(KEPT, token);
  return Boolean(token);
}
