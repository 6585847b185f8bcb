"use strict";

// Without this script every pair stands open and nothing else is missing.
const compare = document.getElementById("compare");
const openers = [...document.querySelectorAll("button.open")];
let current = 0;

function page(gallery) {
  const first = Number(gallery.dataset.first);
  const pairs = [...gallery.querySelectorAll(".pair")];
  const paging = gallery.querySelector(".paging");
  const filter = gallery.querySelector(".filter");
  if (!paging) return;
  let sample = "";
  let limit = first;

  function draw() {
    const chosen = pairs.filter((pair) => !sample || pair.dataset.sample === sample);
    for (const pair of pairs) pair.hidden = true;
    for (const pair of chosen.slice(0, limit)) pair.hidden = false;
    const shown = Math.min(limit, chosen.length);
    paging.hidden = chosen.length <= first;
    paging.querySelector("[role=status]").textContent = `${shown} of ${chosen.length} pairs`;
    for (const button of paging.querySelectorAll("button")) button.hidden = shown === chosen.length;
  }

  paging.querySelector(".more").addEventListener("click", () => {
    const next = pairs.filter((pair) => pair.hidden && (!sample || pair.dataset.sample === sample))[0];
    limit += 2 * first;
    draw();
    next?.querySelector("button.open")?.focus({ preventScroll: true });
  });
  paging.querySelector(".rest").addEventListener("click", () => {
    limit = pairs.length;
    draw();
  });
  if (filter) {
    filter.hidden = false;
    filter.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      sample = button.dataset.show;
      limit = first;
      press(filter, button);
      draw();
    });
  }
  draw();
}

function press(group, pressed) {
  for (const button of group.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button === pressed));
  }
}

function visibleOpeners() {
  const gallery = openers[current].closest(".gallery");
  return openers.filter((opener) => gallery.contains(opener) && !opener.closest(".pair").hidden);
}

function show(opener) {
  current = openers.indexOf(opener);
  const pair = opener.closest(".pair");
  const [test, train] = pair.querySelectorAll(".duo img");
  const stage = compare.querySelector(".stage");
  for (const [target, source] of [[stage.querySelector(".a"), test], [stage.querySelector(".b"), train]]) {
    target.src = source.src;
    target.alt = source.alt;
  }
  const mirrored = pair.dataset.view === "mirror";
  stage.classList.toggle("mirrored", mirrored);
  stage.classList.toggle("tiny", Boolean(pair.querySelector(".tiny")));
  stage.classList.remove("other");
  const around = visibleOpeners();
  compare.querySelector(".previous").disabled = opener === around[0];
  compare.querySelector(".next").disabled = opener === around[around.length - 1];
  compare.querySelector("h2").textContent = `${compare.dataset.score} ${pair.querySelector(".score").textContent}`;
  describe();
}

function describe() {
  const stage = compare.querySelector(".stage");
  const mirrored = stage.classList.contains("mirrored") ? " (mirrored, as it matched)" : "";
  const words = {
    side: `Left: test${mirrored}. Right: train.`,
    blink: stage.classList.contains("other")
      ? "Train. Press the picture or the space bar for test."
      : `Test${mirrored}. Press the picture or the space bar for train.`,
    difference: "Black is equal; what lights up differs.",
  };
  compare.querySelector(".state").textContent = words[stage.dataset.mode];
}

function setMode(button) {
  const stage = compare.querySelector(".stage");
  stage.dataset.mode = button.dataset.mode;
  stage.classList.remove("other");
  press(compare.querySelector(".modes"), button);
  describe();
}

function blink() {
  const stage = compare.querySelector(".stage");
  if (stage.dataset.mode !== "blink") return;
  stage.classList.toggle("other");
  describe();
}

function step(by) {
  const around = visibleOpeners();
  const next = around[around.indexOf(openers[current]) + by];
  if (next) show(next);
}

for (const gallery of document.querySelectorAll(".gallery")) page(gallery);

for (const opener of openers) {
  if (opener.closest(".pair").querySelectorAll(".duo img").length !== 2) continue;
  opener.hidden = false;
  opener.addEventListener("click", () => {
    show(opener);
    compare.showModal();
  });
}
openers.splice(0, openers.length, ...openers.filter((opener) => !opener.hidden));

compare.querySelector(".stage").dataset.mode = "side";
compare.querySelector(".modes").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) setMode(button);
});
compare.querySelector(".stage").addEventListener("click", blink);
compare.querySelector(".previous").addEventListener("click", () => step(-1));
compare.querySelector(".next").addEventListener("click", () => step(1));
compare.querySelector(".close").addEventListener("click", () => compare.close());
compare.addEventListener("close", () => openers[current].focus());
compare.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === " " && compare.querySelector(".stage").dataset.mode === "blink") blink();
  else return;
  event.preventDefault();
});

// Paper has no folds.
let folded = [];
window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const fold of folded) fold.open = true;
});
window.addEventListener("afterprint", () => {
  for (const fold of folded) fold.open = false;
});
