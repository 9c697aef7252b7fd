"""Configs and token caches that nobody meant: taken whole, or refused with one sentence."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import tiny_networks
from vistok.config import override
from vistok.data.latents.cache import LatentCache, LatentManifest
from vistok.data.latents.writer import LatentCacheWriter
from vistok.engine.weights import load_weights, save_weights, weights_digest
from vistok.errors import UserError
from vistok.interop.hub import import_hub
from vistok.recipes import find_recipe
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.load import load_generator, load_tokenizer, load_tokenizer_of
from vistok.scoring.evaluators import choose_evaluator
from vistok.space import token_grid
from vistok.verbs import train_classifier, train_generator, train_tokenizer

FACTS = LatentFacts(token_grid(7, 7, 64), 2)
PLANS = {
    "debug_crt": lambda config: train_tokenizer.plan(config, 100),
    "debug_crt_gan": lambda config: train_tokenizer.plan(config, 100),
    "debug_ar": lambda config: train_generator.plan(config, FACTS, 100),
    "debug_classifier": lambda config: train_classifier.plan(config, 100),
}


def recipe(name):
    if name == "debug_crt_gan":
        return override(find_recipe("debug_crt"), ["losses.adversarial={}"])
    return find_recipe(name)


def paths(value, prefix=""):
    """Every path of a config and the type of what it holds, inner ones too."""
    for name, inner in value.items():
        yield prefix + name, type(inner)
        if isinstance(inner, dict):
            yield from paths(inner, f"{prefix}{name}.")


PATHS = {name: sorted(paths(json.loads(recipe(name).to_json())), key=str) for name in PLANS}
NUMBERS = st.integers(-2, 3) | st.sampled_from([7, 16, 1e-9, 0.5, 1.5, -0.5, 1e9, 2**40, 1e400])
WORDS = st.sampled_from(
    ["", "l2_post", "ce_post", "l2_pre_normalized", "fsq", "vq", "folder", "cosine", "constant", "bfloat16", "float32",
     "0 steps", "3 epochs", "1e9 flops", "-1 steps", "5 percent", "200 percent", "7 tokens", "cuda:99", "skip", "../x"]
)  # fmt: skip
VALUES = NUMBERS | WORDS | st.none() | st.booleans() | st.lists(NUMBERS, max_size=4) | st.just({})
LIKELY = {
    bool: st.booleans(),
    int: st.integers(1, 8),
    float: st.floats(0, 1),
    list: st.lists(st.integers(1, 3), min_size=1, max_size=4),
}


@st.composite
def changes(draw):
    """Return a recipe and a few assignments to paths it has, or nearly has."""
    name = draw(st.sampled_from(sorted(PLANS)))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        path, kind = draw(st.sampled_from(PATHS[name]))
        value = draw(LIKELY.get(kind, VALUES) if draw(st.booleans()) else VALUES)
        if draw(st.integers(0, 9)) == 9:
            path = path[:-1]
        found.append(f"{path}={value if isinstance(value, str) else json.dumps(value)}")
    return name, found


@settings(max_examples=30, deadline=None)
@given(changes())
def test_a_config_is_planned_or_refused(change):
    """A config that is taken can be built and run once; else the sentence says which path and what is allowed."""
    name, assignments = change
    try:
        config = override(recipe(name), assignments)
        PLANS[name](config)
    except UserError as error:
        assert len(str(error)) > 10


FOUND = [  # once planned into a traceback, an overflow or a network that could not be built
    ("debug_classifier", "classifier.stage_channels=[]"),
    ("debug_classifier", "batch_size=1"),
    ("debug_crt", "tokenizer.decoder.channels=1099511627776"),
    ("debug_crt", "tokenizer.encoder.multipliers=[]"),
    ("debug_crt_gan", "losses.adversarial.num_layers=7"),
    ("debug_ar", "generator.depth=1099511627776"),
    ("debug_ar", "generator.width=1099511627776"),
]


@pytest.mark.parametrize(("name", "assignment"), FOUND)
def test_configs_that_fuzzing_found_are_refused_by_name(name, assignment):
    with pytest.raises(UserError, match=assignment.split("=")[0].split(".")[-1]):
        PLANS[name](override(recipe(name), [assignment]))


TOKENS = np.arange(42).reshape(7, 6) % 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches") / "whole"
    manifest = LatentManifest(
        tokenizer_digest="t", grid=(2, 3), codebook_size=20, dataset="d", data_digest="x", split="train",
        num_images=7, class_names=("a", "b"),
    )  # fmt: skip
    writer = LatentCacheWriter(folder, manifest, 3)
    writer.prepare(np.arange(7) % 2)
    for number in writer.missing():
        writer.write(number, torch.from_numpy(TOKENS[number * 3 : number * 3 + 3]), 0.5)
    writer.finish()
    LatentCache(folder).verify()
    return folder


FILES = ("tokens.npy", "labels.npy", "manifest.json", "written.json")


def mangle(data, rng):
    """Return bytes with bits flipped, cut off, put in or all made up; JSON also with other values."""
    data = bytearray(data)
    how = rng.choice(["flip", "cut", "insert", "noise", "empty", "json"])
    if how == "flip":
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[rng.randrange(len(data)) :]
    elif how == "insert":
        at = rng.randrange(len(data))
        data[at:at] = rng.randbytes(rng.randint(1, 9))
    elif how == "noise":
        data = bytearray(rng.randbytes(rng.randint(0, 200)))
    elif how == "empty":
        data = bytearray()
    elif data[:1] == b"{":
        found = json.loads(data)
        name = rng.choice(sorted(found))
        found[name] = rng.choice(
            [None, -1, 0, 1e308, 10**30, "x", [], {}, [1, -1], [10**9, 10**9], {"tokens.npy": 3}, float("nan")]
        )
        if rng.random() < 0.2:
            del found[name]
        data = bytearray(json.dumps(rng.choice([found, found, found, [found], 3, None])).encode())
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (
            "tokens.npy",
            b"\x93NUMPY\x01\x00\x76\x00{{'descr': '<i4', 'fortran_order': False, 'shape': (7, 6), }" + b" " * 60,
        ),
        ("written.json", b'{"sha256": {"../tokens.npy": 3}, "seconds": 1.0}'),
        ("written.json", b'{"sha256": {}, "seconds": 1.0}'),
        ("manifest.json", b"[" * 100000),
    ],
)
def test_mangled_files_that_fuzzing_found(whole, name, data):
    folder = whole.parent / "found"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    (folder / name).write_bytes(data)
    with pytest.raises(UserError, match="vistok cache"):
        LatentCache(folder).verify()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FILES), st.randoms(use_true_random=False))
def test_a_cache_is_the_one_that_was_written_or_refused(whole, name, rng: random.Random):
    folder = whole.parent / "mangled"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    before = (folder / name).read_bytes()
    after = mangle(before, rng)
    (folder / name).write_bytes(after)
    try:
        cache = LatentCache(folder)
        cache.verify()
        assert cache.seconds >= 0
    except UserError as error:
        assert str(folder) in str(error) and "vistok cache" in str(error)
    else:
        assert np.array_equal(cache.latents, TOKENS)
        assert cache.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
        assert cache.manifest == LatentCache(whole).verify().manifest
    assert (folder / name).read_bytes() == after, "looking changes nothing"


def network(parts):
    """(weights, header) of a tiny network, without the sum of the header, which would find every change."""
    _, state, metadata = parts
    return state, {"schema_version": 1, "digest": weights_digest(state), **metadata}


TINY = {
    "tokenizer": network(tiny_networks.tokenizer_parts()),
    "generator": network(tiny_networks.generator_parts(Path("nowhere"), "0" * 64)),
    "classifier": network(tiny_networks.classifier_parts()),
}
ODD = st.sampled_from(
    [None, [], {}, "", "x", -1, 0, 0.5, True, 7, 10**9, 2**40, 10**30, float("nan"), float("inf"), [1, -1], [10**9] * 2, [None],
     {"a": []}, "NEST"]
)  # fmt: skip


@st.composite
def damaged_headers(draw):
    """Return a kind of network and changes of its header: keys dropped, or replaced by what nobody wrote."""
    name = draw(st.sampled_from(sorted(TINY)))
    header, found = TINY[name][1], []
    for _ in range(draw(st.integers(1, 2))):
        path, inner = [], header
        while isinstance(inner, dict) and inner and (not path or draw(st.integers(0, 2))):
            path.append(draw(st.sampled_from(sorted(inner))))
            inner = inner[path[-1]]
        found.append((path, draw(st.just("DROP") | ODD)))
    return name, found


def damaged(header, changes):
    """Return a header's JSON with changes; both copies of the network's config are changed alike, where one is."""
    header = json.loads(json.dumps(header))
    kind = header["model"]
    for path, value in changes:
        twins = [path, ["run_config", kind, *path[1:]]] if path[0] == "config" and len(path) > 1 else [path]
        for *outer, last in twins:
            place = header
            for part in outer:
                place = place.get(part) if isinstance(place, dict) else None
            if isinstance(place, dict):
                place[last] = value
                if value == "DROP":
                    del place[last]
    return json.dumps(header).replace('"NEST"', "[" * 500 + "]" * 500)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(damaged_headers())
def test_a_damaged_header_is_read_or_named(tmp_path_factory, found):
    """By every verb that reads one; what is refused leaves nothing behind."""
    name, changes = found
    folder = tmp_path_factory.mktemp("header")
    file = folder / "model.safetensors"
    state, header = TINY[name]
    file.write_bytes(save(state, metadata={"vistok": damaged(header, changes)}))
    readers = {
        "tokenizer": [lambda: import_hub(str(folder), folder / "run"), lambda: load_tokenizer(file)],
        "generator": [lambda: load_generator(file), lambda: load_tokenizer_of(load_generator(file))],
        "classifier": [lambda: choose_evaluator(tiny_networks.DATA, str(file), class_names=["cats", "dogs"])],
    }
    for read in readers[name]:
        try:
            read()
        except UserError as error:
            assert len(str(error)) < 900 and not (folder / "run").exists()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.randoms(use_true_random=False))
def test_damaged_weights_are_named(tmp_path_factory, rng: random.Random):
    """Bits flipped, pieces cut off or put in, anywhere: never other pictures, never a traceback."""
    file = tmp_path_factory.mktemp("bits") / "w.safetensors"
    save_weights(file, {"a": torch.arange(4.0), "b": torch.ones(2, 2)}, {"model": "x", "grid": "7x7"})
    before = file.read_bytes()
    wanted = load_weights(file)
    file.write_bytes(mangle(before, rng))
    try:
        state, header = load_weights(file)
    except UserError as error:
        assert str(file) in str(error)
    else:
        assert header == wanted[1]
        assert all(torch.equal(state[name], wanted[0][name]) for name in wanted[0])
