"""Tokens that noise changes, and classes read from inner layers: scores of tokenizers and generators."""

import json

import numpy as np
import pytest
import torch

from vistok.data.latents.cache import LatentCache
from vistok.generator.flow.config import FlowConfig
from vistok.generator.flow.generator import FlowGenerator
from vistok.generator.interface import HasInner
from vistok.generator.masked.config import MaskedConfig
from vistok.generator.masked.generator import MaskedGenerator
from vistok.runs.load import load_generator, load_tokenizer
from vistok.runs.shipped import shipped_network
from vistok.scoring import probe, stability
from vistok.scoring.evaluations import stored_scores
from vistok.space import Vectors, grid, token_grid


def test_noise_has_the_level_that_it_says():
    images = torch.rand(400, 1, 28, 28, generator=torch.Generator().manual_seed(0)) - 0.5  # far from being clipped
    for level in (30, 20):
        noise = stability.noisy(images, torch.arange(400), level) - images
        found = 10 * np.log10(float(images.flatten(1).var(dim=1).mean() / noise.flatten(1).var(dim=1).mean()))
        assert found == pytest.approx(level, abs=0.05)
    one = stability.noisy(images[7:8], torch.tensor([7]), 20)
    torch.testing.assert_close(one[0], stability.noisy(images, torch.arange(400), 20)[7])
    assert stability.noisy(images * 2, torch.arange(400), 1).abs().max() <= 1


def test_tokens_change_more_with_more_noise(fashion_root, quiet, monkeypatch):
    monkeypatch.setattr(stability, "IMAGES", 60)
    file = shipped_network("fashion-crt", "tokenizer")
    scores = stability.evaluate_stability(file, quiet, root=str(fashion_root))["scores"]
    shares = [scores[f"changed_{level}"]["value"] for level in stability.LEVELS]
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] < 1
    tokenizer, images = load_tokenizer(file), torch.zeros(2, 1, 28, 28)  # no signal, so no noise
    assert stability.changed_tokens(tokenizer, images, torch.arange(2)).max() == 0


def test_it_is_kept_with_the_run_and_read_again(toy_runs, quiet, monkeypatch):
    tokenizer, _, _ = toy_runs
    monkeypatch.setattr(stability, "IMAGES", 60)
    first = stability.evaluate_stability(tokenizer, quiet)
    (file,) = (tokenizer / "evaluations").glob("stability-test-ema-*.json")
    assert json.loads(file.read_text()) == first
    monkeypatch.setattr(stability, "changed_tokens", None)  # nothing is measured again
    assert stability.evaluate_stability(tokenizer, quiet) == first
    metrics = {score.protocol.metric for score in stored_scores([file])}
    assert metrics == {f"tokens changed by noise at {level} dB" for level in stability.LEVELS}


def test_a_probe_is_right_where_classes_are_linear():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (300,), generator=generator)
    features = torch.randn(300, 8, generator=generator)
    chance = probe.right_by(features, labels, 200, 3).mean()
    features[:, 2] += 5 * labels  # ordered along a line: all but the middle class are told at once
    features[:, 4] += 5 * (labels == 1)
    assert len(probe.right_by(features, labels, 200, 3)) == 100
    assert probe.right_by(features, labels, 200, 3).mean() > 0.95 > 0.6 > chance


def test_inner_layers_of_every_family(toy_runs):
    _, caches, run = toy_runs
    tokens = caches["val"].batch(np.arange(3))["latents"]
    space = token_grid(7, 7, 64)
    small = {"width": 16, "depth": 3, "num_heads": 2}
    masked = MaskedGenerator(MaskedConfig(**small, ffn_multiple=8), space, 10).eval()
    flow = FlowGenerator(FlowConfig(**small), Vectors(layout=grid(7, 7), dim=4), 10).eval()
    for model, latents in (
        (load_generator(run, device="cpu"), tokens),
        (masked, tokens),
        (flow, torch.randn(3, 49, 4)),
    ):
        assert isinstance(model, HasInner) and model.null_label == 10
        layers = model.inner(latents, torch.full((3,), 10))
        assert len(layers) == model.num_layers and {layer.shape for layer in layers} == {(3, model.config.width)}
        alone = model.inner(latents[1:2], torch.full((1,), 10))
        torch.testing.assert_close(alone[-1][0], layers[-1][1], rtol=1e-4, atol=1e-5)


def test_parts_of_the_held_out_images_are_kept_apart(toy_runs, quiet, monkeypatch):
    _, caches, run = toy_runs
    cache = LatentCache(caches["val"].folder)
    asked = []
    whole = probe.right_by
    monkeypatch.setattr(
        probe, "right_by", lambda f, y, fitted, n: asked.append((len(f), fitted)) or whole(f, y, fitted, n)
    )
    found = probe.evaluate_probe(run, cache, quiet)
    count = cache.num_images
    assert set(asked) == {(count, round(count / 2))} and len(asked) == len(found["by_layer"])
    score = found["score"]
    assert (
        score["protocol"]["num_samples"] == count - round(0.6 * count)
        and score["protocol"]["num_reference"] == count // 2
    )
    assert 0 <= score["value"] <= 1 and 1 <= found["layer"] <= len(found["by_layer"])
    monkeypatch.setattr(probe, "layer_features", None)
    assert probe.evaluate_probe(run, cache, quiet) == found
