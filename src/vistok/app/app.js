// Copies text, and keeps folds open when a live page is written anew.
(() => {
  const copy = async (button) => {
    const text = button.parentNode.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.parentNode.querySelector("pre"));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest ? event.target.closest(".vistok button.copy") : null;
    if (button) copy(button);
  });
  const open = new Set();
  const name = (fold) => fold.querySelector("summary")?.textContent + (fold.closest("[data-page]")?.dataset.page ?? "");
  document.addEventListener("toggle", (event) => {
    if (!event.target.closest?.(".vistok")) return;
    if (event.target.open) open.add(name(event.target)); else if (event.target.isConnected) open.delete(name(event.target));
  }, true);
  new MutationObserver((changes) => {
    for (const change of changes) for (const node of change.addedNodes) {
      if (node.nodeType !== 1 || !open.size) continue;
      for (const fold of node.querySelectorAll("details:not([open])")) if (open.has(name(fold))) fold.open = true;
    }
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
