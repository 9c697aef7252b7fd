"""The app's look: that of all pages (`page/theme.css`), inside Gradio's frame, which gets the same colours and fonts."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

FONTS = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "DejaVu Sans Mono", "monospace")


def _read(package: str, name: str) -> str:
    return (files(package) / name).read_text(encoding="utf-8")


@cache
def css() -> str:
    """Return the styles: those of pages apply inside `.vistok` alone, and follow Gradio's dark mode."""
    pages = _read("vistok.page", "theme.css")
    pages = re.sub(r"(?m)^(\s*)(:root|body)\b", r"\1&", pages)
    pages = re.sub(r"@media [^{]*prefers-color-scheme: dark\)", ".dark &", pages)
    light, dark = (each["series-0"] for each in colours())
    accent = f".gradio-container {{ --color-accent: {light}; }} .dark .gradio-container {{ --color-accent: {dark}; }}"
    return f".vistok {{\n{pages}\n}}\n{accent}\n{_read('vistok.app', 'app.css')}"


@cache
def head() -> str:
    """Return what stands in the page's head: the styles, the script that reads out charts, and the app's own.

    Gradio would rewrite styles that are given to it, and lose those for narrow screens.
    """
    scripts = (_read("vistok.page", "hover.js"), _read("vistok.app", "app.js"))
    return f"<style>{css()}</style>" + "".join(f"<script>{script}</script>" for script in scripts)


@cache
def colours() -> tuple[dict[str, str], dict[str, str]]:
    """Return the colours of pages by name, in light and in dark mode."""
    light, dark = re.findall(r":root \{(.*?)\}", _read("vistok.page", "theme.css"), re.DOTALL)[:2]
    parse = lambda block: dict(re.findall(r"--([\w-]+):\s*([^;]+);", block))  # noqa: E731
    return parse(light), {**parse(light), **parse(dark)}


def theme() -> Any:
    """Return Gradio's theme with the colours of pages and the fonts of the system: none is fetched."""
    import gradio as gr

    light, dark = colours()
    chosen = {
        "body_background_fill": "paper",
        "background_fill_primary": "paper",
        "background_fill_secondary": "raised",
        "block_background_fill": "paper",
        "block_label_background_fill": "paper",
        "input_background_fill": "raised",
        "body_text_color": "ink",
        "body_text_color_subdued": "quiet",
        "block_label_text_color": "quiet",
        "block_title_text_color": "quiet",
        "block_info_text_color": "quiet",
        "border_color_primary": "line",
        "block_border_color": "line",
        "input_border_color": "line",
        "link_text_color": "link",
        "slider_color": "series-0",
        "button_primary_background_fill": "series-0",
        "button_primary_background_fill_hover": "link",
        "button_secondary_background_fill": "raised",
        "button_secondary_text_color": "ink",
        "checkbox_background_color_selected": "series-0",
    }
    values = {name: light[colour] for name, colour in chosen.items()}
    values |= {f"{name}_dark": dark[colour] for name, colour in chosen.items()}
    values |= {"button_primary_text_color": light["paper"], "button_primary_text_color_dark": dark["paper"]}
    base = gr.themes.Base(font=FONTS, font_mono=MONOSPACE, radius_size="sm", primary_hue="blue", neutral_hue="gray")
    widths = {
        "block_border_width": "0px",
        "input_border_width": "1px",
        "block_padding": "4px 0",
        "form_gap_width": "0px",
    }
    widths |= {f"{name}_dark": widths[name] for name in ("block_border_width", "input_border_width")}
    return base.set(block_shadow="none", layout_gap="12px", button_large_text_weight="500", **widths, **values)
