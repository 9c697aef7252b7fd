"""Noising and equivariance of vectors, held against decoders whose answers are known."""

import json

import pytest
import torch
from torch.nn import functional as F

from vistok.config import override
from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.space import Vectors, grid, token_grid
from vistok.tokenizer.bottlenecks.base import BottleneckOutput
from vistok.tokenizer.regularizers.base import Seen, Setting
from vistok.tokenizer.regularizers.config import EquivarianceConfig, NoisingConfig
from vistok.tokenizer.regularizers.equivariance import EquivarianceRegularizer
from vistok.tokenizer.regularizers.noising import NoisingRegularizer
from vistok.units import Scale
from vistok.verbs import train_tokenizer


def enlarged(codes, layout):
    """A decoder that turns with its input: each latent becomes a square of four pixels a side."""
    square = codes.transpose(1, 2).unflatten(2, layout.sides)
    return square.repeat_interleave(4, 2).repeat_interleave(4, 3)


def seen_of(latents, images, sides=(4, 4)) -> Seen:
    output = BottleneckOutput(latents, latents, latents)
    return Seen(images, images, latents, output, grid(*sides), images.mean(), images, images)


def setting(decode=enlarged, sides=(4, 4)) -> Setting:
    return Setting(3, Vectors(layout=grid(*sides), dim=3), decode=decode)


def test_noise_is_mixed_in_by_a_share_for_each_image():
    part = NoisingRegularizer(NoisingConfig(strength=3.0, weight=0.5), setting())
    latents = torch.full((4000, 16, 3), 2.0)
    torch.manual_seed(0)
    noisy = part.noisy(latents)
    tau = 1 - noisy.mean(dim=(1, 2)) / 2
    assert -1.5 < tau.min() < 0.1 and 0.9 < tau.max() < 2.5 and tau.mean() == pytest.approx(0.5, abs=0.02)
    few = noisy.std(dim=(1, 2))
    assert float(torch.corrcoef(torch.stack([tau, few]))[0, 1]) > 0.8 and few.max() == pytest.approx(3, rel=0.5)
    images = torch.rand(4000, 3, 16, 16)
    torch.manual_seed(0)
    loss = part(seen_of(latents, images), 0).terms["noising_loss"]
    torch.testing.assert_close(loss, 0.5 * F.mse_loss(enlarged(noisy, grid(4, 4)), images))


def test_a_decoder_that_turns_with_its_latents_costs_nothing():
    part = EquivarianceRegularizer(EquivarianceConfig(shrinking=0.0), setting())
    latents = torch.randn(2, 16, 3)
    images = enlarged(latents, grid(4, 4))
    turns = {part.drawn(step)[0] for step in range(40)}
    assert turns == {0, 1, 2, 3}
    for step in range(8):
        assert float(part(seen_of(latents, images), step).terms["equivariance_loss"]) == 0
    fixed = EquivarianceRegularizer(EquivarianceConfig(shrinking=0.0), setting(lambda codes, layout: images))
    assert max(float(fixed(seen_of(latents, images), step).terms["equivariance_loss"]) for step in range(8)) > 0.1


def test_latents_shrink_with_the_image():
    part = EquivarianceRegularizer(EquivarianceConfig(shrinking=1.0), setting())
    sizes = {part.drawn(step)[1] for step in range(60)}
    assert sizes <= {(side, side) for side in (1, 2, 3, 4)} and {(2, 2), (3, 3)} <= sizes
    flat = torch.ones(2, 16, 3)
    for step in range(10):  # of one colour, whatever its size
        assert float(part(seen_of(flat, enlarged(flat, grid(4, 4))), step).terms["equivariance_loss"]) < 1e-10


def test_rectangles_turn_upside_down_alone():
    part = EquivarianceRegularizer(EquivarianceConfig(), setting(sides=(2, 4)))
    assert {part.drawn(step)[0] for step in range(30)} == {0, 2}


@pytest.mark.parametrize(
    ("kind", "config"), [(NoisingRegularizer, NoisingConfig()), (EquivarianceRegularizer, EquivarianceConfig())]
)
def test_integers_are_refused(kind, config):
    with pytest.raises(UserError, match="vectors.*but these latents are 4x4 tokens of 8 codes"):
        kind(config, Setting(3, token_grid(4, 4, 8), decode=enlarged))


def test_padded_images_are_refused():
    """Their latents cover a border that turns away from where it is cropped."""
    padded = Setting(3, Vectors(layout=grid(4, 4), dim=3), decode=enlarged, padded=True)
    with pytest.raises(UserError, match="padded to a whole number of latents"):
        EquivarianceRegularizer(EquivarianceConfig(), padded)
    config = override(find_recipe("debug_kl"), ["regularizers.equivariance.weight=0.5", "tokenizer.encoder.multipliers=[1, 1, 1, 2]",
                                                "tokenizer.decoder.multipliers=[1, 1, 1, 2]"])  # fmt: skip
    with pytest.raises(UserError, match="padded to a whole number of latents"):
        train_tokenizer.build_objective(config, torch.device("meta"))


def test_all_regularizers_together_in_one_run(fashion_root, tmp_path, quiet):
    settings = [f'data.root="{fashion_root}"', "data.max_images=60", "length=6 steps", "execution.log_every=1"]
    settings += ["regularizers.noising.weight=0.3", "regularizers.equivariance.weight=0.3"]
    settings += ['regularizers.alignment.features="fashion"']
    run = train_tokenizer.prepare(override(find_recipe("debug_kl"), settings), tmp_path).train(quiet).path
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "train"]
    for name, weight in (("noising", 0.3), ("equivariance", 0.3)):
        for row in rows:
            assert row[f"autoencoder/{name}_loss"] == pytest.approx(weight * row[f"autoencoder/{name}_error"], rel=1e-4)
    assert all("autoencoder/alignment_loss" in row for row in rows)


def test_an_images_noise_is_its_own_whatever_the_batch():
    """A batch and its halves have the same loss: of the bottleneck's draw, and of noising."""
    settings = [
        "crt=null",
        "tokenizer.quantizer.kind=kl",
        "tokenizer.quantizer.weight=0.01",
        "regularizers.noising.weight=0.5",
    ]
    config = override(find_recipe("debug_crt"), [*settings, "losses.perceptual=null"])
    torch.manual_seed(0)
    objective = train_tokenizer.build_objective(config, torch.device("cpu"))
    (phase,) = objective.phases(Scale(8, 1, 1, (), 10))
    objective.tokenizer.train()
    with torch.no_grad():
        objective.tokenizer.pre_quantizer.weight.mul_(20)
    whole = {
        "images": torch.rand(8, 1, 28, 28) * 2 - 1,
        "labels": torch.zeros(8).long(),
        "positions": torch.arange(40, 48),
    }

    def loss(batch) -> dict[str, float]:
        torch.manual_seed(int(torch.randint(1000, ())))  # what others draw in between
        return {name: float(term.detach()) for name, term in phase.loss(batch, 5).terms.items()}

    halves = [loss({name: part[rows] for name, part in whole.items()}) for rows in (slice(4), slice(4, 8))]
    for name, value in loss(whole).items():
        assert value == pytest.approx((halves[0][name] + halves[1][name]) / 2, rel=1e-5), name
    moved = loss({**whole, "positions": whole["positions"] + 8})
    assert moved["noising_loss"] != pytest.approx(loss(whole)["noising_loss"], rel=1e-4)
    assert moved["pixel_loss"] != pytest.approx(loss(whole)["pixel_loss"], rel=1e-6)
