// Small services of every page; nothing here is needed to read it.
(() => {
  // A link to a function of the library opens its source; a link into a folded part unfolds it.
  function unfold() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let el = target.parentElement; el; el = el.parentElement) if (el.tagName === "DETAILS") el.open = true;
    const source = target.matches(".api-entry") && target.querySelector(":scope > .api-source");
    if (source) source.open = true;
  }
  addEventListener("hashchange", unfold);
  unfold();

  // On paper nothing is folded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const el of folded) el.open = true;
  });
  addEventListener("afterprint", () => {
    for (const el of folded) el.open = false;
  });

  // A box that scrolls sideways must be reachable by keyboard.
  for (const el of document.querySelectorAll(".output.text_html, div.math, .pst-scrollable-table-container")) {
    if (el.scrollWidth > el.clientWidth) el.tabIndex = 0;
  }
})();
