"""The pages of the site: the repository's own, at their own paths, so that every link works here as on a code host.

`mkdocs build` calls the functions named on_...: the pages of `START`, and whatever they link to in the repository, become
pages or files of the site. A link to a folder leads to its README, or to a list of its files.
"""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
START = ("*.md", "docs/*.md", "docs/assets/*")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)(?=[)#\s])")
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.DOTALL | re.MULTILINE)
# Where a page says this, the reference of all public names follows, and that of what they return.
PUBLIC = "<!-- the public names follow here, in the site -->"
RETURNED = "<!-- the interfaces follow here, in the site -->"
# What users meet of each.
INTERFACES = {
    "vistok.python.run.Run": [
        "name", "config", "state", "step", "main_score", "alarms", "page", "curves", "scores", "load", "sample", "reconstruct",
    ],
    "vistok.python.scores.Scores": ["main", "metric", "value", "interval", "protocol", "treatment", "table", "save", "add_to_study"],
    "vistok.python.compare.Comparison": ["table", "differences"],
    "vistok.python.images.Images": ["sheet", "save"],
    "vistok.python.tokens.Latents": ["space", "classes", "labels"],
    "vistok.tokenizer.interface.Tokenizer": ["encode", "decode", "stored", "resized"],
    "vistok.generator.interface.Generator": ["sample", "sampler", "calls", "sampling_flops", "sampling_bytes"],
    "vistok.generator.autoregressive.config.AutoregressiveSampling": [
        "guidance_scale", "temperature", "top_k", "top_p", "seed", "int8", "precision",
    ],
    "vistok.generator.flow.config.FlowSampling": [
        "guidance_scale", "guidance_from", "guidance_until", "guidance_channels", "steps", "solver", "warp", "seed", "precision",
    ],
    "vistok.origin.Origin": ["digest", "recipe", "dataset", "class_names", "run_config", "training", "scores", "tokenizer", "shortcut"],
    "vistok.errors.UserError": [],
}  # fmt: skip


def on_files(files: Files, config: Any) -> Files:
    """Replace the files of docs/ with the repository's pages and what they link to; keep those of the theme."""
    docs = Path(config.docs_dir)
    found = Files([file for file in files if file.src_dir is None or Path(file.src_dir) != docs])
    for path, content in sorted(_reached().items()):
        if content is None:
            found.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
        else:
            found.append(File.generated(config, path, content=content))
    return found


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to folders to their pages, and write the reference where a page asks for it."""
    here = (ROOT / page.file.src_uri).parent

    def page_of(link: re.Match[str]) -> str:
        folder = here / link[0]
        return f"{link[0].rstrip('/')}/{_front(folder).name}" if folder.is_dir() else link[0]

    linked = _outside_code(markdown, lambda text: LINK.sub(page_of, text))
    return linked.replace(PUBLIC, _reference()).replace(RETURNED, _interfaces())


def on_page_content(html: str, **_: Any) -> str:
    """Name the column in each cell of a table: on a narrow screen rows become cards, which have no header."""

    def labelled(table: re.Match[str]) -> str:
        names = [re.sub(r"<[^>]+>", "", name) for name in re.findall(r"<th[^>]*>(.*?)</th>", table[0], re.DOTALL)]
        rows = table[0].split("<tr>")
        for number, row in enumerate(rows):
            columns = iter(names)
            rows[number] = re.sub(
                r"<td(?=[ >])", lambda _, columns=columns: f'<td data-column="{next(columns, "")}"', row
            )
        return "<tr>".join(rows)

    return re.sub(r"<table>.*?</table>", labelled, html, flags=re.DOTALL)


def _reached() -> dict[str, str | None]:
    """Return paths of files in the repository; contents only for lists of files, which are not there."""
    found: dict[str, str | None] = {}
    waiting = [path for pattern in START for path in sorted(ROOT.glob(pattern))]
    while waiting:
        path = waiting.pop()
        if path.is_dir():
            path = _front(path)
        name = path.relative_to(ROOT).as_posix()
        if name in found:
            continue
        found[name] = None if path.exists() else _listing(path.parent)
        if path.suffix == ".md":
            waiting += _targets(found[name] or path.read_text(), path.parent)
    return found


def _targets(text: str, folder: Path) -> list[Path]:
    """Return what a page links to in the repository. What does not exist is left to mkdocs, which reports it."""
    paths = [(folder / link).resolve() for link in LINK.findall(CODE.sub("", text))]
    return [path for path in paths if path.exists() and path.is_relative_to(ROOT)]


def _front(folder: Path) -> Path:
    readme = folder / "README.md"
    return readme if readme.exists() else folder / "index.md"


def _listing(folder: Path) -> str:
    """Return a page of what lies in a folder, with its pictures shown."""
    lines = [f"# {folder.relative_to(ROOT).as_posix()}", ""]
    for path in sorted(folder.iterdir()):
        if path.suffix == ".md" and path.name != "index.md":
            lines += [f"- [{path.name}]({path.name})"]
        elif path.suffix == ".png":
            lines += ["", f"**{path.stem}**", "", f"![{path.stem}]({path.name})"]
    return "\n".join(lines)


def _outside_code(markdown: str, change: Any) -> str:
    """Apply a change to a page's text between its pieces of code."""
    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])


def _reference() -> str:
    """Return a directive of mkdocstrings for each name in vistok's `__all__`, read from the source."""
    body = ast.parse((ROOT / "src/vistok/__init__.py").read_text()).body
    places: dict[str, str] = {}
    public: list[str] = []
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.ImportFrom):
            places |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            public = ast.literal_eval(node.value)
    missing = [name for name in public if name not in places]
    if missing:
        raise ValueError(f"vistok/__init__.py imports no {', '.join(missing)} under TYPE_CHECKING, but __all__ has it")
    return "\n".join(_directive(places[name], f"vistok.{name}") for name in sorted(public))


def _interfaces() -> str:
    """Return directives for what public functions return and take."""
    return "\n".join(_directive(place, place.rpartition(".")[2], members) for place, members in INTERFACES.items())


def _directive(place: str, heading: str, members: list[str] | None = None) -> str:
    """Return mkdocstrings' directive for an object, under a heading of its own."""
    options = {
        "heading": heading,
        "toc_label": heading,
        **({"members": members or False} if members is not None else {}),
    }
    return "\n".join(
        [f"::: {place}", "    options:", *(f"      {name}: {value}" for name, value in options.items()), ""]
    )
