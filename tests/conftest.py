"""Shared fixtures: real images, a toy tokenizer and generator, threads."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vistok.engine.log import Progress
from vistok.nn import gated, keyed_noise, native_library, norm_silu, rms_norm

# One thread a worker, also for the programs that tests start: two teams of threads on the same cores wait for each other.
THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
REPOSITORY = Path(__file__).resolve().parent.parent


# Files that take longest go first, so that two workers end at about the same time.
LONGEST = ("test_tasks", "test_study", "test_parallel", "test_engine", "test_distributed", "test_cli", "test_inception")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; tests stay in order within each."""
    names = [*LONGEST]
    items.sort(key=lambda item: names.index(item.path.stem) if item.path.stem in names else len(names))


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all workers share."""
    place = tmp_path_factory.getbasetemp()
    return place.parent if "PYTEST_XDIST_WORKER" in os.environ else place


@pytest.fixture(scope="session", autouse=True)
def _machine(shared) -> Iterator[None]:
    """Threads, and a cache folder of the tests' own: one for all workers, which then compile and draw things once."""
    torch.set_num_threads(THREADS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(THREADS))
        patch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
        # Validations of toy runs, by the hundred, on fewer images.
        patch.setattr("vistok.verbs.train_tokenizer.EVAL_IMAGES", 100)
        patch.setattr("vistok.verbs.train_generator.EVAL_IMAGES", 200)
        yield


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """A test that draws numbers sees the same ones whenever it runs, alone or after others."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def fresh_libraries(monkeypatch, tmp_path) -> Iterator[Path]:
    """An empty folder for C++ libraries, and none remembered: what a test finds without a compiler ends with the test."""
    kept = [native_library.compiled_library, *(module._library for module in (gated, keyed_noise, norm_silu, rms_norm))]
    for library in kept:
        library.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "vistok" / "native"
    for library in kept:
        library.cache_clear()


@pytest.fixture(scope="session")
def fashion_root() -> Path:
    """Where Fashion-MNIST lies; fetched on the first use."""
    from vistok.data.images import fashion_mnist

    fashion_mnist.prepare(REPOSITORY / "data")
    return REPOSITORY / "data"


@pytest.fixture(scope="session")
def quiet() -> Progress:
    return Progress(quiet=True)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory) -> Path:
    """Colour images of three kinds, of different sizes and formats, one sub-folder per class."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for label, name in enumerate(("circles", "stripes", "waves")):
        (root / name).mkdir()
        for i in range(30):
            height, width = int(generator.integers(40, 90)), int(generator.integers(40, 90))
            y, x = np.mgrid[:height, :width] / 20.0
            phase = generator.uniform(0, 6)
            pattern = (np.hypot(x - 2, y - 2), x + y, np.sin(x) + y)[label]
            channels = [127.5 + 127 * np.sin(pattern * (k + 1) + phase) for k in range(3)]
            image = Image.fromarray(np.stack(channels, -1).astype(np.uint8))
            image.save(root / name / f"{i:02d}.{'jpg' if i % 2 else 'png'}")
    return root


@pytest.fixture(scope="session")
def toy_runs(shared, tmp_path_factory, fashion_root, quiet):
    """A trained toy tokenizer, its caches and a trained toy generator: (tokenizer run, caches, generator run).

    Trained by one worker; each has a copy of its own.
    """
    from vistok.config import override
    from vistok.files import only_one
    from vistok.recipes import find_recipe
    from vistok.verbs import train_generator, train_tokenizer
    from vistok.verbs.cache_latents import cache_tokens

    config = override(find_recipe("debug_crt"), [f'data.root="{fashion_root}"', "data.max_images=400"])
    trained, splits = shared / "toy_runs", ("train", "val", "test")
    with only_one(trained):  # what is finished is left alone
        tokenizer = train_tokenizer.prepare(config, trained).train(quiet).path
        caches = {split: cache_tokens(tokenizer, split, quiet) for split in splits}
        job = train_generator.prepare(find_recipe("debug_ar"), caches["train"], caches["val"], tokenizer, trained)
        generator = job.train(quiet).path
    runs = shutil.copytree(trained, tmp_path_factory.mktemp("copy") / "runs")
    caches = {split: cache_tokens(runs / tokenizer.name, split, quiet) for split in splits}
    return runs / tokenizer.name, caches, runs / generator.name
