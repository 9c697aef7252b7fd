"""A comparison as a notebook shows it."""

import html
from typing import Any


def as_html(comparison: Any) -> str:
    """Return a comparison as an HTML table: values with intervals, differences from the first below them, the best in bold."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *comparison.names))
    rows = "".join(f"<tr>{''.join(_cells(line, comparison.names))}</tr>" for line in comparison.lines)
    apart = "".join(f"<li>not compared: {html.escape(reason)}</li>" for reason in comparison.apart)
    return f"<table><tr>{head}</tr>{rows}</table>" + (f"<ul>{apart}</ul>" if apart else "")


def _cells(line: Any, names: tuple[str, ...]) -> list[str]:
    p = line.protocol
    network = "" if p.extractor == "none" else f"{p.extractor}, "
    protocol = f"{network}{p.num_samples:,} images against {p.num_reference:,} of {p.reference}"
    cells = [f"<td style=text-align:left>{html.escape(line.metric)}<br><small>{html.escape(protocol)}</small></td>"]
    first, alike = next(iter(line.scores)), len(set(line.made.values())) == 1
    for name in names:
        score = line.scores.get(name)
        if score is None:
            cells.append("<td></td>")
            continue
        value = f"{score.value:.4g}" + ("" if score.low is None else f" ({score.low:.4g} to {score.high:.4g})")
        value = f"<strong>{value}</strong>" if name == line.best else value
        made = "" if alike or not line.made[name] else f"<br><small>{html.escape(line.made[name])}</small>"
        cells.append(f"<td>{value}{_difference(line, name, first)}{made}</td>")
    return cells


def _difference(line: Any, name: str, first: str) -> str:
    if name == first:
        return ""
    found = line.scores[name].minus(line.scores[first])
    bounds = found.interval
    interval = f" ({bounds.low:+.3g} to {bounds.high:+.3g})" if bounds else ""
    return f"<br><small>{found.value:+.3g}{interval}</small>"
