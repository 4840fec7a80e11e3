// Keys, finding, labels. The pages work without it, but for labels.
"use strict";

const root = document.documentElement;
const saved = localStorage.getItem("srft-theme");
if (saved) root.dataset.theme = saved; // before the page is drawn

document.addEventListener("DOMContentLoaded", () => {
  const main = document.querySelector("main");
  const isTable = main.dataset.page === "table";
  const steps = () => [...document.querySelectorAll(isTable ? "tbody tr:not([hidden])" : ".step, .sides[id], .step-mark")];
  const find = document.getElementById("find");
  const token = document.querySelector('meta[name="srft-token"]')?.content;
  let current = -1;

  function notice(text) {
    const place = document.getElementById("notice");
    place.textContent = text;
    place.hidden = false;
    clearTimeout(notice.timer);
    notice.timer = setTimeout(() => (place.hidden = true), 4000);
  }

  function toggleTheme() {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("srft-theme", root.dataset.theme);
  }

  // ---- steps ----

  const cellOf = (step) => (step?.id ? document.querySelector(`.cell[href="#${CSS.escape(step.id)}"]`) : null);

  function mark(number) {
    const all = steps();
    document.querySelector(".current")?.classList.remove("current");
    document.querySelector(".cell.here")?.classList.remove("here");
    current = number;
    all[current]?.classList.add("current");
    const cell = cellOf(all[current]);
    cell?.classList.add("here");
    const map = cell?.parentElement;
    if (map && map.scrollHeight > map.clientHeight) map.scrollTop = cell.offsetTop - map.clientHeight / 2;
  }

  function goTo(number) {
    const all = steps();
    if (!all.length) return;
    mark(Math.max(0, Math.min(all.length - 1, number)));
    const step = all[current];
    (isTable ? step.querySelector("a") : step)?.focus({ preventScroll: true }); // Enter then opens the row
    step.scrollIntoView({ block: isTable ? "nearest" : "start" });
    if (step.id) history.replaceState(null, "", `#${step.id}`);
  }

  function fromAddress() {
    const number = steps().findIndex((step) => step.id && `#${step.id}` === location.hash);
    if (number >= 0) mark(number);
  }

  function openFolds() {
    const folds = [...(steps()[current] ?? main).querySelectorAll("details")];
    const open = folds.some((fold) => !fold.open);
    for (const fold of folds) fold.open = open;
  }

  // ---- finding: in the texts alone, every place where the words stand ----

  let hits = [];
  let hit = -1;

  /** The text nodes of one text, as one string: colours split a word into several nodes. */
  function pieces(block) {
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    const nodes = [];
    let text = "";
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.parentElement.closest("button, summary, .step-mark")) continue;
      nodes.push({ node, begin: text.length });
      text += node.data;
    }
    const low = text.toLowerCase();
    return { nodes, text: low.length === text.length ? low : text };
  }

  function ranges(block, words) {
    const { nodes, text } = pieces(block);
    const found = [];
    const at = (offset) => {
      let number = nodes.findIndex((one) => one.begin > offset) - 1;
      if (number < 0) number = nodes.length - 1;
      return [nodes[number].node, offset - nodes[number].begin];
    };
    for (let begin = text.indexOf(words); begin >= 0; begin = text.indexOf(words, begin + words.length)) {
      const range = new Range();
      range.setStart(...at(begin));
      const [node, offset] = at(begin + words.length - 1);
      range.setEnd(node, offset + 1);
      found.push(range);
    }
    return found;
  }

  function search() {
    const words = find.value.toLowerCase();
    hit = -1;
    if (isTable) {
      for (const row of document.querySelectorAll("tbody tr")) row.hidden = Boolean(words) && !row.textContent.toLowerCase().includes(words);
      return tell(words, steps().length);
    }
    hits = words ? [...main.querySelectorAll(".findable")].flatMap((block) => ranges(block, words)) : [];
    if (window.Highlight) {
      CSS.highlights.set("find", new Highlight(...hits));
      CSS.highlights.delete("found");
    }
    tell(words, hits.length);
  }

  function tell(words, count) {
    const place = document.getElementById("hits");
    if (place) place.textContent = words ? (hit < 0 ? `${count} ${count === 1 ? "hit" : "hits"}` : `${hit + 1} of ${count}`) : "";
  }

  function nextHit(by) {
    if (!hits.length) return;
    hit = hit < 0 ? (by > 0 ? 0 : hits.length - 1) : (hit + by + hits.length) % hits.length;
    const range = hits[hit];
    const place = range.startContainer.parentElement;
    for (let fold = place.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    const step = place.closest(".step, .sides[id]");
    if (step) mark(steps().indexOf(step));
    if (window.Highlight) CSS.highlights.set("found", new Highlight(range));
    const top = range.getBoundingClientRect().top;
    scrollBy({ top: top - innerHeight / 3 });
    tell(find.value, hits.length);
  }

  // ---- copying ----

  async function copy(button) {
    const block = button.closest(".text, .copied")?.cloneNode(true) ?? button.previousElementSibling.cloneNode(true);
    for (const furniture of block.querySelectorAll("button, summary, .more")) furniture.remove();
    const parts = block.querySelectorAll("pre:not(.md pre), .md, .diff > div");
    const text = parts.length ? [...parts].map((part) => part.textContent.replace(/\n$/, "")).join("\n") : block.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea"); // where the page is not from this machine
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }

  // ---- labelling: only while it is switched on ----

  const bar = document.getElementById("labelling");
  const isLabelling = () => Boolean(bar && !bar.hidden);

  function setLabelling(on) {
    bar.hidden = !on;
    document.body.classList.toggle("is-labelling", on);
    for (const button of document.querySelectorAll("[data-do=labelling][aria-pressed]")) button.setAttribute("aria-pressed", String(on));
    if (on) sessionStorage.setItem("srft-labelling", "on");
    else sessionStorage.removeItem("srft-labelling");
    refreshBar();
  }

  const off = () => notice("Labelling is off: switch it on with the button Label, or Shift+L.");

  const kinds = {
    mistake: (step) => step.dataset.code === "m",
    disagreement: (step) => "disagreed" in step.dataset,
    unlabelled: (step) => step.dataset.own === "",
  };

  function refreshBar() {
    for (const [kind, is] of Object.entries(kinds)) bar.querySelector(`[data-count=${kind}]`).textContent = steps().filter(is).length;
    const agreed = document.getElementById("said")?.dataset.agreed;
    document.getElementById("agreed").textContent = agreed ? `Agreement in this run: ${agreed}` : "";
    document.getElementById("undo-count").textContent = done().length || "";
  }

  let kind = sessionStorage.getItem("srft-queue") ?? "unlabelled";

  /** The next step of a kind: in this run, else in the runs that follow in the table, else from its beginning. */
  function nextOf(wanted) {
    kind = wanted;
    sessionStorage.setItem("srft-queue", kind);
    const here = steps().findIndex((step, number) => number > current && kinds[kind](step));
    if (here >= 0) return goTo(here);
    sent = sent.then(() => elsewhere(kind)).catch((error) => notice(`${error}`));
  }

  async function elsewhere(wanted) {
    const { place, run } = main.dataset;
    const asked = new URLSearchParams(location.search);
    asked.set("kind", wanted);
    asked.set("after", Math.max(current, -1));
    const answer = await fetch(`/next/${encodeURIComponent(place)}/${encodeURIComponent(run)}?${asked}`);
    const found = answer.ok ? await answer.json() : {};
    if (!found.href) return notice(`No ${wanted === "unlabelled" ? "unlabelled step" : wanted} in these runs.`);
    if (found.run !== run) return (location.href = found.href);
    if (found.step === current) return notice(`This is the only ${wanted === "unlabelled" ? "unlabelled step" : wanted}.`);
    notice("From the beginning again.");
    goTo(found.step);
  }

  let sent = Promise.resolve();
  const done = () => JSON.parse(sessionStorage.getItem("srft-done") ?? "[]");
  const keep = (words) => sessionStorage.setItem("srft-done", JSON.stringify(words.slice(-100)));

  /** Words reach the server in the order they were given: a second verdict on a step must not overtake the first. */
  function send(where, word) {
    sent = sent.then(() => post(where, word)).catch((error) => notice(`${error}`));
    return sent;
  }

  async function post(where, word) {
    const { arm, critic } = main.dataset;
    const answer = await fetch("/labels", {
      method: "POST",
      headers: { "content-type": "application/json", "x-srft-token": token },
      body: JSON.stringify({ ...where, arm, critic, ...word }),
    }).catch(() => null);
    if (!answer) return notice("Not saved: the viewer does not answer.");
    const told = await answer.text();
    if (!answer.ok) return notice(`Not saved: ${answer.headers.get("content-type")?.includes("json") ? JSON.parse(told).error : told}`);
    if (where.run === main.dataset.run && where.place === main.dataset.place) show(where.step, JSON.parse(told), word.reason);
  }

  /** What the answer changes, and no more: its reader may be on another step by now, or in the middle of a comment. */
  function show(number, changed, reason) {
    const at = steps().findIndex((step) => step.id === `step-${number}`);
    const step = steps()[at];
    const fresh = fragment(changed.step);
    for (const part of [".step-head", ".picks"]) {
      const old = step.querySelector(part);
      const held = old.contains(document.activeElement) ? [...old.querySelectorAll("a, button")].indexOf(document.activeElement) : -1;
      const put = fresh.querySelector(part);
      old.replaceWith(put);
      if (held >= 0) put.querySelectorAll("a, button")[held]?.focus({ preventScroll: true });
    }
    step.className = fresh.className;
    for (const name of ["code", "own"]) step.dataset[name] = fresh.dataset[name];
    step.toggleAttribute("data-disagreed", fresh.hasAttribute("data-disagreed"));
    step.querySelector(".given")?.remove();
    const given = fresh.querySelector(".given");
    if (given) step.querySelector(".picks").after(given);
    const form = step.querySelector(".comment-form");
    if (form.querySelector("textarea").value === reason) form.hidden = true; // saved as it stands
    form.querySelector("textarea").defaultValue = fresh.querySelector("textarea").defaultValue;
    document.getElementById("said").replaceWith(fragment(changed.said));
    const cell = cellOf(step);
    cell.className = cell.className.replace(/\bf-\w/, `f-${step.dataset.code}`);
    cell.textContent = changed.code === "-" ? "·" : changed.code;
    if (current === at) mark(at);
    refreshBar();
  }

  function fragment(html) {
    const template = document.createElement("template");
    template.innerHTML = html; // rendered by our own templates, which escape
    return template.content.firstElementChild;
  }

  const whereOf = (step) => ({ place: main.dataset.place, run: main.dataset.run, step: Number(step.id.slice("step-".length)) });

  function label(word) {
    if (!isLabelling()) return off();
    if (current < 0) return goTo(0);
    const step = steps()[current];
    keep([...done(), { ...whereOf(step), verdict: step.dataset.own }]);
    step.dataset.own = word.verdict ?? "";
    send(whereOf(step), word);
    refreshBar();
    if (document.getElementById("go-on").checked) nextOf(kind);
  }

  function undo() {
    if (!isLabelling()) return off();
    const words = done();
    const last = words.pop();
    if (!last) return notice("Nothing to undo.");
    keep(words);
    const { verdict, reason, ...where } = last;
    const before = reason === undefined ? (verdict ? { verdict } : { take_back: true }) : { reason };
    const posted = send(where, before);
    if (where.run === main.dataset.run && where.place === main.dataset.place) {
      goTo(steps().findIndex((step) => step.id === `step-${where.step}`));
      const box = steps()[current].querySelector("textarea");
      if (reason !== undefined) box.value = reason;
    } else {
      posted.then(() => (location.href = `/run/${encodeURIComponent(where.place)}/${encodeURIComponent(where.run)}${location.search}#step-${where.step}`));
    }
    refreshBar();
  }

  function comment() {
    if (!isLabelling()) return off();
    if (current < 0) goTo(0);
    const form = steps()[current]?.querySelector(".comment-form");
    if (!form) return;
    form.hidden = !form.hidden;
    if (!form.hidden) form.querySelector("textarea").focus();
  }

  function save(form) {
    const step = form.closest(".step");
    const box = form.querySelector("textarea");
    keep([...done(), { ...whereOf(step), reason: box.defaultValue }]);
    send(whereOf(step), { reason: box.value });
  }

  // ---- what happens ----

  const help = document.getElementById("keys");
  const follow = (rel) => sent.then(() => document.querySelector(`a[rel="${rel}"]`)?.click()); // words first
  const onRun = (act) => () => bar && token && act();
  const keys = {
    j: () => goTo(current + 1),
    k: () => goTo(current - 1),
    n: () => follow("next"),
    p: () => follow("prev"),
    o: openFolds,
    t: toggleTheme,
    L: onRun(() => setLabelling(!isLabelling())),
    M: onRun(() => nextOf("mistake")),
    D: onRun(() => nextOf("disagreement")),
    U: onRun(() => nextOf("unlabelled")),
    "/": () => (find?.focus(), find?.select()),
    "?": () => help.showModal(),
  };
  const labels = { x: () => label({ take_back: true }), c: comment, z: undo };
  for (const verdict of ["good", "unnecessary", "mistake", "recover"]) labels[verdict[0]] = () => label({ verdict });

  function press(event) {
    const known = [keys, bar ? labels : {}].find((some) => Object.hasOwn(some, event.key));
    if (!known) return;
    event.preventDefault();
    known[event.key]();
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape" && typing) {
      const form = event.target.closest(".comment-form");
      if (form) form.hidden = true;
      event.target.blur();
    } else if (event.key === "Enter" && event.target.tagName === "TEXTAREA" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      save(event.target.form);
    } else if (event.key === "Enter" && event.target === find && !isTable) {
      nextHit(event.shiftKey ? -1 : 1);
    } else if (event.key === "Enter" && event.target.matches(".sides[id]")) {
      event.target.querySelector("a.number")?.click();
    } else if (event.key === "Enter" && event.target.matches(".step")) {
      openFolds();
    } else if (!typing && !help.open && !event.ctrlKey && !event.metaKey && !event.altKey) press(event);
  });

  document.addEventListener("click", (event) => {
    const step = event.target.closest(".step");
    if (step) mark(steps().indexOf(step));
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.next) return nextOf(button.dataset.next);
    if (button.dataset.verdict) return label({ verdict: button.dataset.verdict });
    const acts = { theme: toggleTheme, help: keys["?"], comment, "take-back": labels.x, labelling: keys.L, undo, copy: () => copy(button) };
    acts[button.dataset.do]?.();
  });

  document.addEventListener("submit", (event) => {
    if (!event.target.classList.contains("comment-form")) return;
    event.preventDefault();
    save(event.target);
  });

  document.addEventListener("change", (event) => {
    if (event.target.dataset.do === "goto") location.href = event.target.value;
    else if (event.target.tagName === "SELECT") event.target.form?.requestSubmit();
    else if (event.target.id === "go-on") sessionStorage.setItem("srft-go-on", event.target.checked ? "on" : "");
  });

  if (find && !find.form) find.addEventListener("input", search);
  const goOn = document.getElementById("go-on");
  if (goOn) goOn.checked = sessionStorage.getItem("srft-go-on") === "on";
  if (bar && token && sessionStorage.getItem("srft-labelling")) setLabelling(true);
  addEventListener("hashchange", fromAddress);
  fromAddress();
});
