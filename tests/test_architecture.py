"""The house's rules, read from the source: lazy and relative imports count."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src" / "vistok"
FILES = sorted(SOURCE.rglob("*.py"))
# A part imports parts of lower levels only, and itself; configs import configs.
LEVELS = {
    "errors": 0, "config": 1, "config_paths": 1, "units": 1, "rng": 1, "files": 1, "torch_files": 1, "pickled_file": 1, "space": 1, "origin": 1, "page": 1,
    "nn": 2, "engine": 2, "data": 3, "classifier": 3, "tokenizer": 3, "generator": 3, "metrics": 3,
    "shortcut": 3.5, "runs": 4, "recipes": 5, "scoring": 5, "overview": 6, "verbs": 7, "interop": 7, "study": 8, "demo": 8, "start": 8,
    "python": 9, "app": 9, "cli": 10, "__main__": 11, "__init__": 11,
}  # fmt: skip
# What recipes may name, and what names them.
CONFIGS = re.compile(r"(config|units|errors|space|origin|recipes|(\w+\.)*(\w+_)?config)(\.|$)")
OF_RECIPES = {"study.config"}
MAX_FILE, MAX_FUNCTION, MAX_LOOP = 400, 60, 150


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str:
    return module.split(".")[0]


def imports_of(path: Path) -> set[str]:
    """Modules below vistok that a file imports anywhere, lazily too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found |= {_module(f"{node.module}.{alias.name}") or str(node.module) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("vistok.") for name in found if name.startswith("vistok.")}


def _module(name: str) -> str | None:
    place = SOURCE.parent.joinpath(*name.split("."))
    return name if place.with_suffix(".py").is_file() or (place / "__init__.py").is_file() else None


@cache
def imports() -> dict[str, set[str]]:
    """What each module imports."""
    return {module_of(path): imports_of(path) for path in FILES}


def test_levels():
    wrong = []
    for module, imported in imports().items():
        part = part_of(module)
        for other in sorted(imported):
            if part_of(other) == part or (part == "recipes" and other in OF_RECIPES):
                continue
            if (LEVELS[part], LEVELS[part_of(other)]) != (1, 1) and LEVELS[part_of(other)] >= LEVELS[part]:
                wrong.append(f"{module} (level {LEVELS[part]}) imports {other} (level {LEVELS[part_of(other)]})")
    assert not wrong


def test_no_files_import_each_other():
    """However long the circle."""
    circles, finished = [], set()

    def visit(module, path):
        if module in path:
            circles.append(" -> ".join([*path[path.index(module) :], module]))
        elif module in imports() and module not in finished:
            for other in sorted(imports()[module]):
                visit(other, [*path, module])
            finished.add(module)

    for module in imports():
        visit(module, [])
    assert not circles


def test_recipes_import_configs_only():
    assert not [
        f"{module}: {name}"
        for module, imported in imports().items()
        if part_of(module) == "recipes"
        for name in imported
        if not CONFIGS.match(name)
    ]


def test_what_only_reads_needs_no_torch():
    """All of the command line, recipes and studies: what a report or a list of runs needs."""
    names = [f"vistok.{module}" for module in imports() if part_of(module) in ("cli", "recipes", "study")]
    names.append("vistok.verbs.show")  # what these commands print, imported as they run
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {names}]\n"
        "import vistok.recipes as r; r.all_recipes(); r.find_recipe('fashion_crt'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from vistok.cli import app\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print([m for m in ('torch', 'numpy', 'pydantic', 'matplotlib', 'pandas', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_encoding_never_imports_what_is_for_training_only():
    code = (
        "import sys, torch\n"
        "from vistok.tokenizer.networks.conv import ConvTokenizer\n"
        "from vistok.runs.load import load_tokenizer\n"
        "print([m for m in sys.modules if m.startswith('vistok.tokenizer.') and "
        "m.rsplit('.', 1)[1] in ('crt', 'discriminator', 'perceptual', 'losses')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sizes():
    wrong = []
    for path in FILES:
        text = path.read_text()
        if (lines := len(text.splitlines())) > MAX_FILE:
            wrong.append(f"{path.relative_to(SOURCE)} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > (MAX_LOOP if (path.name, node.name) == ("loop.py", "train") else MAX_FUNCTION):
                    wrong.append(f"{path.relative_to(SOURCE)}: {node.name} has {length} lines")
    assert not wrong


def test_nothing_is_unpickled():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            # LlamaGen reads nothing but pickled files; others' are read by an unpickler that runs nothing.
            if name == "torch.save":
                assert path.name == "llamagen.py", f"{path}: {name}"
            assert name not in ("pickle.load", "pickle.loads", "eval", "exec"), f"{path}: {name}"
            if name in ("torch.load", "torch.hub.load_state_dict_from_url"):
                assert "weights_only=True" in ast.unparse(node), f"{path}: {name} without weights_only=True"
            if name == "np.load":
                assert "allow_pickle=True" not in ast.unparse(node)


def test_images_are_opened_in_one_place():
    """Where it is said which formats are read: some others start programs."""
    opening = re.compile(r"\bImage\.open\(|\bdecode_image\(|\bread_image as\b|\bimread\(|\.io\.read_image\(")
    found = [path.name for path in FILES if opening.search(path.read_text())]
    assert found == ["image_file.py"]


def test_project_stands_alone():
    for path in FILES:
        assert "../shared" not in path.read_text()
