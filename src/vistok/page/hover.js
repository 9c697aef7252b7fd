for (const chart of document.querySelectorAll("svg.chart[data-points]")) {
  const points = JSON.parse(chart.dataset.points), cursor = chart.querySelector(".cursor");
  const readout = chart.parentNode.querySelector(".readout"), idle = readout ? readout.textContent : "";
  const show = (event) => {
    const box = chart.getBoundingClientRect(), view = chart.viewBox.baseVal;
    const x = (event.clientX - box.left) * view.width / box.width, y = (event.clientY - box.top) * view.height / box.height;
    let best = null, distance = Infinity;
    for (const point of points) {
      const away = Math.abs(point.x - x) + Math.abs(point.y - y) * chart.dataset.vertical;
      if (away < distance) { distance = away; best = point; }
    }
    if (!best) return;
    cursor.setAttribute("x1", best.x); cursor.setAttribute("x2", best.x); cursor.style.display = "";
    if (readout) readout.textContent = best.text;
  };
  chart.addEventListener("pointermove", show);
  chart.addEventListener("pointerdown", show);
  chart.addEventListener("pointerleave", () => { cursor.style.display = "none"; if (readout) readout.textContent = idle; });
}
