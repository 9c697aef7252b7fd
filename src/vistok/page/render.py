"""Templates to self-contained pages: style, script and pictures inside, nothing fetched, all text escaped."""

from functools import cache
from importlib.resources import files
from typing import Any


@cache
def _environment(package: str) -> Any:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    folders = dict.fromkeys((package, "vistok.page"))
    loader = ChoiceLoader([PackageLoader(folder, "") for folder in folders])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    here = files("vistok.page")
    environment.globals |= {
        "theme": Markup((here / "theme.css").read_text(encoding="utf-8")),
        "hover": Markup((here / "hover.js").read_text(encoding="utf-8")),
        "sections": Markup((here / "sections.js").read_text(encoding="utf-8")),
    }
    return environment


def render(package: str, template: str, **facts: Any) -> str:
    """Return a page: the template of this name in a package, which may extend `base.html.j2`, filled with facts."""
    return str(_environment(package).get_template(template).render(**facts))
