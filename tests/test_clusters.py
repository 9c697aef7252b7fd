"""Tokens that are clusters of a frozen network's features, and the network that learned without labels."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vistok.classifier.config import ViewsConfig
from vistok.classifier.contrast import told_apart
from vistok.classifier.views import random_view
from vistok.config import override
from vistok.data.images.open import open_split
from vistok.engine.distributed import ALONE
from vistok.errors import UserError
from vistok.nn.dinov2 import DINOv2, planned_dinov2, planned_weights
from vistok.nn.frozen_config import SHIPPED, SIZES, DINOv2Config
from vistok.nn.lloyd import Sums, scale_for
from vistok.nn.nearest import nearest_centres
from vistok.recipes import find_recipe
from vistok.runs.fitting import Fit
from vistok.runs.frozen_networks import digests_in_losses, shipped_classifier
from vistok.runs.load import load_tokenizer
from vistok.scoring.evaluators import require_unseen
from vistok.verbs import train_classifier, train_tokenizer


def brute(vectors: np.ndarray, centres: np.ndarray) -> list[int]:
    """The nearest centre by two loops in double precision; ties to the lowest number."""
    vectors, centres = vectors.astype(np.float64), centres.astype(np.float64)
    return [min(range(len(centres)), key=lambda k: (float(((v - centres[k]) ** 2).sum()), k)) for v in vectors]


def test_assignments_are_exact():
    generator = torch.Generator().manual_seed(0)
    # Far from the origin and close together: single precision alone gets a third of these wrong.
    centres = 100 + torch.randn(40, 6, generator=generator) * 1e-3
    vectors = 100 + torch.randn(500, 6, generator=generator) * 1e-3
    found = nearest_centres(vectors, centres)
    assert found.tolist() == brute(vectors.numpy(), centres.numpy())
    twice = torch.cat([centres, centres])  # every centre is there twice
    assert torch.equal(nearest_centres(vectors, twice), found)


def test_sums_do_not_depend_on_the_order():
    generator = torch.Generator().manual_seed(0)
    vectors, centres = torch.randn(600, 5, generator=generator) * 7, torch.randn(9, 5, generator=generator)
    scale = scale_for(vectors)

    def sums(*parts) -> Sums:
        made = Sums(centres, scale)
        for part in parts:
            made.add(part)
        return made

    whole, backwards = sums(vectors), sums(*reversed(vectors.split(70)))
    halves = [sums(part) for part in vectors.chunk(2)]
    together = halves[0]
    together.sums, together.counts = (halves[0].sums + halves[1].sums, halves[0].counts + halves[1].counts)
    expected = whole.moved(torch.Generator().manual_seed(1))
    for other in (backwards, together):
        assert torch.equal(other.moved(torch.Generator().manual_seed(1)), expected)
    nearest = torch.tensor(brute(vectors.numpy(), centres.numpy()))
    means = torch.stack([vectors[nearest == k].double().mean(0) for k in range(9)]).float()
    torch.testing.assert_close(expected, means, rtol=0, atol=1e-6)


def test_a_centre_without_vectors_takes_a_part_of_another_cluster():
    vectors = torch.tensor([[0.0, 1.0], [0.0, 1.1], [0.1, 1.0]])
    made = Sums(torch.tensor([[0.0, 1.0], [50.0, 50.0]]), scale_for(vectors))
    made.add(vectors)
    moved = made.moved(torch.Generator().manual_seed(0))
    assert len(set(nearest_centres(vectors, moved).tolist())) == 2


@pytest.fixture(scope="module")
def settings(fashion_root):
    return [f'data.root="{fashion_root}"', "data.max_images=600", "tokenizer.quantizer.image_fraction=0.5"]


@pytest.fixture(scope="module")
def clusters(tmp_path_factory, settings, quiet):
    """A trained tokenizer to clusters."""
    runs = tmp_path_factory.mktemp("clusters")
    return train_tokenizer.prepare(override(find_recipe("debug_clusters"), settings), runs).train(quiet).path


def test_centres_are_lloyds_and_a_stopped_fit_goes_on_exactly(settings, quiet, tmp_path, monkeypatch):
    config = override(find_recipe("debug_clusters"), settings)
    source = open_split(config.data, "train")
    device = torch.device("cpu")

    def fitted(folder, world=ALONE) -> torch.Tensor:
        tokenizer = train_tokenizer.build_objective(config, device).tokenizer
        Fit(config, source, SimpleNamespace(path=folder, writing=_made)).into(tokenizer, device, world, quiet)
        return tokenizer.quantizer.centres

    expected = fitted(tmp_path / "whole")
    # Lloyd in double precision from the same first centres, on the same features.
    job = Fit(config, source, SimpleNamespace(path=tmp_path / "once", writing=_made))
    tokenizer = train_tokenizer.build_objective(config, device).tokenizer
    with quiet.task("", 1) as bar:
        centres, _ = job._begin(tokenizer, device, ALONE, bar)
        vectors = torch.cat([part.flatten(0, 1) for _, part in job._features(tokenizer, device, ALONE, bar)]).double()
    assert len(vectors) == 300 * 49
    centres = centres.double()
    for _ in range(4):
        nearest = torch.cdist(vectors, centres, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        assert len(nearest.unique()) == 32
        centres = torch.stack([vectors[nearest == k].mean(0) for k in range(32)])
    torch.testing.assert_close(expected.double(), centres, rtol=0, atol=1e-5)

    class Killed(Exception):
        pass

    def killed(self, *arguments):
        if arguments[3] == 2:
            raise Killed
        return whole(self, *arguments)

    whole = Fit._iterate
    monkeypatch.setattr(Fit, "_iterate", killed)
    with pytest.raises(Killed):
        fitted(tmp_path / "stopped")
    monkeypatch.setattr(Fit, "_iterate", whole)
    began = []
    monkeypatch.setattr(Fit, "_begin", lambda *a: began.append(1))
    assert torch.equal(fitted(tmp_path / "stopped"), expected) and not began


class _made:
    """Stands in for a run directory's lock."""

    def __init__(self, folder) -> None:
        folder.mkdir(exist_ok=True, parents=True)

    def __enter__(self) -> None: ...

    def __exit__(self, *error) -> None: ...


def test_its_file_is_all_that_a_tokenizer_needs(clusters, settings, fashion_root, monkeypatch):
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    network, _ = shipped_classifier("fashion_perceptual")
    features = network.stage_activations(images)[-1].flatten(2).mT.flatten(0, 1)
    monkeypatch.setattr("vistok.runs.frozen_networks.shipped_classifier", None)  # nothing is read but the file
    for weights in ("ema", "raw"):
        tokenizer = load_tokenizer(clusters, weights, device="cpu")
        tokens = tokenizer.encode(images)
        assert tokens.flatten().tolist() == brute(features.numpy(), tokenizer.quantizer.centres.numpy())
        assert tokenizer.decode(tokens).shape == images.shape
        # Training has not touched what is frozen.
        for name, weight in network.state_dict().items():
            assert torch.equal(tokenizer.state_dict()[f"features.network.{name}"], weight)
    assert tokenizer.space.codebook_size == 32 and tokenizer.resized(56).encode(torch.zeros(1, 1, 56, 56)).shape == (
        1,
        196,
    )


def test_frozen_features_may_not_judge(clusters):
    seen = digests_in_losses(load_tokenizer(clusters).info)
    digest = shipped_classifier("fashion_perceptual")[1]["digest"]
    assert digest in seen
    with pytest.raises(UserError, match="evaluator|perceptual|loss"):
        require_unseen(SimpleNamespace(digest=digest, name="x"), seen)


def test_the_name_covers_the_frozen_weights(settings, tmp_path, monkeypatch):
    config = override(find_recipe("debug_clusters"), settings)
    before = train_tokenizer.prepare(config, tmp_path).run_dir.path.name
    assert train_tokenizer.prepare(config, tmp_path).run_dir.path.name == before
    monkeypatch.setattr("vistok.runs.sources.shipped_digest", lambda name: "another")
    assert train_tokenizer.prepare(config, tmp_path).run_dir.path.name != before


@pytest.mark.parametrize(
    ("recipe", "changes", "words"),
    [
        ("debug_vq", ['tokenizer.quantizer={"kind": "kmeans"}'], "use the 'frozen' network"),
        ("debug_clusters", ['tokenizer.quantizer={"kind": "vq"}'], "use 'kmeans'"),
        ("debug_clusters", ["tokenizer.in_channels=3", "data.channels=3"], "a network of grey images"),
        ("debug_clusters", ['regularizers=[{"kind": "causal"}]'], "nothing to regularize"),
        ("debug_clusters", ["tokenizer.quantizer.code_dim=8"], "code_dim=64"),
        ("debug_clusters", ["tokenizer.quantizer.codebook_size=100000"], "cannot have 100000 clusters"),
        (
            "debug_clusters",
            ['tokenizer.features="dinov2"', "tokenizer.quantizer.code_dim=768"],
            "give a file of DINOv2",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(recipe, changes, words, settings, tmp_path):
    with pytest.raises(UserError, match=words):
        kept = settings if recipe == "debug_clusters" else settings[:2]
        train_tokenizer.prepare(override(find_recipe(recipe), [*kept, *changes]), tmp_path)


def test_the_third_block_from_the_end_with_the_last_norm(tmp_path):
    torch.manual_seed(0)
    whole = DINOv2(width=64, depth=5, hidden=256, positions=1 + 2 * 2, registers=1, standardized=True)
    for weight in whole.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    torch.save({**whole.state_dict(), "mask_token": torch.zeros(1, 64)}, tmp_path / "dino.pth")
    config = DINOv2Config(width=64, depth=5, registers=1, positions=5, block_from_end=3)
    network = planned_dinov2(config)
    network.load_state_dict(planned_weights(str(tmp_path / "dino.pth"), config))
    images, kept = torch.rand(2, 3, 28, 28) * 2 - 1, []
    whole.blocks[2].register_forward_hook(lambda module, inputs, output: kept.append(output))  # of 0...4
    whole.stage_activations(images)
    expected = whole.norm(kept[0])[:, 2:].mT.unflatten(2, (2, 2))
    torch.testing.assert_close(network.stage_activations(images)[-1], expected)
    # As torchvision would standardise pixels of 0...1.
    plain = DINOv2(64, 5, 256, 5, 1)
    plain.load_state_dict(whole.state_dict())
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    ready = ((images + 1) / 2 - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(plain.stage_activations(ready)[-1], whole.stage_activations(images)[-1])
    with pytest.raises(UserError, match="tokenizer.dinov2.depth=5"):
        planned_weights(str(tmp_path / "dino.pth"), config.replace(depth=7))


def test_shipped_networks_have_the_sizes_that_configs_say():
    for name, config in SIZES.items():
        network, _ = shipped_classifier(SHIPPED[name])
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        with torch.device("meta"):
            assert shapes == {key: value.shape for key, value in type(network)(config).state_dict().items()}


def test_views_depend_on_seed_place_and_number_alone():
    images, places = torch.rand(6, 1, 28, 28) * 2 - 1, torch.tensor([5, 3, 900, 0, 1, 2])
    views = random_view(images, places, 7, 0, ViewsConfig())
    torch.testing.assert_close(random_view(images[2:3], places[2:3], 7, 0, ViewsConfig()), views[2:3])
    for other in (random_view(images, places, 8, 0, ViewsConfig()), random_view(images, places, 7, 1, ViewsConfig())):
        assert (other - views).abs().amax(dim=(1, 2, 3)).min() > 0.1
    assert views.abs().max() <= 1
    plain = ViewsConfig(least_area=1.0, jitter=0.0, mirrored=False)
    whole = random_view(images, places, 7, 0, plain)
    assert whole.shape == images.shape  # the whole image in other proportions is still all of it


def test_two_views_are_told_from_all_others():
    vectors = torch.nn.functional.normalize(torch.randn(5, 8), dim=1)
    views = torch.cat([vectors, torch.nn.functional.normalize(vectors + 0.01 * torch.randn(5, 8), dim=1)])
    loss, found = told_apart(views, 0.5)
    total = 0.0
    for i in range(10):  # SimCLR, equation 1, by loops
        others = [math.exp(float(views[i] @ views[k]) / 0.5) for k in range(10) if k != i]
        total -= math.log(math.exp(float(views[i] @ views[(i + 5) % 10]) / 0.5) / sum(others))
    assert float(loss) == pytest.approx(total / 10, rel=1e-5) and float(found) == 1.0


def test_no_label_reaches_the_network(fashion_root):
    config = override(find_recipe("debug_encoder"), [f'data.root="{fashion_root}"', "classifier.dropout=0"])
    objective = train_classifier.build_objective(config, torch.device("cpu"))
    micro = {"images": torch.rand(8, 1, 28, 28), "positions": torch.arange(8)}
    gradients = []
    for labels in (torch.zeros(8, dtype=torch.int64), torch.arange(8)):
        objective.model.zero_grad()
        objective._loss({**micro, "labels": labels}, 0).total.backward()
        gradients.append({name: p.grad.clone() for name, p in objective.model.named_parameters()})
    same = {name: torch.allclose(a, gradients[1][name], rtol=1e-3, atol=1e-6) for name, a in gradients[0].items()}
    assert {name for name, equal in same.items() if not equal} == {"head.weight", "head.bias"}


def test_images_without_classes_are_enough_without_labels(photo_folder, tmp_path, quiet):
    flat = tmp_path / "images"
    flat.mkdir()
    for file in (photo_folder / "circles").iterdir():
        (flat / file.name).symlink_to(file)
    settings = [f'data={{"dataset": "folder", "root": "{flat}", "image_size": 16, "channels": 3}}']
    settings += ["classifier.image_size=16", "classifier.in_channels=3", "length=2 steps", "batch_size=4"]
    with pytest.raises(UserError, match="learn without labels"):
        train_classifier.prepare(override(find_recipe("debug_classifier"), settings), tmp_path / "runs")
    path = (
        train_classifier.prepare(override(find_recipe("debug_encoder"), settings), tmp_path / "runs").train(quiet).path
    )
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["classifier/contrast"]) for row in rows if row["kind"] == "train")
