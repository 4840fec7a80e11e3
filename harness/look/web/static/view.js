// Keys, search, labels. The pages work without it, but for labels.
"use strict";

const root = document.documentElement;
const saved = localStorage.getItem("srft-theme");
if (saved) root.dataset.theme = saved; // before the page is drawn

document.addEventListener("DOMContentLoaded", () => {
  const main = document.querySelector("main");
  const steps = () => [...document.querySelectorAll(".step, .sides[id], .step-mark")];
  const find = document.getElementById("find");
  const base = document.querySelector('meta[name="srft-base"]')?.content ?? "";
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

  function mark(number) {
    const all = steps();
    all[current]?.classList.remove("current");
    document.querySelector(".cell.here")?.classList.remove("here");
    current = number;
    all[current]?.classList.add("current");
    if (all[current]) document.querySelector(`.cell[href="#${CSS.escape(all[current].id)}"]`)?.classList.add("here");
  }

  function goTo(number) {
    const all = steps();
    if (!all.length) return;
    mark(Math.max(0, Math.min(all.length - 1, number)));
    const step = all[current];
    step.focus({ preventScroll: true });
    step.scrollIntoView({ block: "start" });
    history.replaceState(null, "", `#${step.id}`);
  }

  function fromAddress() {
    const number = steps().findIndex((step) => `#${step.id}` === location.hash);
    if (number >= 0) mark(number);
  }

  function openFolds() {
    const folds = [...(steps()[current] ?? main).querySelectorAll("details")];
    const open = folds.some((fold) => !fold.open);
    for (const fold of folds) fold.open = open;
  }

  // ---- search ----

  let hit = -1;

  function search(forward) {
    const words = find.value.toLowerCase();
    const rows = main.dataset.page === "table" ? [...document.querySelectorAll("tbody tr")] : steps();
    const hits = words ? rows.filter((row) => textOf(row).includes(words)) : [];
    if (main.dataset.page === "table") {
      for (const row of rows) row.hidden = Boolean(words) && !hits.includes(row);
    } else if (hits.length && forward) {
      const later = hits.findIndex((step) => rows.indexOf(step) > hit);
      const at = later < 0 ? 0 : later;
      hit = rows.indexOf(hits[at]);
      const inside = [...hits[at].querySelectorAll("details")].find((fold) => fold.textContent.toLowerCase().includes(words));
      if (inside) inside.open = true;
      goTo(hit);
      find.focus();
    }
    const place = document.getElementById("hits");
    if (place) place.textContent = words ? `${hits.length} ${hits.length === 1 ? "hit" : "hits"}` : "";
  }

  function textOf(step) {
    if (!step.classList.contains("step-mark")) return step.textContent.toLowerCase();
    let text = "";
    for (let node = step.nextSibling; node && !node.classList?.contains("step-mark"); node = node.nextSibling) text += node.textContent;
    return text.toLowerCase();
  }

  // ---- labels ----

  let sent = Promise.resolve();

  /** Words reach the server in the order they were given: a second verdict on a step must not overtake the first. */
  function send(step, word) {
    sent = sent.then(() => post(Number(step.id.slice("step-".length)), word)).catch((error) => notice(`${error}`));
  }

  async function post(number, word) {
    const { place, run, arm, critic } = main.dataset;
    const answer = await fetch(`${base}/labels`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-srft-token": token },
      body: JSON.stringify({ place, run, arm, critic, step: number, ...word }),
    }).catch(() => null);
    if (!answer) return notice("Not saved: the viewer does not answer.");
    const told = await answer.text();
    if (!answer.ok) return notice(`Not saved: ${answer.headers.get("content-type")?.includes("json") ? JSON.parse(told).error : told}`);
    show(number, JSON.parse(told), word.reason);
  }

  /** What the answer changes, and no more: its reader may be on another step by now, or in the middle of a comment. */
  function show(number, changed, reason) {
    const at = steps().findIndex((step) => step.id === `step-${number}`);
    const step = steps()[at];
    const fresh = fragment(changed.step);
    const head = step.querySelector(".step-head");
    const held = head.contains(document.activeElement) ? [...head.querySelectorAll("a, button")].indexOf(document.activeElement) : -1;
    const freshHead = fresh.querySelector(".step-head");
    const given = fresh.querySelector(".given");
    step.className = fresh.className;
    step.dataset.code = fresh.dataset.code;
    step.querySelector(".given")?.remove();
    head.replaceWith(freshHead);
    if (given) freshHead.after(given);
    if (held >= 0) freshHead.querySelectorAll("a, button")[held]?.focus({ preventScroll: true });
    const form = step.querySelector(".comment-form");
    if (form.querySelector("textarea").value === reason) form.hidden = true; // saved as it stands
    document.getElementById("said").replaceWith(fragment(changed.said));
    const cell = document.querySelector(`.cell[href="#step-${number}"]`);
    const masked = step.classList.contains("masked");
    cell.className = `cell f-${changed.code === "-" ? "n" : changed.code}${masked ? " masked" : ""}`;
    if (current === at) mark(at);
  }

  function fragment(html) {
    const template = document.createElement("template");
    template.innerHTML = html; // rendered by our own templates, which escape
    return template.content.firstElementChild;
  }

  function label(word) {
    if (!token || main.dataset.page !== "run") return;
    if (current < 0) goTo(0);
    if (steps()[current]) send(steps()[current], word);
  }

  function comment() {
    if (!token || main.dataset.page !== "run") return;
    if (current < 0) goTo(0);
    const form = steps()[current]?.querySelector(".comment-form");
    if (!form) return;
    form.hidden = !form.hidden;
    if (!form.hidden) form.querySelector("textarea").focus();
  }

  function save(form) {
    send(form.closest(".step"), { reason: form.querySelector("textarea").value });
  }

  // ---- what happens ----

  const help = document.getElementById("keys");
  const follow = (rel) => sent.then(() => document.querySelector(`a[rel="${rel}"]`)?.click()); // words first
  const keys = {
    j: () => goTo(current + 1),
    k: () => goTo(current - 1),
    n: () => follow("next"),
    p: () => follow("prev"),
    o: openFolds,
    t: toggleTheme,
    g: () => label({ verdict: "good" }),
    u: () => label({ verdict: "unnecessary" }),
    m: () => label({ verdict: "mistake" }),
    r: () => label({ verdict: "recover" }),
    x: () => label({ take_back: true }),
    c: comment,
    "/": () => (find?.focus(), find?.select()),
    "?": () => help.showModal(),
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && typing) {
      const form = event.target.closest(".comment-form");
      if (form) form.hidden = true;
      event.target.blur();
    } else if (event.key === "Enter" && event.target.tagName === "TEXTAREA" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      save(event.target.form);
    } else if (event.key === "Enter" && event.target === find && main.dataset.page !== "table") {
      search(true);
    } else if (!typing && !help.open && !event.ctrlKey && !event.metaKey && !event.altKey && Object.hasOwn(keys, event.key)) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  document.addEventListener("click", (event) => {
    const step = event.target.closest(".step");
    if (step) mark(steps().indexOf(step));
    const button = event.target.closest("button");
    if (button?.dataset.do === "theme") toggleTheme();
    else if (button?.dataset.do === "help") help.showModal();
    else if (button?.dataset.do === "comment") comment();
    else if (button?.dataset.do === "take-back") label({ take_back: true });
    else if (button?.dataset.verdict) label({ verdict: button.dataset.verdict });
  });

  document.addEventListener("submit", (event) => {
    if (!event.target.classList.contains("comment-form")) return;
    event.preventDefault();
    save(event.target);
  });

  document.addEventListener("change", (event) => {
    if (event.target.dataset.do === "goto") location.href = event.target.value;
    else if (event.target.tagName === "SELECT") event.target.form?.requestSubmit();
  });

  if (find && !find.form) find.addEventListener("input", () => ((hit = -1), search(false)));
  addEventListener("hashchange", fromAddress);
  fromAddress();
});
