/* What the pages' generators leave out for readers who hear a page or use its keys. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  // The entries of a list of references are items of that list.
  document.querySelectorAll('[role="list"] > [role="doc-biblioentry"]').forEach((entry) => {
    entry.setAttribute("role", "listitem");
  });
});
