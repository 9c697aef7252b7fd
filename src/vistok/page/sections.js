const openUp = (target) => {
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
};
const linked = (link) => document.getElementById(decodeURIComponent(link.hash.slice(1)));
for (const link of document.querySelectorAll('a[href^="#"]')) link.addEventListener("click", () => openUp(linked(link)));
addEventListener("hashchange", () => openUp(linked(location)));
if (location.hash) openUp(linked(location));
const closed = () => [...document.querySelectorAll("details:not([open])")];
for (const button of document.querySelectorAll("[data-open-all]")) {
  button.addEventListener("click", () => {
    const shut = closed().filter((part) => part.classList.contains("section"));
    const all = shut.length ? shut : document.querySelectorAll("details.section");
    for (const part of all) part.open = shut.length > 0;
    button.textContent = shut.length ? "close all" : "open all";
  });
}
// Paper cannot be unfolded.
let unfolded = [];
addEventListener("beforeprint", () => { unfolded = closed(); for (const part of unfolded) part.open = true; });
addEventListener("afterprint", () => { for (const part of unfolded) part.open = false; });
