"""What an image costs: counted FLOPs against those of a real sampling, batches by memory, rounded weights."""

import pytest
import torch

from vistok.config import override, science
from vistok.engine import device as devices
from vistok.engine.distributed import World
from vistok.generator.autoregressive import frozen as frozen_module
from vistok.generator.autoregressive.config import AutoregressiveConfig, AutoregressiveSampling
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.metrics.cost import Cost, cost_in
from vistok.metrics.protocol import Treatment
from vistok.nn.flops import count_flops
from vistok.recipes import find_recipe
from vistok.runs import drawing
from vistok.runs.drawing import decoding_flops, first_of_share, fitting_batch
from vistok.space import token_grid
from vistok.tokenizer.networks.conv import ConvTokenizer


def make(**changes):
    torch.manual_seed(0)
    config = AutoregressiveConfig(**{"width": 32, "depth": 2, "num_heads": 2, "ffn_multiple": 16, **changes})
    model = AutoregressiveGenerator(config, token_grid(3, 4, 20), 5).eval()
    torch.nn.init.normal_(model.head.weight, std=0.5)
    return model


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_flops_of_an_image_are_those_of_drawing_it(monkeypatch, guidance):
    """By the plain products, which the counter sees; two images cost twice as much."""
    model, sampling = make(), AutoregressiveSampling(guidance_scale=guidance)
    monkeypatch.setattr(frozen_module, "native_step", lambda *_: None)
    monkeypatch.setattr(frozen_module, "frozen_linear", lambda weight, rounding: frozen_module.PlainLinear(weight))
    executed = count_flops(lambda: model.sample(torch.arange(2), sampling=sampling))
    assert model.sampling_flops(sampling) == pytest.approx(executed / 2, rel=1e-6)
    assert model.calls(sampling) == 12 * guidance


def test_flops_of_decoding_are_those_of_the_decoder():
    model = ConvTokenizer(find_recipe("debug_vq").tokenizer).eval()
    executed = count_flops(lambda: model.decode(torch.zeros(3, 49, dtype=torch.int64)))
    assert decoding_flops(model.config) == pytest.approx(executed / 3, rel=1e-6)


def test_as_many_images_at_once_as_memory_holds(monkeypatch):
    model, plain = make(), AutoregressiveSampling()
    each = model.sampling_bytes(plain)
    assert each == 2 * 2 * 12 * 32 * 4 + 6 * 20 * 4  # keys and values of two layers; six rows of logits
    assert model.sampling_bytes(plain.replace(guidance_scale=2.0)) == 2 * each
    for free, expected in ((20 * each, 10), (each, 1), (10**12, 500), (None, 500)):
        monkeypatch.setattr(drawing, "free_memory", lambda device, free=free: free)
        assert fitting_batch(model, plain) == expected
    assert fitting_batch(model, plain, 7) == 7

    class Two(World):
        """Two processes, of which the other holds three images."""

        def collect(self, value):
            return [value, 3]

    assert fitting_batch(model, plain, world=Two(rank=0, size=2)) == 3
    assert [first_of_share(1200, 100, World(rank=rank, size=2)) for rank in (0, 1)] == [0, 600]
    # 775M parameters with guidance: 500 images at once would be 88 GiB of keys and values.
    with torch.device("meta"):
        large = AutoregressiveGenerator(find_recipe("imagenet256_ar_775m").generator, token_grid(24, 24, 16_384), 1000)
    assert large.sampling_bytes(AutoregressiveSampling(guidance_scale=1.5)) * 500 > 88 * 2**30


def test_free_memory_is_what_the_container_leaves(monkeypatch, tmp_path):
    free = devices.free_memory(torch.device("cpu"))
    assert free is None or free > 2**20
    monkeypatch.setattr(devices, "_available", lambda: 5 * 2**30)
    monkeypatch.setattr(devices, "CONTAINER", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{7 * 2**30}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {2 * 2**30}\n")
    assert devices.free_memory(torch.device("cpu")) == 5 * 2**30
    (tmp_path / "memory.max").write_text(f"{8 * 2**30}\n")  # of which files that were read give back two
    assert devices.free_memory(torch.device("cpu")) == 3 * 2**30


def test_sixteen_bits_are_a_named_rounding():
    model, plain = make(), AutoregressiveSampling(seed=3)
    rounded = AutoregressiveSampling(seed=3, precision="bfloat16")
    labels = torch.arange(40) % 5
    tokens, others = model.sample(labels, sampling=plain), model.sample(labels, sampling=rounded)
    assert 0 < float((tokens != others).float().mean()) < 0.5
    assert all(weight.dtype == torch.float32 for weight in model.parameters())  # the model itself is as it was
    assert model.sampling_bytes(rounded) < model.sampling_bytes(plain)
    weights = AutoregressiveSampling(seed=3, precision="bfloat16-weights")
    near = model.sample(labels, sampling=weights)
    assert 0 < float((tokens != near).float().mean()) < 0.5 and model.sampling_bytes(weights) == model.sampling_bytes(
        plain
    )
    assert ", weights in bfloat16" in str(Treatment(sampling=science(weights)))
    for other in (rounded, weights):
        with pytest.raises(Exception, match="two ways of rounding"):
            override(other, ["int8=true"])


def test_a_cost_is_said_and_read_back():
    cost = Cost(98.0, 1.2e9, 3e8, 4.56, 100, 50, "a machine (2 threads)")
    assert str(cost) == "98 calls and 1.5 GFLOPs an image, 4.56 ms on a machine (2 threads), 50 at once"
    assert cost_in({"cost": cost.to_json()}) == cost and cost_in({}) is None
    assert cost.to_json()["flops_per_image"] == 1.5e9
    assert str(Cost(1.0, 5e5, 5e5, 0.0, 0, 0, "")) == "1 call and 1 MFLOPs an image"
