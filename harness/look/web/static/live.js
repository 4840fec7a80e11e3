// Pages that follow their run: every two seconds the server is asked whether a file changed, and what the page marks with
// data-live is replaced. A page that nobody sees asks nothing.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const base = document.querySelector('meta[name="srft-base"]')?.content;
  if (base === undefined || !document.querySelector("[data-live]")) return;
  const every = 2000;
  let known = null;
  let failures = 0;
  let timer = null;

  async function get(address) {
    const answer = await fetch(address, { cache: "no-store" });
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer;
  }

  async function look() {
    const version = await (await get(`${base}/version`)).json();
    if (known && version.files !== known.files) {
      const page = new DOMParser().parseFromString(await (await get(location.pathname + location.search)).text(), "text/html");
      for (const part of document.querySelectorAll("[data-live][id]")) replace(part, page.getElementById(part.id));
      document.dispatchEvent(new Event("srft-live"));
    } else if (known && version.live !== known.live && document.getElementById("live")) {
      const fragment = new DOMParser().parseFromString(await (await get(`${base}/live`)).text(), "text/html");
      replace(document.getElementById("live"), fragment.getElementById("live"));
    }
    known = version;
  }

  /** What the reader has opened or scrolled stays so; a part in which they write or choose is left alone. */
  function replace(part, fresh) {
    if (!fresh || fresh.outerHTML === part.outerHTML) return;
    if (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return;
    const open = [...part.querySelectorAll("details")].map((fold) => fold.open);
    const scrolled = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    part.replaceWith(fresh);
    [...fresh.querySelectorAll("details")].forEach((fold, at) => (fold.open = open[at] ?? fold.open));
    [...fresh.querySelectorAll(".scroll")].forEach((box, at) => (box.scrollLeft = scrolled[at] ?? 0));
    if (focused) fresh.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  function say(text) {
    let note = document.getElementById("stale");
    if (!text) return note?.remove();
    if (!note) {
      note = Object.assign(document.createElement("p"), { id: "stale", className: "stale" });
      note.setAttribute("role", "status");
      document.body.append(note);
    }
    note.textContent = text;
  }

  async function turn() {
    timer = null;
    if (document.hidden) return;
    try {
      await look();
      failures = 0;
      say("");
    } catch {
      failures += 1;
      if (failures > 1) say("The viewer does not answer: this page shows the last that it told.");
    }
    timer ??= setTimeout(turn, failures > 1 ? 5 * every : every);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    timer = null;
    if (!document.hidden) turn();
  });
  turn();
});
