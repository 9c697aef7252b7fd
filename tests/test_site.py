"""The pages: their site builds without a network, and what they print can be typed."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml

import vistok
from conftest import REPOSITORY
from vistok.cli import app
from vistok.config import override
from vistok.recipes import find_recipe

PAGES = ["README.md", *(f"docs/{name}.md" for name in ("start", "own-images", "two-purses", "regularizers", "clusters", "troubleshooting",
                                                       "gallery", "study", "scale", "api"))]  # fmt: skip
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build a site; whatever asks for the network is refused."""
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    environment = {**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    loaded = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?(?:https?:)?//|<link[^>]*\shref=[\"']?(?:https?:)?//"
    )
    outside = {page.name: found[0] for page in pages if (found := loaded.search(page.read_text()))}
    outside |= {
        path.name: "url" for path in site.rglob("*.css") if re.search(r"url\([\"']?(?:https?:)?//", path.read_text())
    }
    assert not outside


@pytest.mark.slow
def test_the_reference_has_every_public_name(site):
    text = (site / "docs" / "api.html").read_text()
    headings = re.findall(r"<h3[^>]*>(.*?)</h3>", text, re.DOTALL)
    named = {re.sub(r"<[^>]+>", "", heading).split()[0] for heading in headings}
    assert {f"vistok.{name}" for name in vistok.__all__} <= named
    assert "Map images in [-1, 1] to latents" in text


@pytest.mark.slow
def test_links_lead_to_the_same_places_as_on_a_code_host(site):
    home = (site / "index.html").read_text()
    for place in ("docs/study.html", "results/demo/index.html", "results/torture/index.html", "CITATION.cff"):
        assert f'href="{place}"' in home and (site / place).is_file(), place
    listing = (site / "benchmarks" / "results" / "amd-epyc" / "index.html").read_text()  # a folder without a README
    assert "sampling.md" in listing


def test_rows_of_tables_have_as_many_cells_as_their_heads():
    texts = [
        *REPOSITORY.glob("*.md"),
        *(path for folder in ("docs", "results", "benchmarks") for path in (REPOSITORY / folder).rglob("*.md")),
    ]
    assert len(texts) > 40
    for path in texts:
        head = 0
        for number, line in enumerate(FENCE.sub("", path.read_text()).splitlines(), 1):
            cells = len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line))) if line.startswith("|") else 0
            assert not (head and cells) or cells == head, (
                f"{path}: line {number} has {cells - 1} cells, its head {head - 1}: {line}"
            )
            head = (head or cells) if cells else 0


def test_every_page_is_in_the_contents():
    class Loader(yaml.SafeLoader):
        """Reads the file without making what its tags name."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
    nav = yaml.load((REPOSITORY / "mkdocs.yml").read_text(), Loader)["nav"]  # noqa: S506
    named = re.findall(r"[\w/-]+\.md", str(nav))
    assert {f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")} <= set(named)


TINY = {
    "mkdocs.yml": "site_name: tiny\nhooks: [docs/site_pages.py]\ntheme: {name: mkdocs, highlightjs: false}\nplugins: []\n"
    "validation: {links: {anchors: warn, unrecognized_links: warn}}\nnav: [README.md, docs/api.md]\n",
    "README.md": "# Tiny\n\n[a](docs/api.md#names), [a folder](results), and `[no](link.md)`\n",
    "docs/api.md": "# API\n\n## Names\n\n[back](../README.md)\n",
    "results/table.md": "# Table\n",
    "src/vistok/__init__.py": "__all__ = ['one']\nfrom vistok.place import one\n",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"README.md": "[gone](docs/gone.md)"}, "docs/gone.md"),
        ({"README.md": "[gone](results/table.md#gone)"}, "#gone"),
        ({"README.md": "[gone](results/gone.png)"}, "results/gone.png"),
        ({"src/vistok/__init__.py": "__all__ = ['two']", "docs/api.md": "<!-- the public names follow here, in the site -->"},
         "imports no two under TYPE_CHECKING"),
    ],
)  # fmt: skip
def test_what_is_broken_fails(tmp_path, change, words):
    for name, text in {**TINY, **change}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "docs" / "assets").mkdir()
    shutil.copy(REPOSITORY / "docs" / "site_pages.py", tmp_path / "docs")
    done = build(tmp_path, tmp_path / "site")
    assert (done.returncode != 0) == bool(words) and words in done.stderr, done.stderr
    if not words:
        assert "table.md" in (tmp_path / "site" / "results" / "index.html").read_text()


def commands() -> list[tuple[str, list[str]]]:
    """Every vistok command in a block of a page, or in a line of its text if that is whole."""
    found = []
    for page in PAGES:
        text = (REPOSITORY / page).read_text()
        lines = [line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        lines += [
            code for code in re.findall(r"`((?:vistok|torchrun) [^`\n]+)`", FENCE.sub("", text)) if "..." not in code
        ]
        for line in (line for line in lines if re.match(r"(vistok|torchrun) ", line)):
            words = shlex.split(line, comments=True)
            if "vistok" in words:
                found.append((page, words[words.index("vistok") + 1 :]))
    return found


@cache
def verbs() -> dict[tuple[str, ...], set[str]]:
    """The command line's verbs, each with its options."""
    found: dict[tuple[str, ...], set[str]] = {}

    def walk(command, path: tuple[str, ...]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*path, name))
        found[path] = {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }

    walk(typer.main.get_command(app), ())
    return found


def test_printed_commands_exist_with_their_options_and_settings():
    wrong, trained = [], 0
    for page, words in commands():
        # An option of vistok itself comes before any verb.
        verb = next(
            (tuple(words[:n]) for n in (2, 1, 0) if tuple(words[:n]) in verbs() and (n or words[0][0] == "-")), None
        )
        if verb is None:
            wrong.append(f"{page}: no verb: vistok {shlex.join(words)}")
            continue
        rest = words[len(verb) :]
        unknown = [
            word
            for word in rest
            if re.match(r"--?[a-z]", word) and word.split("=")[0] not in verbs()[verb] | {"--help"}
        ]
        wrong += [f"{page}: no {word}: vistok {shlex.join(words)}" for word in unknown]
        if verb[:1] == ("train",) and rest and re.fullmatch(r"[a-z0-9_]+", rest[0]):
            settings = [value for option, value in zip(rest, rest[1:], strict=False) if option == "--set"]
            override(find_recipe(rest[0], verb[1]), settings)
            trained += 1
    assert not wrong, "\n".join(wrong)
    assert trained > 15


@cache
def sentences() -> list[str]:
    """All strings in the source; what is put into them stands as a null character."""
    found = []
    for path in sorted((REPOSITORY / "src" / "vistok").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values))
    return found


def quoted() -> list[str]:
    """What the page on troubleshooting quotes as words of vistok's, in its tables' first column."""
    rows = re.findall(r"^\| ([^|]*\"[^|]*) \|", (REPOSITORY / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    return [words for row in rows for words in re.findall(r'"([^"]+)"', row)]


def test_quoted_messages_are_said():
    system = {"No space left on device"}
    said = "\n".join(sentences())
    missing = []
    for words in set(quoted()) - system:
        parts = [re.escape(part) for part in re.split(r"\b[NM]\b|\.\.\.|'train'", words)]
        if not re.search("[^\n]*?".join(parts), said):
            missing.append(words)
    assert not missing and len(quoted()) > 20
