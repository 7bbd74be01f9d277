"use strict";
// Sorting: by the number that a cell begins with, else by its text; empty cells stay last.
const number = text => parseFloat(text.replace("−", "-"));

function compare(a, b) {
  if (isNaN(number(a)) || isNaN(number(b))) return a.localeCompare(b);
  return number(a) - number(b);
}

function sort(table, column, heading) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  table.querySelectorAll("th").forEach(th => th.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const text = row => row.cells[column].textContent.trim();
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    if (!text(a) || !text(b)) return (text(a) ? 0 : 1) - (text(b) ? 0 : 1);
    return (down ? -1 : 1) * compare(text(a), text(b));
  });
  table.tBodies[0].append(...rows);
}

document.querySelectorAll("table.sortable").forEach(table => {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    if (!heading.textContent.trim()) return;
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, column, heading));
    heading.append(button);
  });
});

// Only a table that does not fit needs a stop of the keyboard, from which the arrow keys scroll it.
function stops() {
  document.querySelectorAll(".wide").forEach(box => {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
}
stops();
addEventListener("resize", stops);
document.addEventListener("toggle", stops, true);  // of details, whose boxes have no size before

// Print what is folded away, too.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach(details => { details.open = true; });
});
addEventListener("afterprint", () => folded.forEach(details => { details.open = false; }));
