"""What a name, digest or cache key must cover: one case for each kind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vistok.errors import UserError
from vistok.space import token_grid


@pytest.fixture
def no_counting(monkeypatch):
    """Plans without counting FLOPs, which takes seconds and has no part in a name."""
    from vistok.study.run import grid

    monkeypatch.setattr(grid, "_tokenizer_plan", lambda config, images: (1e9, 10))
    monkeypatch.setattr(
        grid, "_generator_cost", lambda config, space, classes, images: (1e9, *2 * (int(config.length.value),))
    )


@pytest.fixture
def small_study(fashion_root, no_counting):
    """One tokenizer choice, one generator for one length."""
    from vistok.config import override
    from vistok.recipes import find_recipe
    from vistok.study.config import Choice
    from vistok.units import steps

    study = override(
        find_recipe("debug_study", "study"), [f'tokenizer.data.root="{fashion_root}"', "tokenizer.data.max_images=40"]
    )
    main = study.grids[0].replace(
        tokenizers=(Choice(name="none"),), generators=(Choice(name="m"),), lengths=(steps(6),), seeds=(0,)
    )
    return study.replace(grids=(main,))


def save_classifier(path: Path, seed: int) -> Path:
    """Write an untrained evaluator of Fashion-MNIST."""
    import torch

    from vistok.engine.weights import save_weights
    from vistok.nn.classifier import Classifier
    from vistok.nn.classifier_config import ClassifierConfig

    torch.manual_seed(seed)
    model = Classifier(ClassifierConfig(stage_channels=(4,), feature_dim=4))
    names = [str(number) for number in range(10)]
    known = {"model": "classifier", "recipe": "toy", "dataset": "fashion_mnist", "class_names": names, "weights": "ema"}
    header = {**known, "config": json.loads(model.config.to_json()), "run_config": {}, "training": {}}
    save_weights(path, model.state_dict(), header)
    return path


def tasks_by_kind(study) -> dict:
    from vistok.study.run.grid import expand

    return {task.kind: task for task in expand(study)}


def record_of(task, evaluator: str = "e" * 64, **row) -> dict:
    """Return a record such as a run of this task leaves, its scores made up."""
    from vistok.study.run.grid import GeneratorTask
    from vistok.study.run.rows import tokenizer_columns

    config = json.loads(task.config.to_json())
    config.pop("execution")
    is_generator = isinstance(task, GeneratorTask)
    tokenizer = task.tokenizer if is_generator else task
    columns = tokenizer_columns(tokenizer.config, tokenizer.image_size)
    score = {"value": 1.0, "protocol": {"extractor_digest": evaluator, "num_samples": 100}}
    common = {
        "kind": task.kind, "run": task.run, "choice": task.choice, "data": "fashion_mnist", "image_size": 28,
        "seed": task.config.seed, **columns, "params": 10, "steps": 6, "train_flops": 1e9, "seconds": 1.0,
        "by_position": " ".join(["1.0"] * columns["num_tokens"]),
    }  # fmt: skip
    own = {"psnr": 20.0, "rfmd": 1.0, "position_entropy": 1.0}
    detail = {"scores": {"rfmd": score}}
    if is_generator:
        own = {"gfmd": 2.0, "gfmd_val": 2.0, "val_nats_per_token": 3.0, "tokenizer_run": tokenizer.run}
        own["tokenizer_choice"] = tokenizer.choice
        guidance = {"num_samples": 40, "scores": {"1": score, "2": score}}
        detail = {"guidance": guidance, "gfmd": {"1": score}}
    made = {"run": task.run, "row": {**common, **own, **row}, "config": config, "detail": detail}
    return {**made, "directory": f"{config['name']}-0123456789", "provenance": {}}


def test_a_studys_names_cover_its_evaluators_contents_and_not_its_path(small_study, tmp_path):
    first, second = save_classifier(tmp_path / "a.safetensors", 0), save_classifier(tmp_path / "b.safetensors", 1)
    copy = Path(shutil.copy(first, tmp_path / "copy.safetensors"))

    def names(path: Path | None) -> dict:
        tasks = tasks_by_kind(small_study.replace(evaluator=path and str(path)))
        return {kind: task.run for kind, task in tasks.items()}

    found = names(first)
    assert names(copy) == found
    for other in (names(second), names(None)):
        assert all(other[kind] != found[kind] for kind in ("tokenizer", "cache", "generator"))


def test_a_record_under_an_old_name_is_found_where_it_is_of_this_evaluator(small_study, tmp_path):
    from vistok.scoring.evaluators import evaluator_digest
    from vistok.study.run.former import as_recorded
    from vistok.study.run.grid import expand
    from vistok.study.run.record import StudyFolder

    path = save_classifier(tmp_path / "a.safetensors", 0)
    digest = evaluator_digest(small_study.tokenizer.data, str(path))
    tasks = tasks_by_kind(small_study.replace(evaluator=str(path)))
    # What versions before called them: without the evaluator, or by its path.
    old = tasks_by_kind(small_study)
    assert old["tokenizer"].run in tasks["tokenizer"].former
    folder = StudyFolder(tmp_path / "results")
    for scored_by, expected in (("f" * 64, tasks), (digest, old)):
        folder.write(record_of(old["tokenizer"], scored_by))
        found, told = as_recorded(expand(small_study.replace(evaluator=str(path))), folder)
        assert [task.run for task in found[:2]] == [expected[kind].run for kind in ("tokenizer", "cache")]
        assert bool(told) == (scored_by == digest)
    (name,) = [name for name in tasks["generator"].former if name != old["generator"].run][:1]
    folder.write(
        record_of(old["generator"], digest) | {"run": name, "row": record_of(old["generator"])["row"] | {"run": name}}
    )
    found, told = as_recorded(expand(small_study.replace(evaluator=str(path))), folder)
    assert found[2].run == name and found[2].tokenizer.run == old["tokenizer"].run
    assert "2 records" in told[0] and "keep their old names" in told[0]


@pytest.fixture
def lpips_run(fashion_root, tmp_path, monkeypatch):
    """A tokenizer run with a perceptual network from a file, and a function that prepares it without counting FLOPs."""
    from vistok.config import override
    from vistok.recipes import find_recipe
    from vistok.runs.plan import Plan
    from vistok.verbs import train_tokenizer

    monkeypatch.setattr(train_tokenizer, "plan", lambda config, images: Plan(1, ((0, 1.0),), {"all": 1}, 49, 1, 1))
    (tmp_path / "vgg.pth").write_bytes(b"one")
    losses = {"network": "lpips", "vgg_file": str(tmp_path / "vgg.pth")}
    settings = [f'data.root="{fashion_root}"', "data.max_images=40", f"losses.perceptual={json.dumps(losses)}"]
    config = override(find_recipe("debug_vq"), settings)
    return config, lambda config: train_tokenizer.prepare(config, tmp_path / "runs")


def test_a_runs_name_covers_its_perceptual_networks_contents_and_not_its_path(lpips_run, tmp_path, quiet, capfd):
    from vistok.config import fingerprint, override
    from vistok.engine.log import Progress

    config, prepare = lpips_run
    first = prepare(config)
    copy = Path(shutil.copy(tmp_path / "vgg.pth", tmp_path / "elsewhere.pth"))
    moved = prepare(override(config, [f"losses.perceptual.vgg_file={json.dumps(str(copy))}"]))
    assert moved.run_dir.path == first.run_dir.path
    (tmp_path / "vgg.pth").write_bytes(b"two")
    second = prepare(config)
    assert second.run_dir.path != first.run_dir.path and not second.naming
    # Earlier versions named it by the path.
    digest = first.facts["data_digest"]
    old = tmp_path / "runs" / f"{config.name}-{fingerprint(config, data=digest)}"
    old.mkdir(parents=True)
    (old / "finished.json").write_text('{"steps": 1}')
    found = prepare(config)
    assert found.run_dir.path == old
    found.train(Progress())
    assert (
        "keeps its old name, which did not cover the contents of losses.perceptual.vgg_file" in capfd.readouterr().err
    )
    (tmp_path / "vgg.pth").unlink()
    with pytest.raises(UserError, match="vgg_file .*: not found"):
        prepare(config)
    logits = [override(config, ["losses.perceptual=null", f'losses.logits={{"file": {json.dumps(str(path))}}}'])
              for path in (copy, Path(shutil.copy(copy, tmp_path / "again.pth")))]  # fmt: skip
    one, again = (prepare(config).run_dir.path for config in logits)
    assert one == again and one != first.run_dir.path
    copy.write_bytes(b"three")
    assert prepare(logits[0]).run_dir.path != one
    copy.unlink()
    with pytest.raises(UserError, match=r"losses\.logits\.file .*: not found"):
        prepare(logits[0])


def test_a_run_of_images_that_had_another_digest_is_found_under_its_old_name(tmp_path):
    from vistok.config import fingerprint
    from vistok.data.images.sources import ArraySource
    from vistok.recipes import find_recipe
    from vistok.runs.identity import former_names
    from vistok.runs.job import run_directory

    config = find_recipe("debug_vq")
    source = ArraySource(np.zeros((1, 4, 4, 1), np.uint8), np.zeros(1), ("a",), "new")
    source.former_digests = ("old",)
    own, told = run_directory(config, tmp_path, former_names(config, source), data=source.digest)
    assert own.path.name == f"{config.name}-{fingerprint(config, data='new')}" and told == []
    old = tmp_path / f"{config.name}-{fingerprint(config, data='old')}"
    old.mkdir()
    found, told = run_directory(config, tmp_path, former_names(config, source), data=source.digest)
    assert found.path == old and "which did not cover all of the images' contents" in told[0]
    own.path.mkdir()
    assert run_directory(config, tmp_path, former_names(config, source), data=source.digest)[0].path == own.path


def save_tokenizer(path: Path, seed: int):
    """Write an untrained toy tokenizer; return its config and digest."""
    import torch

    from vistok.engine.weights import save_weights
    from vistok.recipes import find_recipe
    from vistok.tokenizer.networks.conv import ConvTokenizer

    torch.manual_seed(seed)
    run = find_recipe("debug_vq")
    plain = json.loads(run.to_json())
    header = {"model": "tokenizer", "recipe": "toy", "dataset": "fashion_mnist", "class_names": ["a"], "training": {}}
    state = ConvTokenizer(run.tokenizer).state_dict()
    return run, save_weights(path, state, {**header, "config": plain["tokenizer"], "run_config": plain})


def test_the_weights_that_a_studys_tokenizers_begin_with_are_in_their_names(small_study, tmp_path):
    path = tmp_path / "begun.safetensors"
    begun = small_study.replace(tokenizer=small_study.tokenizer.replace(init_from=str(path)))
    names = set()
    for seed in (0, 1):
        save_tokenizer(path, seed)
        names.add(tasks_by_kind(begun)["tokenizer"].run)
    assert len({*names, tasks_by_kind(small_study)["tokenizer"].run}) == 3


@pytest.mark.parametrize("wrong", [{"tokenizer_digest": "0" * 64}, {"codebook_size": 77}])
def test_a_generator_never_trains_on_another_tokenizers_tokens(tmp_path, wrong):
    from vistok.data.latents.cache import LatentCache, LatentManifest
    from vistok.data.latents.writer import LatentCacheWriter
    from vistok.recipes import find_recipe
    from vistok.verbs import train_generator

    run, digest = save_tokenizer(tmp_path / "t.safetensors", 0)
    right = {
        "tokenizer_digest": digest, "grid": run.tokenizer.layout.sides, "codebook_size": run.tokenizer.quantizer.codebook_size,
        "dataset": "fashion_mnist", "data_digest": "d", "num_images": 2, "class_names": ("a",),
    }  # fmt: skip
    caches = []
    for split in ("train", "val"):
        import torch

        writer = LatentCacheWriter(tmp_path / split, LatentManifest(**(right | wrong), split=split), 2)
        writer.prepare(np.zeros(2, np.int64))
        writer.write(0, torch.zeros(2, run.tokenizer.num_tokens, dtype=torch.int64), 0.1)
        writer.finish()
        writer.close()
        caches.append(LatentCache(tmp_path / split))
    with pytest.raises(UserError) as error:
        train_generator.prepare(find_recipe("debug_ar"), *caches, tmp_path / "t.safetensors", tmp_path)
    found = wrong.get("tokenizer_digest", digest)[:12]
    assert (
        found in str(error.value) and digest[:12] in str(error.value)
    ) or "tokens of 77 codes, this run needs" in str(error.value)


@pytest.fixture
def recorded(small_study, tmp_path):
    """A folder with the records of the small study."""
    from vistok.study.run.record import StudyFolder

    folder = StudyFolder(tmp_path / "results")
    tasks = tasks_by_kind(small_study)
    for kind in ("tokenizer", "generator"):
        folder.write(record_of(tasks[kind]))
    return folder, tasks


def test_a_record_of_an_edited_choice_is_left_out_and_named(small_study, recorded):
    from vistok.study.findings.table import collect

    folder, tasks = recorded
    whole, told = collect(folder, small_study)
    assert list(whole.run) == [tasks["tokenizer"].run, tasks["generator"].run] and told == ""
    # The choice had another learning rate once; its record is still there.
    record = record_of(tasks["tokenizer"], rfmd=99.0)
    record["run"] = record["row"]["run"] = "none-s0-0000000000"
    record["config"]["optimizer"]["lr"] *= 2
    folder.write(record)
    # A generator on that tokenizer, and one of a length that no grid has.
    for name, changes, config in (("on", {"tokenizer_run": record["run"]}, {}), ("long", {}, {"length": "60 steps"})):
        other = record_of(tasks["generator"], gfmd=99.0, **changes)
        other["run"] = other["row"]["run"] = f"m-{name}"
        other["config"] |= config
        folder.write(other)
    table, told = collect(folder, small_study)
    assert table.equals(whole) and float(table.rfmd.mean()) == 1.0
    assert told.startswith("left out 3 records") and all(name in told for name in (record["run"], "m-on", "m-long"))
    faster = small_study.tokenizer.optimizer.replace(lr=1.0)
    with pytest.raises(UserError, match="none is left. Use the same --set"):
        collect(folder, small_study.replace(tokenizer=small_study.tokenizer.replace(optimizer=faster)))


def test_records_of_one_cell_or_of_two_evaluators_are_not_averaged(small_study, recorded, tmp_path):
    from vistok.scoring.evaluators import evaluator_digest
    from vistok.study.findings.table import collect

    folder, tasks = recorded
    twin = record_of(tasks["generator"], gfmd=99.0)
    twin["run"] = twin["row"]["run"] = "m-of-other-images"
    folder.write(twin)
    with pytest.raises(UserError, match="m-of-other-images are of one choice, seed and length"):
        collect(folder, small_study)
    folder.record_file(twin["run"]).unlink()
    path = str(save_classifier(tmp_path / "a.safetensors", 0))
    digest = evaluator_digest(small_study.tokenizer.data, path)
    folder.write(record_of(tasks["tokenizer"], digest))
    with pytest.raises(UserError, match="scored by 2 networks.*--set evaluator=RUN"):
        collect(folder, small_study)
    table, told = collect(folder, small_study.replace(evaluator=path))
    assert list(table.run) == [tasks["tokenizer"].run] and tasks["generator"].run in told


def test_one_name_has_one_meaning_in_all_grids(small_study):
    from vistok.study.config import Choice

    (main,) = small_study.grids
    other = main.replace(name="again", tokenizers=(Choice(name="none", set=("optimizer.lr=1",)),))
    with pytest.raises(ValueError, match=r"two tokenizers are named 'none'.*the base unchanged; optimizer.lr=1"):
        small_study.replace(grids=(main, other))


@pytest.mark.parametrize("name", ["fashion", "openmoji"])
def test_committed_records_are_found_under_the_names_of_their_studies(name, fashion_root, monkeypatch):
    """Each record of `results/` under the name that its study gives it today; FLOPs and steps are the records' own."""
    from vistok.config import fingerprint
    from vistok.recipes import find_recipe
    from vistok.runs.config import GeneratorRun
    from vistok.study.run import grid
    from vistok.study.run.record import StudyFolder

    folder = StudyFolder(Path(__file__).parent.parent / "results" / name)
    costs = {}
    for record in folder.records():
        if record["row"]["kind"] == "generator":
            config = GeneratorRun.from_json(json.dumps(record["config"])).replace(seed=0)
            row = record["row"]
            costs[fingerprint(config), row["num_tokens"], row["codebook_size"]] = (
                row["train_flops"],
                row["steps"],
                row["steps"],
            )

    def cost(config, space, classes, images):
        return costs.get((fingerprint(config), space.layout.positions, space.codebook_size), (float("inf"), 0, 0))

    monkeypatch.setattr(grid, "_tokenizer_plan", lambda config, images: (1e9, 10))
    monkeypatch.setattr(grid, "_generator_cost", cost)
    study = find_recipe(f"{name}_study", "study")
    study = study.replace(tokenizer=study.tokenizer.replace(data=study.tokenizer.data.replace(root=str(fashion_root))))
    tasks = grid.expand(study)
    names = {task.run for task in tasks if not isinstance(task, grid.CacheTask) and task.flops < float("inf")}
    assert names == {file.stem for file in (folder.path / "records").iterdir()}


def test_imagenet_is_named_by_its_contents(tmp_path):
    """Other images of the same names and sizes had the same digest, and so its runs and caches were taken for theirs."""
    import hashlib
    import os

    import numpy as np
    from PIL import Image

    from vistok.data.config import DataConfig
    from vistok.data.images.open import open_split

    config = DataConfig(dataset="imagenet", root=str(tmp_path), image_size=8, channels=3)
    for split in ("train", "val"):
        for number, wnid in enumerate(("n01440764", "n01443537")):
            (tmp_path / split / wnid).mkdir(parents=True)
            for i in range(10):
                pixels = np.random.default_rng([number, i]).integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / wnid / f"{wnid}_{i}.JPEG", "BMP")
    limited = config.replace(max_images=6)
    before = [open_split(chosen, split) for chosen in (config, limited) for split in ("train", "val", "test")]
    for source in before:  # runs and caches of earlier versions are found by what these called the images
        sizes = (f"{name}\0{(tmp_path / name).stat().st_size}" for name in source.files)
        assert source.former_digests == (hashlib.sha256("\n".join(sizes).encode()).hexdigest(),)

    changed = tmp_path / before[3].files[2]
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    os.utime(changed, ns=(0, 1))
    after = [open_split(chosen, split) for chosen in (config, limited) for split in ("train", "val", "test")]
    same = [old.digest == new.digest for old, new in zip(before, after, strict=True)]
    assert same == [False, True, True] * 2
    assert [old.former_digests for old in before] == [new.former_digests for new in after]


def test_packed_images_are_named_by_their_contents_and_labels(tmp_path, monkeypatch):
    """Other images of the same sizes had the digest of the first, and so had splits that a new shard changed."""
    from test_packed import config, png, write_shard
    from vistok.data.images.open import open_split

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def digests(folder, **changes):
        sources = {split: open_split(config(tmp_path / folder, **changes), split) for split in ("train", "val")}
        return {split: source.digest for split, source in sources.items()}

    assert len({len(png(number)) for number in range(60)}) == 1
    write_shard(tmp_path / "a" / "train-0.tar", range(40))
    write_shard(tmp_path / "b" / "train-0.tar", [*range(20), *range(40, 60)], label=lambda n: n % 40 % 3)
    first = digests("a")
    assert all(first[split] != digests("b")[split] for split in first)
    write_shard(tmp_path / "copy" / "train-7.tar", range(40))
    assert digests("copy") == first
    write_shard(tmp_path / "c" / "train-0.tar", range(40), label=lambda n: (n + 1) % 3)
    assert all(first[split] != digests("c")[split] for split in first)
    assert digests("a", max_images=2)["train"] != digests("b", max_images=2)["train"]
    # A test shard: what was held out for the test is now in train, and other images are validated on.
    write_shard(tmp_path / "a" / "test-0.tar", range(60, 64))
    assert all(first[split] != digests("a")[split] for split in first)


@pytest.mark.parametrize("kind", ["wrapped", "subclass"])
def test_sampling_leaves_out_no_block_of_another_kind(kind):
    """A block that was not exactly a `Block` was left out, or run as what it is not, and the samples looked finished."""
    import ctypes

    import torch

    from vistok.generator.autoregressive.config import AutoregressiveConfig
    from vistok.generator.autoregressive.frozen import FrozenTransformer
    from vistok.generator.autoregressive.generator import AutoregressiveGenerator
    from vistok.generator.autoregressive.native import NativeStep
    from vistok.nn.transformer import Block

    class Wrapped(torch.nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, *inputs):
            return self.block(*inputs)

    class Doubled(Block):
        def forward(self, *inputs):
            return 2 * super().forward(*inputs)

    config = AutoregressiveConfig(width=16, depth=2, num_heads=2, ffn_multiple=16)
    model = AutoregressiveGenerator(config, token_grid(2, 2, 8), 2).eval()
    other = Wrapped(model.blocks[1]) if kind == "wrapped" else Doubled(16, 2, 16, True, 0.0)
    model.blocks[1] = other
    compiled = ctypes.CDLL(None)
    compiled.decode_step_float32 = None
    for take in (FrozenTransformer, lambda model: NativeStep(model, compiled, "none")):
        with pytest.raises(TypeError, match=f"block 1 is a {type(other).__name__}"):
            take(model)


def test_reference_features_are_of_the_size_that_is_asked_for(tmp_path):
    """One folder at 16, then at 8 pixels: the second score was against features of 16."""
    import numpy as np
    from PIL import Image

    from vistok.data.config import DataConfig
    from vistok.data.images.open import open_split
    from vistok.metrics.features import FeatureExtractor
    from vistok.scoring.evaluators import reference_set

    class Sizes(FeatureExtractor):
        name, digest, distance_name, kernel_name, resize = "sizes", "", "FMD", "KMD", "none"

        def __call__(self, images):
            return images.float().flatten(2).mean(2) + images.shape[-1] + 1000 * images.shape[1]

    (tmp_path / "test").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "test" / f"{number}.png")
    found = []
    for size, channels in ((16, 3), (8, 3), (8, 1)):
        data = DataConfig(dataset="folder", root=str(tmp_path), image_size=size, channels=channels)
        reference = reference_set(Sizes(), open_split(data, "test"), data, "test")
        assert reference is reference_set(Sizes(), open_split(data, "test"), data, "test")
        found.append((reference.digest, reference.features.shape[1], int(reference.features.mean() % 1000) // 100))
    assert len({digest for digest, *_ in found}) == 3 and [width for _, width, _ in found] == [3, 3, 1]


def test_a_cache_under_an_earlier_digest_of_its_images_is_taken_and_told(tmp_path):
    """A digest that lied is replaced; what was made under it is not made again."""
    import inspect
    from types import SimpleNamespace

    import numpy as np
    import torch

    from vistok.data.latents.cache import LatentManifest
    from vistok.data.latents.writer import LatentCacheWriter
    from vistok.errors import UserError
    from vistok.verbs.cache_latents import _open

    facts = {"tokenizer_digest": "t", "grid": (2, 2), "codebook_size": 8, "dataset": "d", "split": "train",
             "num_images": 3, "class_names": ("a",)}  # fmt: skip
    writer = LatentCacheWriter(tmp_path / "c", LatentManifest(data_digest="old", **facts), 3)
    writer.prepare(np.zeros(3))
    writer.write(0, torch.zeros(3, 4, dtype=torch.int64), 0.1)
    writer.finish()
    said = []
    job = SimpleNamespace(
        writer=LatentCacheWriter(tmp_path / "c", LatentManifest(data_digest="new", **facts), 3),
        source=SimpleNamespace(former_digests=("old",)),
    )
    assert inspect.unwrap(_open)(job, SimpleNamespace(say=said.append)).manifest.data_digest == "old"
    assert len(said) == 1 and "earlier vistok" in said[0]
    job.source.former_digests = ("older",)
    with pytest.raises(UserError, match="it was made of other pictures"):
        inspect.unwrap(_open)(job, SimpleNamespace(say=said.append))
