"""Colours, each with one meaning on all pages: a series, an arm of a comparison, a state. They suit colour-blind readers.

Pages write them as CSS variables, so that dark mode can lighten them; pictures in PNG files use the light values.
"""

# Okabe and Ito's palette, darkened a little where a line on white would be hard to see. The first two are the arms of every
# comparison: blue is the baseline, orange what is compared with it.
SERIES = ("#0072b2", "#d55e00", "#008562", "#b5588f", "#b07a00", "#2f8fc4", "#7a6a00", "#555555")
# The same on a dark page.
SERIES_DARK = ("#5db4ec", "#ff9147", "#3fc79a", "#e08fc0", "#e6b13c", "#8fd0f5", "#d9cc4f", "#b5b5b5")

BASELINE, COMPARED = SERIES[0], SERIES[1]

MARKERS = "osD^vP*X"


def variable(number: int) -> str:
    """Return the CSS variable of a series' colour; numbers beyond the palette start over."""
    return f"var(--series-{number % len(SERIES)})"
