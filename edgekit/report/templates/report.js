"use strict";
(() => {
  // Values that are missing stay last in either direction.
  const compare = (kind, sign) => (a, b) => {
    if (a.value === "" || b.value === "") return (a.value === "") - (b.value === "") || a.order - b.order;
    const order = kind === "num" ? Number(a.value) - Number(b.value) : a.value.localeCompare(b.value, undefined, { numeric: true });
    return sign * order || a.order - b.order;
  };

  const sortBy = (table, header, button) => {
    const column = [...header.parentElement.children].indexOf(header);
    const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({
      row, value: row.cells[column].dataset.value, order: Number(row.cells[0].dataset.value),
    }));
    rows.sort(compare(button.dataset.kind, direction === "ascending" ? 1 : -1));
    body.append(...rows.map(({ row }) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const button of table.querySelectorAll("button.sort")) {
      button.addEventListener("click", () => sortBy(table, button.closest("th"), button));
    }
  }

  // Copying needs a secure context; a page opened from disk is one in most browsers, and a selection works in all.
  for (const button of document.querySelectorAll("button.copy")) {
    const source = document.getElementById(button.dataset.copy);
    button.hidden = false;
    button.addEventListener("click", () => {
      const say = (word) => {
        button.textContent = word;
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      };
      const select = () => {
        getSelection().selectAllChildren(source);
        say("Selected");
      };
      if (!navigator.clipboard) return select();
      navigator.clipboard.writeText(source.textContent).then(() => say("Copied"), select);
    });
  }

  // Paper cannot unfold anything.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
