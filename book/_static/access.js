/* What the pages' generators leave out for readers who hear a page, use its keys, or a phone. */
"use strict";

{
  document.addEventListener("DOMContentLoaded", () => {
    // The entries of a list of references are items of that list.
    document.querySelectorAll('[role="list"] > [role="doc-biblioentry"]').forEach((entry) => {
      entry.setAttribute("role", "listitem");
    });
    document.querySelectorAll("article figure img").forEach(boxed);
    document.querySelectorAll("article .pst-scrollable-table-container").forEach(fitted);
    document.querySelectorAll("article pre").forEach(watched);
  });

  // Formulas scroll, too, once they are there.
  window.addEventListener("load", async () => {
    await window.MathJax?.startup?.promise;
    document.querySelectorAll('article mjx-container[display="true"]').forEach(watched);
  });

  /* On a phone a figure keeps a size at which its letters can be read, and scrolls in a box. */
  function boxed(image) {
    const box = element("div", { class: "figure-box" });
    image.replaceWith(box);
    box.append(image);
    const focusable = () => {
      if (box.scrollWidth > box.clientWidth) box.setAttribute("tabindex", "0");
      else box.removeAttribute("tabindex");
    };
    new ResizeObserver(focusable).observe(box);
    image.addEventListener("load", focusable);
    watched(box);
  }

  /* Where something scrolls, its style shows on which sides it goes on. */
  function watched(box) {
    const renew = () => {
      const right = box.scrollWidth - box.clientWidth - box.scrollLeft;
      box.classList.toggle("more-left", box.scrollLeft > 1);
      box.classList.toggle("more-right", right > 1);
    };
    const observer = new ResizeObserver(renew);
    [box, ...box.children].forEach((one) => observer.observe(one));
    box.addEventListener("scroll", renew, { passive: true });
  }

  /* A table of words that does not fit becomes a list of cards, a table of verdicts on every phone;
     numbers stay in their columns, and scroll. */
  function fitted(box) {
    const table = box.querySelector("table");
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    const cells = [...table.querySelectorAll("tbody td")];
    cells.forEach((cell) => {
      if (cell.textContent.trim()) cell.dataset.label = heads[cell.cellIndex];
    });
    const judged = heads.includes("verdict");
    const renew = () => {
      table.classList.remove("cards");
      const narrow = judged && box.clientWidth < 480;
      const scrolls = box.scrollWidth > box.clientWidth + 1;
      table.classList.toggle("cards", narrow || (scrolls && isOfWords(cells)));
    };
    if (!heads.length) return;
    renew(); // an observer waits for what is folded until it opens
    new ResizeObserver(renew).observe(box);
    watched(box);
  }

  /* At least a fourth of what is written in its columns, but for the first, are letters. */
  function isOfWords(cells) {
    const text = cells.map((cell) => (cell.cellIndex ? cell.textContent : "")).join("");
    const letters = text.match(/\p{L}/gu) ?? [];
    return letters.length >= text.replace(/\s/g, "").length / 4;
  }
}
