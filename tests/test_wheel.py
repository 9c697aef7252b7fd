"""A built wheel, installed outside the repository, passes the README's commands; and all of its files are in it."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from conftest import REPOSITORY
from vistok.errors import UserError

SHORT = ("--set", 'length="6 steps"', "--set", "batch_size=8", "--set", "execution.tensorboard=false")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the sources, so that building leaves nothing in the repository."""
    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(REPOSITORY / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel"]
    done([*pip, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(copy)], copy)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def vistok(wheel, tmp_path_factory):
    """Runs a vistok command in an empty folder, by a new environment that has the wheel and our packages' dependencies."""
    root = tmp_path_factory.mktemp("environment")
    done([sys.executable, "-m", "venv", "--without-pip", str(root)], root)
    python = root / "bin" / "python"
    # Installed before our packages are in sight, among which is the vistok of the repository.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    done([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], root)
    (packages,) = root.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "dependencies.pth").write_text("\n".join(ours))
    place = tmp_path_factory.mktemp("outside")

    def run(*words: str) -> str:
        return done([str(root / "bin" / "vistok"), *words], place)

    run.place = place
    run.imported = Path(done([str(python), "-c", "import vistok; print(vistok.__file__)"], place).strip())
    run.packages = packages
    return run


def done(command: list[str], place: Path) -> str:
    """Run a command in a folder; return what it printed, on both streams."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    finished = subprocess.run(
        command,
        cwd=place,
        env={**kept, "PYTHONNOUSERSITE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    said = finished.stdout + finished.stderr
    assert finished.returncode == 0, f"{' '.join(command)}\n{said[-3000:]}"
    return said


def newest(vistok, name: str) -> str:
    """The run directory of a recipe, as a path in the folder outside."""
    (path,) = vistok.place.glob(f"runs/{name}-??????????")
    return str(path.relative_to(vistok.place))


def test_the_wheel_holds_every_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix("vistok/") for name in archive.namelist() if name.startswith("vistok/")}
    package = REPOSITORY / "src" / "vistok"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert len(files) > 200 and packed == files


def test_what_is_imported_is_the_wheels(vistok):
    assert vistok.imported.is_relative_to(vistok.packages)


def test_from_a_folder_of_images_to_scores(vistok, photo_folder):
    folder = str(photo_folder)
    assert "images64_vq" in vistok("recipes")
    assert "40 images in samples.png" in vistok("sample", "--from", "fashion-crt")
    assert "vistok train tokenizer" in vistok("start", folder)
    kept = ("--init-from", "pictures64", "--set", 'trains="decoder"')
    vistok("train", "tokenizer", "images64_vq", "--data", folder, *kept, *SHORT)
    tokenizer = newest(vistok, "images64-vq")
    vistok("cache", tokenizer, "--split", "train", "--view", "2-crops")
    vistok("train", "generator", "images64_ar_small", "--tokenizer", tokenizer, "--init-from", "pictures64", *SHORT)
    generator = newest(vistok, "images64-ar-small")
    assert "8 images in drawn.png" in vistok(
        "sample", generator, "--count", "8", "--out", "drawn.png", "--class", "waves"
    )
    picture = next(photo_folder.rglob("*.png"))
    assert "PSNR" in vistok("reconstruct", str(picture), "--tokenizer", tokenizer, "--out", "kept.png")
    for file in ("samples.png", "drawn.png", "kept.png"):
        assert (vistok.place / file).read_bytes().startswith(b"\x89PNG")
    assert "rFMD" in vistok("evaluate", "tokenizer", tokenizer, "--split", "train", "--evaluator", "imagenet")
    scored = vistok("evaluate", "generator", generator, "--split", "train", "--count", "24", "--evaluator", "imagenet")
    assert "gFMD" in scored and "cost: 64 calls" in scored


def test_two_tokenizers_are_compared(vistok, photo_folder):
    for recipe in ("images32_vq", "images32_crt"):
        # Codes begin after 20 steps.
        vistok("train", "tokenizer", recipe, "--data", str(photo_folder), *SHORT, "--set", 'length="24 steps"')
        vistok("evaluate", "tokenizer", newest(vistok, recipe.replace("_", "-")), "--split", "train")
    compared = vistok("compare", newest(vistok, "images32-vq"), newest(vistok, "images32-crt"))
    assert "PSNR" in compared and "(95 %)" in compared


def test_a_study_that_was_sent_gives_advice(vistok):
    sent = vistok.place / "fashion"
    sent.mkdir()
    for name in ("runs.csv", "fits.json", "claims.json"):
        shutil.copy(REPOSITORY / "results" / "fashion" / name, sent)
    assert "l2-post-4" in vistok("advise", "--study", "fashion", "--budget", "2e13")


def test_the_demo_runs(vistok):
    from vistok.data.images import fashion_mnist

    try:
        fashion_mnist.prepare(REPOSITORY / "data")
    except UserError as error:
        pytest.skip(f"no Fashion-MNIST: {error}")
    (vistok.place / "data").symlink_to(REPOSITORY / "data")
    vistok("demo", "--tiny")
    page = (vistok.place / "runs" / "demo-tiny" / "index.html").read_text()
    assert "<img" in page and json.loads((vistok.place / "runs" / "demo-tiny" / "demo.json").read_text())["results"]


def test_the_readmes_options_exist(vistok):
    """Every command in the README's blocks is one that the installed program has, with each of its options."""
    text = (REPOSITORY / "README.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    commands = [
        line.split("#")[0].split() for block in blocks for line in block.splitlines() if line.startswith("vistok ")
    ]
    assert len(commands) > 15
    helps: dict[tuple[str, ...], str] = {}
    for words in commands:
        depth = 3 if words[1] in ("train", "evaluate", "study", "import", "export") else 2
        verb = tuple(words[1:depth])
        if verb not in helps:
            helps[verb] = vistok(*verb, "--help")
        for option in (word for word in words[depth:] if word.startswith("--")):
            assert option in helps[verb], f"{' '.join(words)}: no {option}"
