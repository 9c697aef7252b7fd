"""On another device: steps, noise and samples are the CPU's. VISTOK_TEST_DEVICE names it; without one, the CPU stands in."""

import os

import pytest
import torch

import test_host_waits
from test_host_waits import CASES, SMALL, training_of
from vistok.config import override
from vistok.engine.device import setup_device
from vistok.engine.statistics import Statistics
from vistok.engine.step import take_step
from vistok.recipes import find_recipe
from vistok.rng import gumbel_grid, normal_grid
from vistok.runs.load import load_generator, load_tokenizer
from vistok.verbs import train_tokenizer

pytestmark = pytest.mark.device
DEVICE = torch.device(os.environ.get("VISTOK_TEST_DEVICE", "cpu"))


def numbers_of(case: str, device: torch.device) -> dict[str, float]:
    """Take two steps on a device, from weights and images that are the same on all; return what they measured."""
    recipe, settings = CASES[case]
    run = override(find_recipe(recipe), [*settings, *SMALL, "generator.dropout=0", "generator.label_dropout=0"]
                   if recipe == "debug_ar" else [*settings, *SMALL])  # fmt: skip
    setup_device(run.execution)
    training, batch = training_of(run, device)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (p for phase in training.phases for module in phase.modules for p in module.parameters()):
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    for name, tensor in batch.items():
        drawn = torch.rand(tensor.shape, generator=generator)
        batch[name] = (drawn * 2 - 1 if tensor.is_floating_point() else (drawn * 9).long()).to(device)
    statistics = Statistics(training.world)
    for step in (60, 61):
        take_step(training, dict(batch), step, statistics)
    return statistics.read()[0]


@pytest.mark.parametrize("case", ["normalized", "waiting", "fsq", "codes begin and restart", "generator"])
def test_steps_measure_what_they_measure_on_a_cpu(case, monkeypatch):
    monkeypatch.setattr(train_tokenizer, "build_distances", test_host_waits.distances)
    there, here = (numbers_of(case, device) for device in (DEVICE, torch.device("cpu")))
    assert there.keys() == here.keys() and len(here) > 2
    assert all(there[name] == pytest.approx(here[name], rel=1e-2, abs=1e-4) for name in here)


def test_noise_is_the_same_on_every_device():
    images, places = torch.arange(50), torch.arange(50) % 7
    found = gumbel_grid(3, images.to(DEVICE), places.to(DEVICE), 64).cpu()
    torch.testing.assert_close(found, gumbel_grid(3, images, places, 64), rtol=1e-5, atol=1e-5)
    found = normal_grid(3, images.to(DEVICE), places.to(DEVICE), (4, 5)).cpu()
    torch.testing.assert_close(found, normal_grid(3, images, places, (4, 5)), rtol=1e-4, atol=1e-5)


def test_samples_are_the_same_on_every_device(toy_runs):
    tokenizer, _, generator = toy_runs
    drawn, pictures = [], []
    for device in (DEVICE, torch.device("cpu")):
        labels = torch.arange(20, device=device) % 10
        drawn.append(load_generator(generator).to(device).sample(labels).cpu())
        pictures.append(load_tokenizer(tokenizer).to(device).decode(drawn[0].to(device)).cpu())
    assert (drawn[0] == drawn[1]).float().mean() > 0.95  # a rounding error may swap two codes, and what follows them
    torch.testing.assert_close(pictures[0], pictures[1], rtol=1e-3, atol=1e-3)
