/* The table of verdicts on the start page: sorted by a press on a column's head, filtered by
   chapter, artifact, verdict, scale and words. Without this script it is a plain table. */
"use strict";

{
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".tag_verdicts table").forEach(enhance);
  });

  const textOf = (cell) => cell.textContent.trim();

  function enhance(table) {
    const heads = [...table.tHead.rows[0].cells];
    const at = Object.fromEntries(heads.map((head, index) => [textOf(head), index]));
    const rows = [...table.tBodies[0].rows];
    const entries = rows.map((row) => entryOf(row, at));
    heads.forEach((head, index) => makeSortable(table, head, index));
    const filters = {
      words: element("input", { type: "search", id: "verdict-words", autocomplete: "off" }),
      place: choiceOfPlace(entries),
      verdict: choice("verdict-verdict", entries.map((entry) => entry.verdict)),
      scale: choice("verdict-scale", entries.map((entry) => entry.scale)),
    };
    const count = element("output", { class: "verdict-count", "aria-live": "polite" });
    const renew = () => {
      const shown = entries.filter((entry) => passes(entry, filters));
      entries.forEach((entry) => (entry.row.hidden = !shown.includes(entry)));
      count.textContent = `${shown.length} of ${entries.length} claims`;
    };
    Object.values(filters).forEach((filter) => filter.addEventListener("input", renew));
    (table.closest(".pst-scrollable-table-container") ?? table).before(panel(filters, count));
    renew();
  }

  /* What a row can be found by. Its link leads to the chapter and the artifact. */
  function entryOf(row, at) {
    const link = row.querySelector("a[href]");
    const page = new URL(link.href).pathname;
    const [verdict, scale] = [textOf(row.cells[at.verdict]), textOf(row.cells[at.scale])];
    const words = row.textContent.toLowerCase();
    return { row, page, artifact: textOf(link), verdict, scale: scale || "none", words };
  }

  function passes(entry, { words, place, verdict, scale }) {
    const sought = words.value.toLowerCase().split(/\s+/);
    return (
      sought.every((word) => entry.words.includes(word)) &&
      ["", entry.page, entry.artifact].includes(place.value) &&
      ["", entry.verdict].includes(verdict.value) &&
      ["", entry.scale].includes(scale.value)
    );
  }

  function choice(id, values) {
    const names = [...new Set(values)];
    const options = names.map((name) => element("option", { value: name }, name));
    return element("select", { id }, element("option", { value: "" }, "all"), ...options);
  }

  /* Chapters as the sidebar names them, each with its artifacts. */
  function choiceOfPlace(entries) {
    const select = choice("verdict-place", []);
    for (const page of new Set(entries.map((entry) => entry.page))) {
      const names = new Set(entries.filter((e) => e.page === page).map((e) => e.artifact));
      const options = [...names].map((name) => element("option", { value: name }, name));
      const title = titleOf(page);
      const whole = element("option", { value: page }, `all of “${title}”`);
      select.append(element("optgroup", { label: title }, whole, ...options));
    }
    return select;
  }

  function titleOf(page) {
    const links = [...document.querySelectorAll("nav a[href]")];
    const link = links.find((one) => new URL(one.href).pathname === page);
    return link ? textOf(link) : page.split("/").at(-1);
  }

  function panel(filters, count) {
    const place = "chapter or artifact";
    const names = { words: "words", place, verdict: "verdict", scale: "scale" };
    const fields = Object.entries(filters).map(([key, filter]) =>
      element("div", {}, element("label", { for: filter.id }, names[key]), filter),
    );
    const name = { role: "search", "aria-label": "claims" };
    return element("div", { class: "verdict-filters", ...name }, ...fields, count);
  }

  function makeSortable(table, head, index) {
    const button = element("button", { type: "button" }, textOf(head));
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sort(table.tBodies[0], index, order === "ascending" ? 1 : -1);
    });
  }

  /* By words without the marks before them, numbers as numbers; what is empty stays last. */
  function sort(body, index, sign) {
    const key = (row) => textOf(row.cells[index]).replace(/^[^\p{L}\p{N}]+/u, "");
    const compare = (a, b) => {
      const [left, right] = [key(a), key(b)];
      if (!left || !right) return !left - !right;
      return sign * left.localeCompare(right, "en", { numeric: true });
    };
    body.append(...[...body.rows].sort(compare));
  }
}
