"""Alignment of a flow's inner layer with frozen features: the loss by hand, and a run from images to scores."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from vistok.cli import app
from vistok.config import fingerprint, override
from vistok.data.latents.cache import LatentCache
from vistok.errors import UserError
from vistok.generator.flow.config import FlowConfig, RepresentationConfig
from vistok.recipes import find_recipe
from vistok.runs.frozen_networks import digests_in_losses, frozen_features, shipped_classifier
from vistok.runs.identity import features_digest, without_features_file
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.load import load_generator
from vistok.space import Line, Vectors, grid
from vistok.units import Scale
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_features, cache_tokens

ALIGNED = [
    "generator.representation.layer=1", "generator.representation.projector=16", "generator.representation.weight=0.25",
    'generator.representation.features="fashion"',
]  # fmt: skip
FACTS = LatentFacts(Vectors(layout=grid(4, 6), dim=3), 5)


def objective(*settings):
    config = override(find_recipe("debug_flow"), ["generator.label_dropout=0", *settings])
    return train_generator.build_objective(config, FACTS, torch.device("cpu"))


def batch_of(made):
    torch.manual_seed(1)
    batch = made.example(6, torch.device("cpu"))
    return {
        **batch, "latents": torch.randn_like(batch["latents"]), "positions": torch.arange(6),
        "features": torch.randn(6, 24, 128)[..., : made.feature_dim] if made.projector else torch.zeros(0),
    }  # fmt: skip


def test_the_term_is_one_minus_the_cosine_of_projected_outputs_of_the_block():
    made = objective(*ALIGNED)
    for weight in made.model.network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    batch, seen = batch_of(made), []
    made.model.network.blocks[0].register_forward_hook(lambda block, given, out: seen.append(out))
    terms = made._loss(batch, 0).terms
    p = made.projector
    projected = p.last(F.silu(p.second(F.silu(p.first(seen[0])))))
    cosine = (projected * batch["features"]).sum(-1) / projected.norm(dim=-1) / batch["features"].norm(dim=-1)
    torch.testing.assert_close(terms["representation_loss"], 0.25 * (1 - cosine.mean()))
    perfect = {**batch, "features": 3 * projected.detach()}
    assert float(made._loss(perfect, 0).terms["representation_loss"].detach()) == pytest.approx(0, abs=1e-6)
    terms["representation_loss"].backward()
    blocks = [
        sum(float(w.grad.abs().sum()) for w in block.parameters() if w.grad is not None)
        for block in made.model.network.blocks
    ]
    assert blocks[0] > 0 and blocks[1] == 0  # the layers behind it are left to the flow


def test_the_flow_itself_starts_and_is_clipped_as_without():
    with_, without = objective(*ALIGNED), objective()
    for a, b in zip(with_.model.parameters(), without.model.parameters(), strict=True):
        assert torch.equal(a, b)
    (phase,) = with_.phases(Scale(6, 1, 1, (), 10))
    assert phase.clip_groups.keys() == {"generator", "projector"}
    assert (
        sum(len(group["params"]) for group in phase.optimizer.param_groups) == len(list(with_.model.parameters())) + 6
    )
    batch = batch_of(with_)
    terms = [made._loss(batch, 0).terms for made in (with_, without)]
    torch.testing.assert_close(terms[0]["matching_loss"], terms[1]["matching_loss"])
    assert with_.averaged == ("generator",)


def test_a_config_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(UserError, match="representation.layer 8: this network has 2 layers"):
        override(find_recipe("debug_flow"), ["generator.representation.layer=8"])
    with pytest.raises(UserError, match="features_file is for features 'dinov2'"):
        RepresentationConfig(features_file="x.pth")
    config = override(find_recipe("debug_flow"), ALIGNED)
    with pytest.raises(UserError, match="needs latents on a grid"):
        train_generator.feature_grid(config, Vectors(layout=Line(length=8), dim=3))
    aligned = RepresentationConfig(layer=1, features="dinov2", features_file=str(tmp_path / "a.pth"))
    dino = config.replace(generator=FlowConfig(width=32, depth=2, num_heads=2, representation=aligned))
    with pytest.raises(UserError, match="features_file .*a.pth: not found"):
        features_digest(dino)
    (tmp_path / "a.pth").write_bytes(b"weights")
    moved = override(dino, [f"generator.representation.features_file={tmp_path / 'b.pth'}"])
    (tmp_path / "b.pth").write_bytes(b"weights")
    assert features_digest(dino) == features_digest(moved)
    assert fingerprint(without_features_file(dino)) == fingerprint(without_features_file(moved)) != fingerprint(config)


@pytest.fixture(scope="module")
def trained(fashion_root, tmp_path_factory, quiet):
    """A tokenizer to vectors, and its caches with a view more than the centre."""
    runs = tmp_path_factory.mktemp("representation")
    settings = [f'data.root="{fashion_root}"', "data.max_images=120", "length=4 steps", "losses.perceptual=null"]
    tokenizer = train_tokenizer.prepare(override(find_recipe("debug_kl"), settings), runs).train(quiet).path
    caches = cache_tokens(tokenizer, "train", quiet, views=("center", "flip")), cache_tokens(tokenizer, "val", quiet)
    return runs, tokenizer, caches


def test_features_are_kept_for_each_image_and_view_and_come_with_their_latents(trained, quiet):
    _, tokenizer, (cache, _) = trained
    frozen = frozen_features("fashion", None, torch.device("cpu"))
    kept = cache_features(cache, tokenizer, frozen, "fashion", grid(7, 7), quiet)
    assert kept.folder.name == "train-fashion-7x7" and kept.latents.shape == (240, 49, frozen.dim)
    assert kept.latents.dtype == np.float16
    from vistok.data.images.open import open_split
    from vistok.data.loader import eval_images, train_latents
    from vistok.runs.load import load_tokenizer
    from vistok.runs.run_images import data_of

    data = data_of(load_tokenizer(tokenizer))
    images = next(iter(eval_images(open_split(data, "train"), data, 5)))["images"]
    for view, pictures in enumerate((images, images.flip(-1))):
        expected = frozen(pictures, 7, 7)
        torch.testing.assert_close(kept.batch(np.arange(5) * 2 + view)["latents"], expected, rtol=1e-2, atol=1e-2)
    batch = next(iter(train_latents(cache, 3, 16, range(1), features=kept)))
    rows = np.array(
        [np.flatnonzero((kept.latents == f.numpy().astype(np.float16)).all((1, 2)))[0] for f in batch["features"]]
    )
    means = cache.batch(rows)["latents"]
    away = (batch["latents"] - means).abs().mean()
    assert float(away) < float((batch["latents"] - means.roll(1, 0)).abs().mean())  # draws around their own means
    written = (kept.folder / "features.npy").stat().st_mtime_ns
    again = cache_features(cache, tokenizer, frozen, "fashion", grid(7, 7), quiet)
    assert (again.folder / "features.npy").stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_run_with_an_aligned_layer_is_a_flow_like_any_other(trained, quiet, monkeypatch):
    monkeypatch.setattr(train_generator, "EVAL_IMAGES", 50)
    runs, tokenizer, caches = trained
    config = override(find_recipe("debug_flow"), [*ALIGNED, "length=12 steps"])
    run = train_generator.prepare(config, *caches, tokenizer, runs).train(quiet).path
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(row["generator/representation_loss"] > 0 for row in rows if row["kind"] == "train")
    assert LatentCache(caches[0].folder.with_name("train-fashion-7x7")).manifest.features == "fashion"
    model = load_generator(run)
    assert not any("projector" in name for name in model.state_dict())
    assert model.sample(torch.tensor([1, 2])).shape == (2, 49, 4)
    # The network that it was aligned with does not score it.
    assert digests_in_losses(model.info) == {str(shipped_classifier("fashion_perceptual")[1]["digest"])}
    done = CliRunner().invoke(app, ["train", "generator", "debug_flow", "--tokenizer", str(tokenizer), "--dry-run",
                                    *(word for setting in ALIGNED for word in ("--set", setting))])  # fmt: skip
    assert "KiB of frozen features for each view of all images, written once" in done.output, done.output
