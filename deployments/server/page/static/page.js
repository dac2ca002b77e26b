// The page at `/`. It asks POST /ask, shows each claim once it is checked, and opens the passages that it cites.

const $ = (id) => document.getElementById(id);
const MARKS = /\[(\d{1,3}(?:\s*,\s*\d{1,3})*|\?)\]/g;
const MODES = {
  generated: "Written from the passages below.",
  extractive: "Sentences of the documents, word for word.",
  abstained: "The documents do not answer this.",
};
const STATE_MS = 30_000, LATE_SECONDS = 900;
let asking = null;  // stops the answer that is being written
let shown = null;  // the answer on the page
let openedFrom = null;  // the mark whose passage is open

function make(tag, properties = {}, ...children) {
  const { role, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  if (role) element.setAttribute("role", role);
  element.append(...children);
  return element;
}

// Asking the service

async function call(path, body, signal) {
  const headers = { "content-type": "application/json" };
  const key = sessionStorage.getItem("key");
  if (key) headers.authorization = `Bearer ${key}`;
  const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const answer = await fetch(path, { ...options, headers, signal });
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(error?.message ?? `The service answers ${answer.status}.`), { status: answer.status });
}

async function* events(answer) {
  let rest = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part; !(part = await reader.read()).done;) {
    const whole = (rest + part.value).split("\n\n");
    rest = whole.pop();
    for (const event of whole) {
      const [name, data] = event.split("\n");
      yield [name.slice("event: ".length), JSON.parse(data.slice("data: ".length))];
    }
  }
}

async function ask(question, push = true) {
  asking?.abort();
  const mine = asking = new AbortController();
  const pipeline = $("pipeline").value || undefined;
  begin(question, pipeline);
  if (push) history.pushState(null, "", permalink());
  try {
    for await (const [name, data] of events(await call("ask", { question, pipeline, stream: true }, mine.signal))) {
      if (name === "error") throw new Error(data.error.message);
      if (mine.signal.aborted) return;
      ({ citation: addCitation, claim: addPiece, answer: end })[name]?.(data);
    }
    if (!shown.id) throw new Error("The answer broke off.");
  } catch (error) {
    if (!mine.signal.aborted) fail(error, () => ask(question, false));
  } finally {
    if (asking === mine) busy(false);
  }
}

function permalink() {
  const query = new URLSearchParams({ q: shown.question, ...(shown.pipeline && { pipeline: shown.pipeline }) });
  return `?${query}`;
}

// Showing an answer

function begin(question, pipeline) {
  shown = { question, pipeline, id: "", text: "", citations: [], numbers: new Map() };
  closePane(false);
  for (const id of ["text", "notes", "sources", "done"]) $(id).replaceChildren();
  for (const id of ["empty", "led", "error", "key", "notes", "cited", "after", "why"]) $(id).hidden = true;
  for (const id of ["up", "down"]) $(id).ariaPressed = "false";
  $("question").textContent = question;
  nameQuestion();
  document.title = `${question} · Lockstep`;
  $("mode").className = "";
  $("mode").children[0].textContent = "Looking…";
  $("mode").children[1].textContent = "";
  $("answer").hidden = false;
  busy(true);
}

// The question stands above its answer once another one is being written.
function nameQuestion() {
  $("question").classList.toggle("away", $("q").value.trim() === shown?.question);
}

function busy(going) {
  $("text").ariaBusy = String(going);
  $("go").textContent = going ? "Stop" : "Ask";
  if (!going && shown && !shown.id) $("mode").children[0].textContent = "";
}

function addCitation(citation) {
  citation.number = shown.numbers.get(citation.n) ?? shown.numbers.size + 1;
  // The page's own address, whatever the service is called elsewhere: the passage opens beside the answer.
  citation.path = citation.url && `passages/${citation.url.split("/passages/")[1]}`;
  citation.title = [citation.key, citation.heading].filter(Boolean).join(" › ") + (citation.page ? `, page ${citation.page}` : "");
  shown.citations.push(citation);
  if (!shown.numbers.has(citation.n)) {
    shown.numbers.set(citation.n, citation.number);
    const link = make("a", { className: "source", href: citation.path, target: "_blank", citation }, citation.title);
    $("sources").append(make("li", {}, link, citation.outdated ? make("small", {}, "An older version: the newest cannot be indexed.") : ""));
    $("cited").hidden = false;
  }
  const missing = citation.verified ? "" : make("small", {}, "Not found in the passage: ");
  $("sources").children[citation.number - 1].append(make("p", { className: citation.verified ? "" : "unverified" }, missing, make("q", {}, citation.quote)));
}

function addPiece({ text, claims, cited }) {
  $("mode").children[0].textContent = "Writing…";
  const from = cited.map((position) => shown.citations[position]);
  let at = 0;
  for (const claim of claims) {
    const start = text.indexOf(claim.text, at);
    if (start < 0) continue;  // marks stand inside of it; it is shown, without a frame of its own
    $("text").append(...withMarks(text.slice(at, start), from));
    const end = start + claim.text.length;
    const marks = text.slice(end).match(/^(?:\s*\[(?:\d[\d,\s]*|\?)\])*[.!?]?/)[0].length;
    const className = claim.verified ? "claim" : "claim unverified";
    $("text").append(make("span", { className }, ...withMarks(text.slice(start, end + marks), from)));
    at = end + marks;
  }
  $("text").append(...withMarks(text.slice(at), from));
  shown.text += text.replace(MARKS, (mark, inside) => (inside === "?" ? mark : `[${numbers(inside).map(number).join(", ")}]`));
}

const numbers = (inside) => inside.split(",").map(Number);
const number = (n) => shown.numbers.get(n) ?? n;

function withMarks(text, from) {
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(MARKS)) {
    const before = text.slice(at, match.index);
    parts.push(before.replace(/[ \t]+$/, "\u2009"));
    if (match[1] === "?") parts.push(make("span", { className: "unsure", role: "img", ariaLabel: "not verified", title: "No quote supports this claim" }, "?"));
    else for (const n of numbers(match[1])) parts.push(mark(n, before, from));
    at = match.index + match[0].length;
  }
  return [...parts, text.slice(at)];
}

function mark(n, before, from) {
  const citation = nearest(from.filter((one) => one?.n === n), before) ?? shown.citations.find((one) => one.n === n);
  if (!citation) return `[${n}]`;
  const label = `Passage ${citation.number}: ${citation.title}`;
  const className = citation.verified ? "mark" : "mark unverified";
  return make("a", { className, href: citation.path, target: "_blank", ariaLabel: label, citation }, String(citation.number));
}

// Of several quotes from one passage, the one that shares the most words with what it supports.
function nearest(citations, text) {
  const words = new Set(text.toLowerCase().match(/[\p{L}\p{N}]+/gu));
  const shared = ({ quote }) => (quote.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).filter((word) => words.has(word)).length;
  return citations.reduce((best, one) => (best && shared(best) >= shared(one) ? best : one), undefined);
}

function end(answer) {
  shown.id = answer.id;
  const seconds = answer.seconds.total === undefined ? "" : `${answer.seconds.total.toFixed(answer.seconds.total < 1 ? 2 : 1)} s`;
  $("mode").className = answer.mode;
  $("mode").children[0].textContent = MODES[answer.mode];
  $("mode").children[1].textContent = [answer.cached && "from the cache", seconds, answer.collection].filter(Boolean).join(" · ");
  $("notes").replaceChildren(...answer.notes.map((note) => make("li", {}, note)));
  $("notes").hidden = !answer.notes.length;
  $("after").hidden = false;
  refreshState();
}

function fail(error, again) {
  if (error.status === 401) {
    $("key").hidden = false;
    $("key").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem("key", $("secret").value.trim());
      $("secret").value = "";
      $("key").hidden = true;
      again();
    };
    $("secret").focus();
    if (!sessionStorage.getItem("key")) return;
  }
  $("error").firstElementChild.textContent = error.message;
  $("error").lastElementChild.onclick = again;
  $("error").hidden = false;
}

// Passages

function openPassage(link) {
  const { citation } = link;
  openedFrom = link;
  document.querySelectorAll("[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
  link.ariaCurrent = "true";
  $("opened").textContent = `${citation.number} · ${citation.key}`;
  $("apart").href = citation.path;
  // A frame of its own each time: passages then leave no trace in the history.
  const frame = make("iframe", { id: "frame", title: "The passage in its context", src: `${citation.path}#${citation.span ? "quote" : "passage"}` });
  frame.addEventListener("load", () => frame.contentDocument?.addEventListener("keydown", keys));
  $("frame").replaceWith(frame);
  $("pane").hidden = false;
  document.body.classList.add("split");
  hideTip();
  $("opened").focus({ preventScroll: true });
}

function closePane(focus = true) {
  if ($("pane").hidden) return;
  $("pane").hidden = true;
  document.body.classList.remove("split");
  openedFrom?.removeAttribute("aria-current");
  if (focus) openedFrom?.focus({ preventScroll: true });
}

function showTip(link) {
  const { citation } = link;
  const quote = citation.verified ? `“${citation.quote}”` : `Not found in the passage: “${citation.quote}”`;
  $("tip").replaceChildren(make("strong", {}, citation.title), quote);
  $("tip").hidden = false;
  link.setAttribute("aria-describedby", "tip");
  const place = link.getBoundingClientRect(), tip = $("tip").getBoundingClientRect();
  const left = Math.max(8, Math.min(place.left - 16, innerWidth - tip.width - 8));
  const below = place.bottom + 8 + tip.height < innerHeight;
  $("tip").style.left = `${left}px`;
  $("tip").style.top = `${below ? place.bottom + 8 : Math.max(8, place.top - 8 - tip.height)}px`;
}

function hideTip() {
  $("tip").hidden = true;
  document.querySelector("[aria-describedby=tip]")?.removeAttribute("aria-describedby");
}

// The state of the index, and the pipelines

async function refreshState() {
  const pipeline = $("pipeline").value;
  try {
    showState(await (await call(`state${pipeline ? `?pipeline=${encodeURIComponent(pipeline)}` : ""}`)).json());
  } catch (error) {
    if (error.status === 401 && $("answer").hidden) fail(error, start);
    $("state").textContent = error.status === 401 || error.status === 403 ? "" : error.message;
  }
}

function showState(state) {
  const age = state.age_seconds === null ? "not synced yet" : `synced ${ago(state.age_seconds)} ago`;
  const parts = [
    make("span", { className: "generation", title: "The generation that answers" }, state.generation),
    make("span", { className: state.age_seconds > LATE_SECONDS ? "late" : "", title: state.synced_at ?? "" }, age),
    state.lag_seconds ? make("span", { className: state.lag_seconds > LATE_SECONDS ? "late" : "", title: "Changes of the bucket that do not answer yet" }, `${ago(state.lag_seconds)} behind`) : "",
    state.objects === null ? "" : make("span", {}, `${state.objects.toLocaleString("en")} object${state.objects === 1 ? "" : "s"}`),
    state.quarantined ? make("span", { className: "late", title: "Objects that cannot be indexed. `lockstep quarantine` lists them with the reasons." }, `${state.quarantined} quarantined`) : "",
    state.canary ? make("span", {}, `${state.canary.generation} answers ${state.canary.share}%`) : "",
    state.notes.length ? make("span", { className: "late", title: state.notes.join("\n") }, "not all is known") : "",
  ];
  $("state").replaceChildren(...parts.filter(Boolean));
}

function ago(seconds) {
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([one]) => seconds >= one) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

async function listPipelines() {
  const models = await (await call("v1/models")).json();
  const names = models.data.map((model) => model.id).filter((id) => !id.includes(":"));
  showPipelines(names);
}

// The one that the address names is offered in any case: the service knows whether it is there.
function showPipelines(names) {
  const wanted = new URLSearchParams(location.search).get("pipeline") ?? "";
  const all = new Set([...names, ...(wanted ? [wanted] : [])]);
  const options = [...all].map((name) => make("option", { value: name, textContent: name }));
  $("pipeline").replaceChildren(make("option", { value: "", textContent: "default" }), ...options);
  $("pipeline").value = wanted;
  $("pipeline").hidden = all.size < 2 && !wanted;
}

// What people do

async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // browsers have a clipboard for pages on https and on this machine only
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  $("done").textContent = said;
}

function withSources() {
  const first = [...shown.numbers.keys()].map((n) => shown.citations.find((one) => one.n === n));
  const lines = first.map((one) => `${one.number}. ${one.title}: “${one.quote}”\n   ${one.url}`);
  return [shown.text.trim(), ...(lines.length ? [`Sources:\n${lines.join("\n")}`] : [])].join("\n\n");
}

async function judge(verdict, reason = "") {
  const { id, pipeline } = shown;
  $("done").textContent = "";
  try {
    await call("feedback", { id, pipeline, verdict, reason });
    $("done").textContent = reason ? "Thank you, noted." : "Noted.";
  } catch (error) {
    $("done").textContent = error.message;
  }
}

function keys(event) {
  const typing = event.target.closest?.("input, textarea, select");
  if (event.key === "Escape") {
    if (!$("pane").hidden) closePane();
    else if ($("tip").hidden) asking?.abort();
    hideTip();
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    $("q").focus();
    $("q").select();
  }
  if (/^[1-9]$/.test(event.key)) {
    const source = $("sources").children[event.key - 1]?.querySelector("a");
    if (source) openPassage(source);
  }
}

document.addEventListener("keydown", keys);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link?.citation?.path && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    openPassage(link);
  }
});
for (const name of ["mouseover", "focusin"]) document.addEventListener(name, ({ target }) => target.citation && target.closest("#text") && showTip(target));
for (const name of ["mouseout", "focusout"]) document.addEventListener(name, ({ target }) => target.citation && hideTip());
document.addEventListener("scroll", hideTip, { passive: true, capture: true });
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("text").ariaBusy === "true" && $("q").value.trim() === shown.question) asking.abort();
  else if ($("q").value.trim()) ask($("q").value.trim());
});
$("q").addEventListener("input", nameQuestion);
$("q").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
for (const verdict of ["up", "down"]) $(verdict).addEventListener("click", () => {
  for (const one of ["up", "down"]) $(one).ariaPressed = String(one === verdict);
  $("why").hidden = false;
  $("reason").value = "";
  $("reason").focus();
  judge(verdict);
});
$("why").addEventListener("submit", (event) => {
  event.preventDefault();
  $("why").hidden = true;
  judge($("up").ariaPressed === "true" ? "up" : "down", $("reason").value.trim());
});
$("copy").addEventListener("click", () => copy(withSources(), "Copied."));
$("link").addEventListener("click", () => copy(new URL(permalink(), document.baseURI).href, "Link copied."));
$("close").addEventListener("click", () => closePane());
$("pipeline").addEventListener("change", refreshState);
addEventListener("popstate", () => location.search ? fromAddress() : location.reload());
setInterval(() => document.hidden || refreshState(), STATE_MS);

function fromAddress() {
  const question = new URLSearchParams(location.search).get("q")?.trim();
  if (!question) return;
  $("q").value = question;
  const led = "ledHere" in document.body.dataset;
  delete document.body.dataset.ledHere;
  if (!led) return ask(question, false);
  $("led").hidden = false;
  $("q").focus();
}

async function start() {
  showPipelines([]);
  await listPipelines().catch(() => {});  // whoever needs a key is asked for it by the next call
  refreshState();
  fromAddress();
}

start();
