"""The page's only script: sorts and filters the table of videos, and opens the one that a link leads to."""

SCRIPT = """
"use strict";
(() => {
  const table = document.getElementById("videos");
  if (table) {
    const body = table.tBodies[0], rows = [...body.rows], list = document.getElementById("cards");
    const cards = new Map(rows.map((row, n) => [row, list.children[n]]));
    const form = document.getElementById("filters"), shown = document.getElementById("shown");
    form.hidden = false;
    const text = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
    const filter = () => {
      const words = form.elements.text.value.toLowerCase();
      let count = 0;
      for (const row of rows) {
        const fits = ["system", "person"].every(
          name => !form.elements[name].value || form.elements[name].value === row.dataset[name]);
        row.hidden = cards.get(row).hidden = !(fits && text.get(row).includes(words));
        count += !row.hidden;
      }
      shown.textContent = count + " of " + rows.length + " shown";
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", event => event.preventDefault());
    filter();
    const value = (row, column, number) => {
      const cell = row.cells[column];
      if (number) return "v" in cell.dataset ? Number(cell.dataset.v) : null;
      return cell.textContent.trim();
    };
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => header.querySelector("button").addEventListener("click", () => {
      const number = header.classList.contains("number"), was = header.getAttribute("aria-sort");
      const up = was === "none" ? !number : was === "descending";
      headers.forEach(each => each.setAttribute("aria-sort", "none"));
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      const sorted = rows.map(row => [value(row, column, number), row]);
      sorted.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        const order = number ? a - b : a.localeCompare(b, undefined, {numeric: true});
        return up ? order : -order;
      });
      body.append(...sorted.map(([, row]) => row));
      list.append(...sorted.map(([, row]) => cards.get(row)));
    }));
  }
  const reveal = () => {
    const found = document.getElementById(location.hash.slice(1)), box = found && found.closest("details");
    if (box) { box.hidden = false; box.open = true; box.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  addEventListener("click", event => {
    const link = event.target.closest("a[href^='#v']");
    if (link && link.hash === location.hash) reveal();
  });
  reveal();
})();
"""
