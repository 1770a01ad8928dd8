// Makes the headings of tables in .sortable buttons that sort the rows: numbers by value, other
// text by its letters, missing values last.
"use strict";

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [value(row.cells[column].textContent), row]);
      rows.sort(([a], [b]) => compared(a, b, down ? -1 : 1));
      body.append(...rows.map(([, row]) => row));
    });
  });
}

function value(text) {
  const number = parseFloat(text.replace(/,/g, ""));
  if (text === "" || text === "-") return null;
  if (/ min$/.test(text)) return 60 * number;
  return /^[+-]?[\d.]/.test(text) && !Number.isNaN(number) ? number : text;
}

function compared(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
}

document.querySelectorAll(".sortable table").forEach(sortable);
