"""The names that Python offers: all listed, documented with shapes, units and an example, and lazy."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import matplotlib
import numpy as np
import pytest
import torch

import vistok
from vistok.errors import UserError
from vistok.python.compare import Comparison
from vistok.python.images import Images, Reconstructions
from vistok.python.run import Run
from vistok.python.scores import Scores
from vistok.python.tokens import Latents
from vistok.runs.find import find_run
from vistok.runs.load import load_generator, load_tokenizer, load_tokenizer_of

REPOSITORY = Path(__file__).resolve().parent.parent
# What the functions return, and the words that their docstrings must have: shapes, units, types.
RETURNED = {
    Run: (), Images: ("(count, channels, height, width)", "uint8"), Reconstructions: ("dB",), Scores: ("dB",),
    Comparison: ("95 %",), Latents: ("int64", "float32", "space.shape"),
}  # fmt: skip
WORDS = {
    "train": ("(count, height, width[, channels])", "uint8", "Example:", "Raises"),
    "run": ("Example:", "Raises"),
    "runs": ("Example:", "Raises", "NaN"),
    "score": ("(batch, channels, height, width)", "[-1, 1]", "dB" , "95 %", "int64", "Example:", "Raises"),
    "compare": ("Example:", "Raises"),
    "tokens": ("(positions,)", "(positions, dim)", "int64", "float32", "Example:", "Raises"),
    "load_tokenizer": ("(batch, channels, height, width)", "[-1, 1]", "Raises"),
    "load_generator": ("(batch,)", "Raises"),
    "from_pretrained": ("Raises",),
    "push_to_hub": ("Raises",),
}  # fmt: skip


# Parameters whose names say all.
UNSAID = ("quiet", "path", "revision", "private", "repo_id", "device")


def methods():
    """Yield (class, name, member) of the public methods and properties of what is returned."""
    for kind in RETURNED:
        of_vistok = set().union(*(vars(base) for base in kind.__mro__ if base.__module__.startswith("vistok")))
        for name in sorted(name for name in of_vistok if not name.startswith("_")):
            yield kind, name, inspect.getattr_static(kind, name)


def function(name: str):
    return getattr(import_module(vistok._PLACES[name]), name)


def test_all_names_are_listed_and_documented():
    assert set(vistok.__all__) == set(vistok._PLACES) == set(WORDS) and sorted(vistok.__all__) == vistok.__all__
    assert set(dir(vistok)) >= {*vistok.__all__, "__version__"}
    for name, words in WORDS.items():
        text = inspect.getdoc(function(name)) or ""
        missing = [word for word in words if word not in text]
        parameters = set(inspect.signature(function(name)).parameters) - set(UNSAID)
        assert not missing + [parameter for parameter in parameters if parameter not in text], name


def test_what_they_return_is_documented():
    for kind, words in RETURNED.items():
        assert not [word for word in words if word not in (inspect.getdoc(kind) or "")], kind
        assert "Example:" in inspect.getdoc(kind)
    undocumented = [f"{kind.__name__}.{name}" for kind, name, member in methods() if not inspect.getdoc(member)]
    assert not undocumented
    assert len(list(methods())) > 30


def test_every_name_is_on_the_page():
    page = (REPOSITORY / "docs" / "python.md").read_text()
    assert not [name for name in vistok.__all__ if f"vistok.{name}" not in page]
    of_runs = [name for kind, name, _ in methods() if kind is Run]
    assert not [name for name in of_runs if f"run.{name}" not in page]
    arguments = [name for name in inspect.signature(function("train")).parameters if name not in page]
    assert not arguments + [name for name in inspect.signature(function("score")).parameters if name not in page]


def test_import_costs_nothing():
    code = (
        "import sys, vistok; dir(vistok); vistok.__all__\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'pydantic', 'PIL', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_package_and_a_function_share_a_name(tmp_path):
    """`vistok.runs` is both, whatever was imported before."""
    import vistok.runs.load

    assert isinstance(vistok.runs, ModuleType) and vistok.runs.load.load_tokenizer is load_tokenizer
    assert vistok.runs(tmp_path).empty
    with pytest.raises(AttributeError, match="'vistok' has no attribute 'trian'; it offers compare"):
        vistok.trian  # noqa: B018


@pytest.fixture(scope="module")
def pair():
    generator = load_generator(find_run("fashion-crt", "generator"))
    return load_tokenizer_of(generator), generator


def test_networks_are_named_as_runs_are(pair, toy_runs, tmp_path, monkeypatch):
    """By a path, a part of a name, `latest`, a shipped name or what training returned."""
    assert vistok.load_generator("fashion_crt").info.digest == pair[1].info.digest
    run = toy_runs[0]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / run.name).symlink_to(run)
    monkeypatch.chdir(tmp_path)
    names = (str(run), run, Run(run), run.name[:-4], "latest")
    assert len({vistok.load_tokenizer(name).info.digest for name in names}) == 1
    with pytest.raises(UserError, match="no tokenizer 'nothing': it is neither a path nor part of a run's name"):
        vistok.load_tokenizer("nothing")


def test_networks_are_one_line(pair):
    tokenizer, generator = pair
    assert repr(tokenizer).startswith("ConvTokenizer: images (1, 28, 28) in [-1, 1] <-> 7x7 tokens of 512 codes (")
    assert repr(generator).startswith("AutoregressiveGenerator: 10 classes -> 7x7 tokens of 512 codes (")
    for network in pair:
        assert (
            "\n" not in repr(network) and network.info.digest[:10] in repr(network) and "M parameters" in repr(network)
        )


def test_networks_take_arrays_and_lists(pair):
    tokenizer, generator = pair
    images = np.random.default_rng(0).uniform(-1, 1, (2, 1, 28, 28))
    tokens = tokenizer.encode(images)
    assert torch.equal(tokens, tokenizer.encode(torch.from_numpy(images).float()))
    for latents in (tokens.numpy(), tokens.tolist(), tokens.int()):
        assert torch.equal(tokenizer.decode(latents), tokenizer.decode(tokens))
    drawn = generator.sample(torch.tensor([8, 7]))
    for labels in ([8, 7], np.array([8, 7]), ["Bag", "Sneaker"], range(8, 6, -1), torch.tensor([8, 7]).int()):
        assert torch.equal(generator.sample(labels), drawn)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda t, g: t.encode(np.zeros((2, 1, 28, 28), np.uint8)), "uint8: .* images / 127.5 - 1"),
        (lambda t, g: t.encode(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)), "uint8: .* images / 127.5 - 1"),
        (lambda t, g: t.encode(255 * np.ones((2, 1, 28, 28))), "must lie in .-1, 1., found 255"),
        (lambda t, g: t.encode([torch.zeros(1, 28, 28)]), "images of type list: .*torch.stack"),
        (lambda t, g: t.encode(np.zeros((1, 28, 28))), r"give one image as images\[None\]"),
        (lambda t, g: t.encode(np.zeros((2, 28, 28, 1))), r"channels come second here.*images.transpose\(0, 3, 1, 2\)"),
        (lambda t, g: t.encode(np.zeros((2, 3, 28, 28))), r"takes \(batch, 1, height, width\)"),
        (lambda t, g: t.encode(np.array(["a"])), "<U1: not numbers"),
        (lambda t, g: t.decode(torch.zeros(2, 49)), "tokens of torch.float32: .*tokens.long"),
        (lambda t, g: t.decode([[512] * 49]), "must lie in 0...511, found 512"),
        (lambda t, g: t.decode([[1, 2], [3, 4]]), r"tokens \(2, 2\): 7x7 has 49 positions"),
        (lambda t, g: t.decode("abc"), "tokens of type str"),
        (lambda t, g: g.sample(3), r"give one as \[label\]"),
        (lambda t, g: g.sample([10]), "labels must lie in 0...9, found 10"),
        (lambda t, g: g.sample(["bag"]), "class 'bag' is unknown; .*Did you mean 'Bag'"),
        (lambda t, g: g.sample(torch.tensor([0.0])), "labels of torch.float32: .*labels.long"),
        (lambda t, g: g.sample([0.5]), "labels .0.5.: wanted class numbers"),
        (lambda t, g: g.sample([[0]]), r"labels of shape \(1, 1\)"),
    ],
)  # fmt: skip
def test_networks_refuse_other_things_by_name(pair, call, sentence):
    with pytest.raises(UserError, match=sentence):
        call(*pair)


def test_figures_leave_a_notebooks_own_alone():
    from vistok.page.plots import png_of

    before = {name: value for name, value in matplotlib.rcParams.items() if name != "backend"}
    backend = matplotlib.rcParams._get("backend")
    drawn = png_of(lambda figure: figure.add_subplot().plot([1, 2]), (2, 2))
    assert drawn[:4] == b"\x89PNG"
    assert {name: value for name, value in matplotlib.rcParams.items() if name != "backend"} == before
    assert matplotlib.rcParams._get("backend") is backend
