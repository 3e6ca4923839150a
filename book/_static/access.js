/* What the pages' generators leave out for readers who hear a page, use its keys, or a phone. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  // The entries of a list of references are items of that list.
  document.querySelectorAll('[role="list"] > [role="doc-biblioentry"]').forEach((entry) => {
    entry.setAttribute("role", "listitem");
  });

  // On a phone a figure keeps a size at which its letters can be read, and scrolls in a box.
  document.querySelectorAll("article figure img").forEach((image) => {
    const box = element("div", { class: "figure-box" });
    image.replaceWith(box);
    box.append(image);
    const focusable = () => {
      if (box.scrollWidth > box.clientWidth) box.setAttribute("tabindex", "0");
      else box.removeAttribute("tabindex");
    };
    new ResizeObserver(focusable).observe(box);
    image.addEventListener("load", focusable);
  });
});
