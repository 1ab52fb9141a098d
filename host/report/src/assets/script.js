"use strict";
// Sorts tables by a heading: by number where cells have one, rows without a value last in either direction.
document.querySelectorAll("table.candidates").forEach(function (table) {
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach(function (head, column) {
    head.addEventListener("click", function () {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(function (h) { h.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const keyed = Array.from(body.rows).map(function (row) {
        const cell = row.cells[column];
        const value = cell.hasAttribute("data-sort") ? Number(cell.dataset.sort) : null;
        return { row: row, value: value, text: cell.textContent };
      });
      const numeric = keyed.some(function (k) { return k.value !== null; });
      keyed.sort(function (a, b) {
        if (numeric) {
          if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
          return up ? a.value - b.value : b.value - a.value;
        }
        return up ? a.text.localeCompare(b.text) : b.text.localeCompare(a.text);
      });
      keyed.forEach(function (k) { body.appendChild(k.row); });
    });
  });
});
document.querySelectorAll(".only-front").forEach(function (box) {
  box.addEventListener("change", function () {
    box.closest(".card").querySelector("table").classList.toggle("filtered", box.checked);
  });
});
const tip = document.getElementById("tip");
function show(target, x, y) {
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = Math.max(8, y - tip.offsetHeight - 12) + "px";
}
document.querySelectorAll("[data-tip]").forEach(function (target) {
  target.addEventListener("mousemove", function (event) { show(target, event.clientX, event.clientY); });
  target.addEventListener("mouseleave", function () { tip.hidden = true; });
  target.addEventListener("focus", function () {
    const box = target.getBoundingClientRect();
    show(target, box.left, box.top);
  });
  target.addEventListener("blur", function () { tip.hidden = true; });
});
