// Everything that comes from outside is put on the page as text, never as markup.
const $ = (id) => document.getElementById(id);
const stage = $("stage");
const sides = ["test", "train"];
const images = { test: $("test"), train: $("train") };
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const AHEAD = 3;
const LABEL_KEYS = { s: "same", 1: "same", n: "near", 2: "near", d: "different", 3: "different", u: "unsure", 4: "unsure" };
const BANDS = {
  plan: ["Drawn by calibrate", ""],
  all: ["All bands in turn", ""],
  above: ["Just above", "removed"],
  below: ["Just below", "kept"],
  rejected: ["Rejected", "kept"],
  low: ["Further below", "kept"],
  high: ["Far above", "removed"],
};
const PLACES = {
  above: "just above the threshold",
  below: "just below the threshold",
  rejected: "rejected by the second stage",
  low: "further below the threshold",
  high: "far above the threshold",
};

let state = null;
let band = "all";
let place = null; // in the order of the band
let total = 0;
let pair = null;
let busy = false;
let loaded = new Set();
let mode = "side";
let timer = 0;
let view = { zoom: 1, x: 0, y: 0 };
let matched = true;
let crisp = null; // null: as the size of the images asks
const known = new Map(); // details by pair, and pictures that are on their way
let turn = 0; // answers to older questions are dropped
let looking = false; // ahead

history.replaceState(null, "", location.pathname); // the token has done its work

// --- talking to the server ----------------------------------------------------------------------

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, { ...options, credentials: "same-origin" });
  } catch {
    throw new Error("The server does not answer. Start `curate review` again and open the address it prints; what was labelled is kept.");
  }
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

async function guarded(work) {
  try {
    $("alarm").textContent = "";
    return await work();
  } catch (error) {
    $("alarm").textContent = error.message;
    return undefined;
  }
}

function details(number) {
  if (!known.has(number)) {
    known.set(number, ask(`api/pair/${number}`));
    known.get(number).catch(() => known.delete(number));
    if (known.size > 64) known.delete(known.keys().next().value);
  }
  return known.get(number);
}

function source(number, side, size = "view") {
  const as = matched && side === "test" ? "matched" : "stored";
  return `image/${number}/${side}?size=${size}&as=${as}`;
}

// One request at a time: a shard that is slow to open must not keep the pair that is shown waiting.
async function look_ahead() {
  if (looking) return;
  looking = true;
  try {
    for (let mine = null; mine !== turn && place !== null && place + 1 < total; ) {
      mine = turn;
      const { pairs } = await ask(`api/pairs?band=${band}&offset=${place + 1}&limit=${AHEAD}`);
      for (const { pair: number } of pairs) {
        for (const side of sides) if (mine === turn) await load(source(number, side));
        if (mine === turn) await details(number);
      }
    }
  } finally {
    looking = false;
  }
}

function load(address) {
  const image = new Image();
  image.src = address;
  return image.decode().catch(() => {});
}

// --- which pair ---------------------------------------------------------------------------------

async function show(at) {
  const mine = ++turn;
  if (at === null) {
    place = null;
    return finish();
  }
  const page = await ask(`api/pairs?band=${band}&offset=${at}&limit=1`);
  if (mine !== turn) return;
  place = at;
  total = page.total;
  pair = page.pairs[0] ?? null;
  if (!pair) return finish();
  reset_view();
  draw_pair();
  draw_images();
  document.body.dataset.pair = pair.pair;
  const { about } = await details(pair.pair);
  if (mine !== turn) return;
  draw_about(about);
  look_ahead().catch(() => {});
}

function finish() {
  pair = null;
  delete document.body.dataset.pair;
  $("score").textContent = total ? "Every pair here is judged" : "There are no pairs here";
  $("chips").replaceChildren();
  $("gauge").hidden = true;
  $("place").textContent = "";
  for (const side of sides) {
    images[side].removeAttribute("src");
    $(`about-${side}`).replaceChildren();
    images[side].nextElementSibling.hidden = true;
  }
  stage.classList.remove("waiting");
  enable();
}

async function first_open() {
  const { place: at } = await ask(`api/next?band=${band}&from=0`);
  if (at === null) total = band === "plan" ? state.plan.pairs : state.pairs;
  await show(at);
}

async function choose(name) {
  band = name;
  draw_bands();
  await first_open();
}

async function step(by) {
  if (place === null) {
    if (by < 0 && total) await show(total - 1);
    return;
  }
  const at = place + by;
  if (at >= 0 && at < total) await show(at);
}

async function label(word) {
  if (busy || !pair || !is_ready()) return;
  busy = true;
  enable();
  try {
    const answer = await ask("api/labels", { pair: pair.pair, label: word, band, from: place + 1 });
    state = answer.state;
    known.delete(pair.pair);
    draw_state();
    tell(kept(answer.pair));
    await show(answer.next);
  } finally {
    busy = false;
    enable();
  }
}

function kept(said) {
  const others = Object.entries(said.others).map(([name, word]) => `${name} says ${word}`);
  return [`Kept: ${said.mine}.`, ...others.map((text) => `${text}.`)].join(" ");
}

async function undo() {
  if (busy) return;
  busy = true;
  try {
    const answer = await ask("api/undo", { band });
    state = answer.state;
    draw_state();
    if (!answer.pair) {
      tell("There is nothing to undo.");
      return;
    }
    tell("The last label is taken back.");
    known.delete(answer.pair.pair);
    if (answer.place === null) {
      band = "all";
      draw_bands();
    }
    await show(answer.place ?? answer.place_in_all);
  } finally {
    busy = false;
    enable();
  }
}

// --- drawing ------------------------------------------------------------------------------------

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function tell(text) {
  $("status").textContent = text;
}

function is_ready() {
  return sides.every((side) => loaded.has(side));
}

function enable() {
  const ready = Boolean(pair) && is_ready() && !busy;
  for (const button of $("verdicts").querySelectorAll("button")) {
    button.setAttribute("aria-disabled", String(!ready));
    button.setAttribute("aria-pressed", String(Boolean(pair) && pair.mine === button.dataset.label));
  }
  $("undo").disabled = !state?.can_undo;
  $("previous").disabled = place === null ? !total : place <= 0;
  $("next").disabled = place === null || place + 1 >= total;
  document.body.dataset.ready = ready ? "yes" : "no";
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function interval(part) {
  return `${Math.round(100 * part.low)}–${Math.round(100 * part.high)}`;
}

function count(number) {
  return number.toLocaleString("en");
}

function score_text(value) {
  for (let digits = 4; digits < 9; digits += 1) {
    const text = value.toFixed(digits);
    if ((Number(text) >= state.threshold) === (value >= state.threshold)) return text;
  }
  return String(value);
}

function draw_state() {
  $("test-name").textContent = state.names.test;
  $("train-name").textContent = state.names.train;
  $("rule").textContent = `threshold ${state.threshold}, floor ${state.floor}`;
  const part = state.removed;
  const big = $("removed");
  big.replaceChildren(part.share === null ? "" : percent(part.share));
  const known_as = part.share === null ? "Not known yet" : `95 % interval ${interval(part)} %`;
  big.append(element("small", known_as));
  $("removed-note").textContent = part.share === null
    ? "Judge some pairs of every band above the threshold."
    : `From ${count(part.judged)} judged images, the bands weighted by their size.`;
  draw_bands();
  draw_reviewers();
}

function draw_bands() {
  const focused = document.activeElement?.dataset?.band;
  const drawn = state.plan ? [{ name: "plan", why: "what a threshold rests on", ...state.plan }] : [];
  const all = { name: "all", why: "biggest doubts most", mine: state.mine, pairs: state.pairs };
  const rows = [...drawn, all, ...state.bands.filter((row) => row.pairs)];
  $("bands").replaceChildren(...rows.map(band_button));
  if (focused) $("bands").querySelector(`[data-band="${focused}"]`)?.focus();
}

function band_button(row) {
  const button = element("button");
  button.type = "button";
  button.dataset.band = row.name;
  button.setAttribute("aria-pressed", String(row.name === band));
  const [name, fate] = BANDS[row.name];
  button.append(element("span", name, "name"));
  if (!row.precision) {
    button.append(element("span", "", "share"), element("span", row.why, "range"));
    button.append(element("span", `${count(row.mine)} of ${count(row.pairs)} by you`, "done"));
    return button;
  }
  const { precision: part } = row;
  const share = element("span", part.share === null ? "–" : percent(part.share), "share");
  if (part.share !== null) share.append(element("small", ` ${interval(part)}`));
  button.append(share);
  button.append(element("span", [range(row), fate].filter(Boolean).join(" · "), "range"));
  button.append(element("span", `${count(part.judged)} of ${count(row.images)} images`, "done"));
  const bar = element("span", undefined, "interval");
  bar.setAttribute("aria-hidden", "true");
  if (part.share !== null) {
    const [span, at] = [element("i", undefined, "span"), element("i", undefined, "at")];
    span.style.insetInlineStart = `${100 * part.low}%`;
    span.style.width = `${100 * (part.high - part.low)}%`;
    at.style.insetInlineStart = `${100 * part.share}%`;
    bar.append(span, at);
  }
  button.append(bar);
  const open = row.open ? `${count(row.open)} left open` : "";
  const skipped = row.skipped ? `${count(row.skipped)} skipped` : "";
  const notes = [open, skipped].filter(Boolean).join(" · ");
  if (notes) button.append(element("span", notes, skipped ? "notes skipped" : "notes"));
  return button;
}

function range(row) {
  if (row.low === null && row.high === null) return "";
  if (row.high === null) return `from ${row.low}`;
  return `${row.low}–${row.high}`;
}

function draw_reviewers() {
  const rows = state.reviewers.map(({ name, labels }) => {
    const row = element("p", undefined, "who");
    const you = name === state.reviewer ? `${name} (you)` : name;
    row.append(element("b", you), element("span", `${count(labels)} labels`));
    return row;
  });
  const { pairs, share, kappa } = state.agreement;
  if (pairs) {
    const words = kappa === null ? "" : `, κ ${(Math.round(100 * kappa) / 100 || 0).toFixed(2)}`;
    rows.push(element("p", `They agree on ${percent(share)} of ${count(pairs)} pairs${words}.`, "note"));
  }
  rows.push(...state.problems.map((text) => element("p", text, "problem")));
  $("reviewers").replaceChildren(...rows);
}

function draw_pair() {
  $("score").textContent = score_text(pair.score);
  $("gauge").hidden = false;
  const low = Math.min(state.floor, pair.score);
  const high = Math.max(1, pair.score);
  const spot = (value) => `${(100 * (value - low)) / (high - low || 1)}%`;
  $("gauge").classList.toggle("over", pair.score >= state.threshold);
  $("gauge").querySelector(".mark").style.left = spot(state.threshold);
  $("gauge").querySelector(".dot").style.left = spot(pair.score);
  $("place").textContent = `${count(place + 1)} of ${count(total)}`;
  draw_chips([]);
  for (const side of sides) $(`about-${side}`).replaceChildren(element("p", side_name(side), "side"));
  enable();
}

function draw_chips(more) {
  const chips = [[PLACES[pair.band]]];
  if (pair.view !== "identity") chips.push([`found by the view ${pair.view}`]);
  if (pair.same === "bytes") chips.push(["same file"]);
  if (pair.same === "pixels") chips.push(["same pixels"]);
  if (!pair.best) chips.push(["not this image's best"]);
  if (pair.cosine !== null) chips.push([`first stage ${pair.cosine.toFixed(4)}`]);
  if (pair.rejected !== null) chips.push([`rejected: ${pair.rejected}`, "warn"]);
  if (pair.mine) chips.push([`you said ${pair.mine}`, "said"]);
  for (const [name, word] of Object.entries(pair.others)) chips.push([`${name} said ${word}`, "said"]);
  if (pair.judged_by && !pair.mine) chips.push([`judged by ${pair.judged_by}, hidden until you have`]);
  $("chips").replaceChildren(...[...chips, ...more].map(([text, kind]) => element("li", text, kind)));
  const is_turned = pair.view !== "identity";
  $("matched").hidden = !is_turned;
  $("matched").setAttribute("aria-pressed", String(matched));
}

function side_name(side) {
  return side === "test" ? "Test" : "Train";
}

function draw_about(about) {
  const changed = sides.filter((side) => about[side].changed);
  draw_chips(changed.map((side) => [`${side} image changed since it was matched`, "warn"]));
  let largest = 0;
  for (const side of sides) {
    const item = about[side];
    const line = element("p", undefined, "side");
    line.append(element("b", side_name(side)));
    if (item.width) line.append(` ${item.width} × ${item.height}`);
    const box = $(`about-${side}`);
    box.replaceChildren(line);
    if (item.label !== null && item.label !== undefined) box.append(element("p", item.label, "label"));
    if (item.caption) box.append(element("p", item.caption, "caption"));
    box.append(element("p", pair[`${side}_id`], "id"));
    images[side].alt = item.caption || item.label || `${side_name(side)} image`;
    largest = Math.max(largest, item.width ?? 0, item.height ?? 0);
    if (item.problem) missing(side, item.problem);
  }
  pair.largest = largest;
  if (about.test.width) stage.style.setProperty("--shape", shape(about.test));
  draw_crisp();
}

function shape(item) {
  const turned = matched && /rot(90|270)/.test(pair.view);
  return turned ? item.height / item.width : item.width / item.height;
}

function draw_images(size = "view") {
  loaded = new Set();
  stage.classList.add("waiting");
  for (const side of sides) {
    images[side].nextElementSibling.hidden = true;
    images[side].src = source(pair.pair, side, size);
  }
  enable();
}

function arrived(side) {
  loaded.add(side);
  if (is_ready()) stage.classList.remove("waiting");
  enable();
}

function missing(side, why) {
  const note = images[side].nextElementSibling;
  note.textContent = why;
  note.hidden = false;
}

for (const side of sides) {
  images[side].addEventListener("load", () => {
    if (images[side].complete) arrived(side); // and not one before it, whose news comes late
  });
  images[side].addEventListener("error", () => {
    if (!pair) return;
    missing(side, "no image");
    arrived(side);
  });
}

// --- how the pair is shown ----------------------------------------------------------------------

function press(button, is_pressed) {
  button.setAttribute("aria-pressed", String(is_pressed));
}

function set_mode(name) {
  mode = name;
  stage.dataset.mode = name;
  stage.classList.remove("other");
  for (const button of $("modes").children) press(button, button.dataset.mode === name);
  for (const extra of document.querySelectorAll(".extra")) extra.hidden = extra.dataset.for !== name;
  set_auto(name === "flicker" && !calm.matches);
}

function flip() {
  if (mode !== "flicker") return;
  stage.classList.toggle("other");
}

function set_auto(is_on) {
  clearInterval(timer);
  timer = 0;
  press($("auto"), is_on);
  if (is_on) timer = setInterval(flip, 500 / Number($("speed").value));
}

function set_matched(is_on) {
  matched = is_on;
  if (!pair) return;
  draw_images();
  const mine = turn;
  details(pair.pair).then(({ about }) => mine === turn && draw_about(about)).catch(() => {});
}

function draw_crisp() {
  const is_crisp = crisp ?? (pair?.largest ?? 0) <= 128;
  stage.classList.toggle("crisp", is_crisp);
  press($("crisp"), is_crisp);
}

function reset_view() {
  view = { zoom: 1, x: 0, y: 0 };
  draw_view();
}

function draw_view() {
  const limit = 50 * (view.zoom - 1);
  view.x = Math.min(limit, Math.max(-limit, view.x));
  view.y = Math.min(limit, Math.max(-limit, view.y));
  stage.style.setProperty("--zoom", view.zoom);
  stage.style.setProperty("--x", `${view.x}%`);
  stage.style.setProperty("--y", `${view.y}%`);
  stage.classList.toggle("zoomed", view.zoom > 1);
  $("zoom-level").textContent = `${Math.round(100 * view.zoom)} %`;
}

function zoom(factor) {
  const before = view.zoom;
  view.zoom = Math.min(16, Math.max(1, before * factor));
  view.x *= view.zoom / before;
  view.y *= view.zoom / before;
  draw_view();
  if (before === 1 && view.zoom > 1 && pair?.largest > 1024) draw_images("full");
}

let drag = null;
stage.addEventListener("pointerdown", (event) => {
  if (view.zoom > 1) {
    drag = { x: event.clientX, y: event.clientY, moved: false };
    stage.setPointerCapture(event.pointerId);
  }
});
stage.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const tile = stage.querySelector(".tile").getBoundingClientRect();
  view.x += (100 * (event.clientX - drag.x)) / tile.width;
  view.y += (100 * (event.clientY - drag.y)) / tile.height;
  drag = { x: event.clientX, y: event.clientY, moved: true };
  draw_view();
});
for (const name of ["pointerup", "pointercancel"]) {
  stage.addEventListener(name, () => setTimeout(() => { drag = null; }));
}
stage.addEventListener("click", () => {
  if (!drag?.moved) flip();
});
stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && view.zoom === 1 && !event.altKey) return;
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.25 : 0.8);
}, { passive: false });
stage.addEventListener("dblclick", () => (view.zoom > 1 ? reset_view() : zoom(3)));

// --- buttons and keys ---------------------------------------------------------------------------

$("verdicts").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) guarded(() => label(button.dataset.label));
});
$("bands").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) guarded(() => choose(button.dataset.band));
});
$("modes").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) set_mode(button.dataset.mode);
});
$("previous").addEventListener("click", () => guarded(() => step(-1)));
$("next").addEventListener("click", () => guarded(() => step(1)));
$("undo").addEventListener("click", () => guarded(undo));
$("help-button").addEventListener("click", () => $("help").showModal());
$("matched").addEventListener("click", () => set_matched(!matched));
$("crisp").addEventListener("click", toggle_crisp);
$("zoom-in").addEventListener("click", () => zoom(1.5));
$("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
$("auto").addEventListener("click", () => set_auto(!timer));
$("speed").addEventListener("input", () => {
  $("speed-level").textContent = `${Number($("speed").value).toFixed(1)} Hz`;
  if (timer) set_auto(true);
});
$("blend").addEventListener("input", () => stage.style.setProperty("--blend", $("blend").value / 100));
$("amplify").addEventListener("input", () => {
  $("amplify-level").textContent = `${$("amplify").value} ×`;
  stage.style.setProperty("--amplify", $("amplify").value);
});

function toggle_crisp() {
  crisp = !stage.classList.contains("crisp");
  draw_crisp();
}

const keys = {
  z: () => guarded(undo),
  backspace: () => guarded(undo),
  arrowleft: () => guarded(() => step(-1)),
  arrowright: () => guarded(() => step(1)),
  v: () => set_mode("side"),
  f: () => set_mode("flicker"),
  b: () => set_mode("blend"),
  x: () => set_mode("difference"),
  a: () => mode === "flicker" && set_auto(!timer),
  " ": flip,
  m: () => !$("matched").hidden && set_matched(!matched),
  p: toggle_crisp,
  "+": () => zoom(1.5),
  "=": () => zoom(1.5),
  "-": () => zoom(1 / 1.5),
  0: reset_view,
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || $("help").open) return;
  const name = event.key.toLowerCase();
  const is_slider = event.target instanceof HTMLInputElement;
  if (is_slider && name.startsWith("arrow")) return;
  if (name === " " && event.target instanceof HTMLButtonElement && mode !== "flicker") return;
  if (name in LABEL_KEYS) guarded(() => label(LABEL_KEYS[name]));
  else if (name in keys) keys[name]();
  else return;
  event.preventDefault();
});
calm.addEventListener("change", () => calm.matches && set_auto(false));

guarded(async () => {
  state = await ask("api/state");
  document.title = `${state.names.test} against ${state.names.train} · curate review`;
  if (state.plan && state.plan.mine < state.plan.pairs) band = "plan";
  draw_state();
  await first_open();
});
