"""Alignment with frozen features: the two terms, their margins, the adaptive weight, and runs with it."""

import json
import os
import pickle

import pytest
import torch
from torch.nn import functional as F

from vistok.config import override
from vistok.errors import UserError
from vistok.nn.classifier import Classifier
from vistok.nn.classifier_config import ClassifierConfig
from vistok.nn.dinov2 import NAMES, DINOv2, load_dinov2
from vistok.nn.frozen_features import FrozenFeatures
from vistok.recipes import find_recipe
from vistok.runs.frozen_networks import build_features, digests_in_losses, shipped_classifier
from vistok.runs.load import load_tokenizer
from vistok.space import Line, Vectors, grid
from vistok.tokenizer.losses import norm_ratio
from vistok.tokenizer.regularizers.alignment import AlignmentRegularizer
from vistok.tokenizer.regularizers.base import Setting
from vistok.tokenizer.regularizers.config import AlignmentConfig
from vistok.verbs import train_tokenizer

DIM, FEATURES = 6, 10


def regularizer(**changes) -> AlignmentRegularizer:
    torch.manual_seed(0)
    frozen = FrozenFeatures(Classifier(ClassifierConfig(stage_channels=(4, FEATURES))), FEATURES, 2)
    config = AlignmentConfig(features="fashion", **changes)
    return AlignmentRegularizer(config, Setting(DIM, Vectors(layout=grid(3, 4), dim=DIM), features=frozen))


@torch.no_grad()
def test_both_terms_are_the_papers():
    found = regularizer(cosine_margin=0.3, distance_margin=0.1)
    latents, features = torch.randn(2, 12, DIM), torch.randn(2, 12, FEATURES)
    cosine, distance = found.parts(latents, features)
    projected = latents @ found.projection.weight.T
    expected, differ = [], []
    for image in range(2):
        for p in range(12):
            expected.append(
                max(0.0, 1 - 0.3 - float(F.cosine_similarity(projected[image, p], features[image, p], dim=0)))
            )
            for q in range(12):
                ours, theirs = (
                    float(F.cosine_similarity(x[image, p], x[image, q], dim=0)) for x in (projected, features)
                )
                differ.append(max(0.0, abs(ours - theirs) - 0.1))
    assert float(cosine) == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert float(distance) == pytest.approx(sum(differ) / len(differ), rel=1e-4)


@torch.no_grad()
def test_aligned_latents_cost_nothing():
    found = regularizer(cosine_margin=0.0, distance_margin=0.0)
    latents = torch.randn(2, 12, DIM)
    cosine, distance = found.parts(latents, 3.0 * (latents @ found.projection.weight.T))
    assert float(cosine) == pytest.approx(0, abs=1e-6) and float(distance) == pytest.approx(0, abs=1e-5)


def test_within_the_margins_there_is_no_gradient():
    found = regularizer(cosine_margin=1.99, distance_margin=1.99)
    latents = torch.randn(2, 12, DIM, requires_grad=True)
    sum(found.parts(latents, torch.randn(2, 12, FEATURES))).backward()
    assert latents.grad is not None and latents.grad.abs().max() == 0


def test_the_adaptive_weight_makes_the_gradient_norms_equal():
    layer = torch.nn.Linear(5, DIM)
    latents = layer(torch.randn(2, 12, 5))
    reconstruction = 7.0 * (latents - 1).square().mean()
    loss = sum(regularizer().parts(latents, torch.randn(2, 12, FEATURES)))
    weight = norm_ratio(reconstruction, loss, layer.weight, lambda mean: mean)
    norms = [
        float(torch.autograd.grad(term, layer.weight, retain_graph=True)[0].norm())
        for term in (reconstruction, weight * loss)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_a_feature_falls_on_each_latent():
    """Of an image that is resized, and of one that has the right size already."""
    (network,) = build_features((AlignmentConfig(features="fashion"),), torch.device("cpu")).values()
    images = torch.rand(2, 1, 28, 28) * 2 - 1
    found = network(images, 7, 7)
    classifier = shipped_classifier("fashion_perceptual")[0]
    expected = classifier.stage_activations(images)[-1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, expected)
    assert network(images, 14, 14).shape == (2, 196, network.dim)
    assert not any(p.requires_grad for p in network.parameters()) and not network.train().training


def test_latents_on_a_line_are_refused():
    with pytest.raises(UserError, match="alignment needs latents on a grid, but these lie on a line of 12"):
        AlignmentRegularizer(AlignmentConfig(), Setting(DIM, Vectors(layout=Line(length=12), dim=DIM)))


@pytest.mark.slow
def test_a_run_with_both_regularizers_on_vectors(fashion_root, tmp_path, quiet):
    settings = [f'data.root="{fashion_root}"', "data.max_images=100", "execution.log_every=1", "length=16 steps"]
    settings += ['regularizers.alignment.features="fashion"', "regularizers.alignment.weight=0.5"]
    settings += ["regularizers.causal.width=16", "regularizers.causal.num_heads=2"]
    settings += ['regularizers.causal.variant="l2_post"']
    run = train_tokenizer.prepare(override(find_recipe("debug_kl"), settings), tmp_path).train(quiet).path
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "train"]
    for row in rows:
        gaps = row["autoencoder/cosine_gap"] + row["autoencoder/distance_gap"]
        assert row["autoencoder/alignment_loss"] == pytest.approx(row["autoencoder/alignment_weight"] * gaps, rel=1e-4)
    assert rows[-1]["autoencoder/cosine_gap"] < rows[0]["autoencoder/cosine_gap"]
    assert rows[-1]["autoencoder/causal_loss"] != rows[0]["autoencoder/causal_loss"]
    tokenizer = load_tokenizer(run)
    digest = str(shipped_classifier("fashion_perceptual")[1]["digest"])
    assert digest in digests_in_losses(tokenizer.info)
    assert not any("projection" in name for name in tokenizer.state_dict())  # of training alone
    with pytest.raises(UserError, match="ce_post predicts code numbers"):
        config = override(find_recipe("debug_kl"), [*settings, 'regularizers.causal.variant="ce_post"'])
        train_tokenizer.prepare(config, tmp_path)


@pytest.mark.parametrize(
    ("recipe", "settings", "words"),
    [
        ("images64_kl", ['regularizers.alignment.features="fashion"'], "'fashion' is a network of grey images"),
        (
            "debug_kl",
            ['regularizers.alignment={"features": "fashion", "features_file": "x"}'],
            "features_file is for features",
        ),
        (
            "debug_kl",
            ['regularizers.alignment.features="fashion"', "execution.compile=true"],
            "which compiled blocks do not",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(recipe, settings, words, fashion_root, tmp_path):
    with pytest.raises(UserError, match=words):
        train_tokenizer.prepare(override(find_recipe(recipe), [f'data.root="{fashion_root}"', *settings]), tmp_path)


def test_what_it_compares_over_whole_batches_is_not_cut_up(fashion_root, tmp_path):
    settings = ['regularizers.alignment.features="fashion"', "execution.micro_batch_size=4"]
    with pytest.raises(UserError, match=r"alignment.adaptive compares gradients of the whole batch"):
        train_tokenizer.prepare(override(find_recipe("debug_kl"), [f'data.root="{fashion_root}"', *settings]), tmp_path)


@pytest.mark.slow
def test_features_of_dinov2_come_from_a_file(tmp_path, fashion_root, quiet):
    torch.manual_seed(0)
    small = DINOv2(width=64, depth=2, hidden=96, positions=1 + 3 * 3, registers=2)
    for weight in small.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    torch.save({**small.state_dict(), "mask_token": torch.zeros(1, 64)}, tmp_path / "dino.pth")
    config = AlignmentConfig(features="dinov2", features_file=str(tmp_path / "dino.pth"))
    (network,) = build_features((config,), torch.device("cpu")).values()
    images = torch.rand(2, 1, 42, 56) * 2 - 1
    expected = small.stage_activations(images)[-1]
    assert expected.shape == (2, 64, 3, 4)
    torch.testing.assert_close(network(images, 3, 4), expected.flatten(2).transpose(1, 2))
    assert network(images, 7, 7).shape == (2, 49, 64)

    settings = [f'data.root="{fashion_root}"', "data.max_images=64", "length=2 steps", "batch_size=4"]
    settings += ['regularizers.alignment.features="dinov2"']
    with pytest.raises(UserError, match="which does not come with vistok: download dinov2_vitl14"):
        train_tokenizer.prepare(override(find_recipe("debug_kl"), settings), tmp_path).train(quiet)
    names = []
    for place in ("dino.pth", "elsewhere.pth"):
        (tmp_path / place).write_bytes((tmp_path / "dino.pth").read_bytes())
        file = f'regularizers.alignment.features_file="{tmp_path / place}"'
        job = train_tokenizer.prepare(override(find_recipe("debug_kl"), [*settings, file]), tmp_path / "runs")
        names.append(job.run_dir.path.name)
    assert names[0] == names[1] and job.train(quiet).finished  # the contents count, not the path
    (tmp_path / "dino.pth").write_bytes(b"not a file of torch")
    with pytest.raises(UserError, match=r"DINOv2 weights .*damaged"):
        build_features((config,), torch.device("cpu"))
    with pytest.raises(UserError, match="none.pth: not found"):
        file = f'regularizers.alignment.features_file="{tmp_path / "none.pth"}"'
        train_tokenizer.prepare(override(find_recipe("debug_kl"), [*settings, file]), tmp_path)


def test_dinov2s_weights_in_other_names_are_not_called_damaged(tmp_path, recwarn):
    """Transformers' copy was "max() arg is an empty sequence", and a program's message advised to load it unsafely."""
    torch.save({"embeddings.cls_token": torch.zeros(1, 1, 64)}, tmp_path / "hf.pth")
    with pytest.raises(
        UserError, match=r"not in the names of Meta's release \(cls_token, .*it holds embeddings.cls_token"
    ) as refused:
        load_dinov2(str(tmp_path / "hf.pth"))
    assert "download dinov2_vitl14_pretrain.pth" in str(refused.value)
    made = tmp_path / "made"

    class Program:
        def __reduce__(self):
            return os.mkdir, (str(made),)

    (tmp_path / "program.pth").write_bytes(pickle.dumps(Program()))
    torch.save({"cls_token": torch.zeros(1), "other": Program()}, tmp_path / "more.pth")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    giant = {name: torch.zeros(1) for name in (*NAMES, "blocks.0.mlp.w12.weight")}
    torch.save(giant, tmp_path / "giant.pth")
    with pytest.raises(UserError, match="ViT-g has a gated feed-forward, which is not supported"):
        load_dinov2(str(tmp_path / "giant.pth"))
    with pytest.raises(UserError, match="not a file of torch.save"):
        load_dinov2(str(tmp_path / "page.pth"))
    for name in ("program.pth", "more.pth"):
        with pytest.raises(UserError, match="DINOv2 weights .*download dinov2") as refused:
            load_dinov2(str(tmp_path / name))
        assert "weights_only" not in str(refused.value) and "\n" not in str(refused.value) and not recwarn.list
    assert not made.exists()
