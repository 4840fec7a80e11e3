// Tables: keys (j, k, Enter), and where no server sorts and filters them (an export), that too.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const main = document.querySelector("main");
  const rows = () => [...document.querySelectorAll("tr[data-row]")].filter((row) => !row.hidden);
  let here = null; // the address of the row's link: rows are replaced while a run grows

  const linkOf = (row) => row.querySelector(".main a");
  const at = () => rows().findIndex((row) => linkOf(row)?.getAttribute("href") === here);

  function mark(place) {
    const all = rows();
    if (!all.length) return;
    const row = all[Math.max(0, Math.min(all.length - 1, place))];
    for (const one of document.querySelectorAll("tr.here")) one.classList.remove("here");
    row.classList.add("here");
    here = linkOf(row)?.getAttribute("href");
    row.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("srft-live", () => at() >= 0 && rows()[at()].classList.add("here"));

  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea, summary") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "j") mark(at() + 1);
    else if (event.key === "k") mark(Math.max(0, at() - 1));
    else if (event.key === "Enter" && !event.target.closest("a, button") && at() >= 0) linkOf(rows()[at()]).click();
    else return;
    event.preventDefault();
  });

  // ---- two runs to compare ----

  const compare = document.getElementById("compare");
  if (compare) {
    const chosen = () => [...document.querySelectorAll('input[name="pick"]:checked')];
    const show = () => {
      const two = chosen();
      compare.disabled = two.length !== 2;
      compare.textContent = two.length === 2 ? "Compare the two" : "Compare two runs";
      for (const box of document.querySelectorAll('input[name="pick"]')) box.disabled = two.length >= 2 && !box.checked;
    };
    document.addEventListener("change", (event) => event.target.name === "pick" && show());
    document.addEventListener("srft-live", show);
    compare.addEventListener("click", () => {
      const [left, right] = chosen().map((box) => box.value);
      location.href = `${compare.dataset.to}?${new URLSearchParams({ left, right })}`;
    });
    show();
  }

  // ---- without a server ----

  const table = document.querySelector("table[data-alone]");
  if (!table || !main) return;
  const body = table.tBodies[0];

  function value(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    return text === "" || isNaN(Number(text)) ? text.toLowerCase() : Number(text);
  }

  function sortBy(head) {
    const column = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const order = (one, other) => {
      const [left, right] = [value(one, column), value(other, column)];
      if (left === "" || right === "") return (left === "") - (right === ""); // what is not known comes last
      const less = typeof left === typeof right ? left < right : typeof left === "number";
      return left === right ? 0 : less === down ? 1 : -1;
    };
    body.append(...[...body.rows].sort(order));
  }

  function filter() {
    const wanted = [...document.querySelectorAll("select[data-column]")].filter((one) => one.value);
    const words = (document.getElementById("find")?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const fits = wanted.every((one) => row.cells[Number(one.dataset.column)].textContent.trim() === one.value);
      const text = row.textContent.toLowerCase();
      row.hidden = !(fits && words.every((word) => text.includes(word)));
      shown += !row.hidden;
    }
    const place = document.getElementById("hits");
    if (place) place.textContent = shown === body.rows.length ? "" : `${shown} of ${body.rows.length}`;
  }

  for (const head of table.tHead.rows[0].cells) {
    if (head.dataset.sort === undefined) continue;
    const button = head.querySelector("button");
    button.addEventListener("click", () => sortBy(head));
  }
  for (const choice of document.querySelectorAll("select[data-column]")) {
    const values = new Set([...body.rows].map((row) => row.cells[Number(choice.dataset.column)].textContent.trim()));
    for (const text of [...values].sort()) choice.append(new Option(text, text));
    choice.addEventListener("change", filter);
  }
  document.getElementById("find")?.addEventListener("input", filter);
});
