// Reads out the point of a chart under the pointer. It listens on the whole page, so charts that are added later work too.
(() => {
  let shown = null;
  const end = () => {
    if (!shown) return;
    shown.cursor.style.display = "none";
    if (shown.readout) shown.readout.textContent = shown.idle;
    shown = null;
  };
  const begin = (chart) => {
    end();
    const readout = chart.parentNode.querySelector(".readout");
    const points = JSON.parse(chart.dataset.points), cursor = chart.querySelector(".cursor");
    shown = { chart, points, cursor, readout, idle: readout ? readout.textContent : "" };
  };
  const show = (event) => {
    const chart = event.target.closest ? event.target.closest("svg.chart[data-points]") : null;
    if (!chart) return end();
    if (!shown || shown.chart !== chart) begin(chart);
    const box = chart.getBoundingClientRect(), view = chart.viewBox.baseVal;
    const x = (event.clientX - box.left) * view.width / box.width, y = (event.clientY - box.top) * view.height / box.height;
    let best = null, distance = Infinity;
    for (const point of shown.points) {
      const away = Math.abs(point.x - x) + Math.abs(point.y - y) * chart.dataset.vertical;
      if (away < distance) { distance = away; best = point; }
    }
    if (!best) return;
    shown.cursor.setAttribute("x1", best.x); shown.cursor.setAttribute("x2", best.x); shown.cursor.style.display = "";
    if (shown.readout) shown.readout.textContent = best.text;
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("pointerleave", end);
})();
