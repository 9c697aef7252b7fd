"""Checkpoints to and of vectors, in the files that their projects write: KL autoencoders and LightningDiT's generators."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from typer.testing import CliRunner

from vistok.cli import app
from vistok.errors import UserError
from vistok.generator.flow.config import FlowConfig, FlowSampling
from vistok.generator.flow.generator import FlowGenerator
from vistok.interop import diffusers as diffusers_module
from vistok.interop.autoencoder_names import to_theirs
from vistok.interop.diffusers import import_diffusers
from vistok.interop.diffusers_export import export_diffusers
from vistok.interop.diffusion_transformer import AROUND, BLOCK
from vistok.interop.dit import import_dit
from vistok.interop.imported import tokenizer_run, write_run
from vistok.interop.lightningdit import import_lightningdit
from vistok.interop.taming import import_taming
from vistok.recipes import find_recipe
from vistok.rng import normal_grid
from vistok.runs.initial import with_network_of
from vistok.runs.load import load_generator, load_tokenizer
from vistok.runs.teacher import with_teacher
from vistok.space import Vectors, grid
from vistok.tokenizer.bottlenecks.config import KLConfig, SimVQConfig, VQConfig
from vistok.tokenizer.config import ConvNetConfig, ConvTokenizerConfig
from vistok.tokenizer.networks.conv import ConvTokenizer
from vistok.verbs import train_tokenizer
from vistok.verbs.train_generator import require_fits

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
DOUBLE = torch.float64
YAML = """model:
  target: ldm.models.autoencoder.AutoencoderKL
  params:
    monitor: val/rec_loss
    embed_dim: 4
    use_vf: dinov2
    reverse_proj: true
    lossconfig: {target: ldm.modules.losses.LPIPSWithDiscriminator, params: {vf_weight: 0.1}}
    ddconfig: {double_z: true, z_channels: 6, resolution: 16, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 2],
               num_res_blocks: 2, attn_resolutions: [8], dropout: 0.0}
"""
DIFFUSERS = {
    "_class_name": "AutoencoderKL", "_diffusers_version": "0.30", "act_fn": "silu", "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "in_channels": 3,
    "out_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "sample_size": 16,
    "scaling_factor": 0.13, "shift_factor": None, "latents_mean": None, "latents_std": None, "force_upcast": True,
    "use_quant_conv": True, "use_post_quant_conv": True, "mid_block_add_attention": True,
}  # fmt: skip


def autoencoder(z: int, dim: int, attention: tuple[int, ...]) -> ConvTokenizer:
    """Return a small network whose encoder gives twice as many channels as its decoder takes."""
    side = ConvNetConfig(channels=32, multipliers=(1, 2), attention_resolutions=attention)
    config = ConvTokenizerConfig(
        image_size=16,
        latent_channels=2 * z,
        decoder_channels=z,
        encoder=side,
        decoder=side,
        quantizer=KLConfig(dim=dim),
    )
    torch.manual_seed(0)
    model = ConvTokenizer(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def require_same(run: Path, model: ConvTokenizer) -> None:
    ours, latents = load_tokenizer(run), model.encode(IMAGES)
    torch.testing.assert_close(ours.stored(IMAGES), model.stored(IMAGES), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.decode(latents), model.decode(latents), rtol=1e-4, atol=1e-5)


def test_va_vaes_checkpoint_with_its_yaml(tmp_path):
    model = autoencoder(z=6, dim=4, attention=(8,))
    state = to_theirs(model.state_dict(), model.config, "taming")
    assert state["quant_conv.weight"].shape == (8, 12, 1, 1) and state["post_quant_conv.weight"].shape == (6, 4, 1, 1)
    state |= {"linear_proj.weight": torch.ones(9, 4, 1, 1), "foundation_model.model.x": torch.ones(3), "loss.logvar": torch.ones(())}  # fmt: skip
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "v.ckpt")
    (tmp_path / "v.yaml").write_text(YAML)
    said = import_taming(tmp_path / "v.ckpt", tmp_path / "v.yaml", tmp_path / "run")
    assert "ldm-kl-f2: tokenizer, 8x8 vectors of 4 numbers at 16 pixels" in said
    require_same(tmp_path / "run", model)
    (tmp_path / "v.yaml").write_text(YAML.replace("double_z: true", "double_z: false"))
    with pytest.raises(UserError, match="double_z: False is not supported"):
        import_taming(tmp_path / "v.ckpt", tmp_path / "v.yaml", tmp_path / "other")


def test_an_imported_autoencoder_is_planned_for_imagenet_without_its_images(tmp_path, monkeypatch):
    """The dry runs opened a folder that nobody had named: an imported network knows only that it learned ImageNet."""
    state = to_theirs((model := autoencoder(z=6, dim=4, attention=(8,))).state_dict(), model.config, "taming")
    torch.save({"state_dict": state}, tmp_path / "v.ckpt")
    (tmp_path / "v.yaml").write_text(YAML)
    import_taming(tmp_path / "v.ckpt", tmp_path / "v.yaml", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    command = ["cache", "run", "--split", "train", "--view", "center", "--view", "flip", "--dry-run"]
    (plan,) = json.loads(CliRunner().invoke(app, command).output)
    assert plan["images"] == 1_271_167 and plan["views"] == ["center", "flip"] and "as ImageNet has" in plan["absent"]
    assert plan["bytes"] == 1_271_167 * 2 * 64 * (4 + 4) * 2 and plan["hours"] is plan["images_per_second"] is None
    planned = CliRunner().invoke(app, ["train", "generator", "debug_flow", "--tokenizer", "run", "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert (
        "1,271,167 images, as ImageNet has" in planned.output and "1.21 GiB of latents for each view" in planned.output
    )
    for number in range(2):  # a folder of that name is not one that was named
        place = tmp_path / "imagenet" / "train" / f"n0144076{number}"
        place.mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(place / "a.png")
    (again,) = json.loads(CliRunner().invoke(app, command).output)
    assert again == plan
    refused = CliRunner().invoke(app, [*command, "--data", "pictures"])  # a folder that was named must be there
    assert refused.exit_code and "pictures" in str(refused.exception)


def test_an_autoencoder_kl_of_diffusers(tmp_path):
    model = autoencoder(z=4, dim=4, attention=())
    layers = {
        ours: theirs
        for theirs, ours in diffusers_module.layer_names(model.config).items()
        if not re.search(r"\.(query|key|value|proj_attn)$", theirs)
    }
    state = {}
    for name, value in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        theirs = f"{layers[layer]}.{kind}"
        state[theirs] = value[:, :, 0, 0].contiguous() if ".to_" in theirs and value.ndim == 4 else value.contiguous()
    folder = tmp_path / "pipeline" / "vae"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(DIFFUSERS))
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    said = import_diffusers(tmp_path / "pipeline", tmp_path / "run")
    assert "diffusers-kl-f2: tokenizer, 8x8 vectors of 4 numbers" in said
    require_same(tmp_path / "run", model)
    # What diffusion models multiply its vectors by comes back.
    assert "no scaling_factor" not in export_diffusers(tmp_path / "run", tmp_path / "back")
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert written["scaling_factor"] == 0.13 and "shift_factor" not in written
    for change, words in (({"use_quant_conv": False}, "use_quant_conv: False"), ({"_class_name": "AsymmetricAutoencoderKL"}, "VQModel and AutoencoderKL can"),
                          ({"scaling_factor": 0}, "scaling_factor is 0; it must be a finite number above 0"), ({"shift_factor": "NaN"}, "shift_factor is 'NaN'")):  # fmt: skip
        (folder / "config.json").write_text(json.dumps(DIFFUSERS | change))
        with pytest.raises(UserError, match=words):
            import_diffusers(folder, tmp_path / "other")


@pytest.fixture
def vae_run(tmp_path) -> Path:
    model = autoencoder(z=4, dim=4, attention=(8,))
    text = YAML.replace("z_channels: 6", "z_channels: 4")
    (tmp_path / "v.yaml").write_text(text)
    torch.save({"state_dict": to_theirs(model.state_dict(), model.config, "taming")}, tmp_path / "v.ckpt")
    import_taming(tmp_path / "v.ckpt", tmp_path / "v.yaml", tmp_path / "vae")
    return tmp_path / "vae"


def test_a_tokenizer_for_diffusers_comes_back_as_it_was(vae_run, tmp_path):
    arguments = ["export", "diffusers", str(vae_run), "--out", str(tmp_path / "folder")]
    for _ in range(2):  # again is fine
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0 and "AutoencoderKL in" in done.output and "has no scaling_factor" in done.output
    written = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert written["down_block_types"] == ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]
    assert written["latent_channels"] == 4 and written["block_out_channels"] == [32, 64]
    import_diffusers(tmp_path / "folder", tmp_path / "again")
    first, second = (load_tokenizer(place) for place in (vae_run, tmp_path / "again"))
    assert first.config == second.config
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    (tmp_path / "folder" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="already holds something else"):
        export_diffusers(vae_run, tmp_path / "folder")


def test_a_tokenizer_that_diffusers_cannot_express_is_refused(toy_runs, tmp_path):
    with pytest.raises(UserError, match="VQModel has one network on both sides.*a Euclidean look-up"):
        export_diffusers(toy_runs[0], tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_mapped_codes_are_written_for_diffusers_as_codes(tmp_path):
    side = ConvNetConfig(channels=32, multipliers=(1, 2), attention_resolutions=())
    config = ConvTokenizerConfig(image_size=16, latent_channels=6, encoder=side, decoder=side,
                                 quantizer=SimVQConfig(codebook_size=40, code_dim=4))  # fmt: skip
    torch.manual_seed(0)
    state = ConvTokenizer(config).state_dict()
    write_run(tmp_path / "run", "tokenizer", tokenizer_run("simvq", config), state, Path(__file__), class_names=["a"], dataset="folder", data_digest="")  # fmt: skip
    ours = load_tokenizer(tmp_path / "run")
    tokens = ours.encode(IMAGES)
    assert len(tokens.unique()) > 5
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())
    assert export_diffusers(tmp_path / "run", tmp_path / "folder") == f"VQModel in {tmp_path / 'folder'}"
    import_diffusers(tmp_path / "folder", tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.config.quantizer == VQConfig(codebook_size=40, code_dim=4, lookup="euclidean")
    assert torch.equal(again.encode(IMAGES), tokens)
    torch.testing.assert_close(again.decode(tokens), ours.decode(tokens), rtol=1e-4, atol=1e-5)


def to_lightningdit(model: FlowGenerator) -> dict[str, Tensor]:
    """Return a generator's weights as LightningDiT names and lays them out."""
    around = {ours: theirs for theirs, ours in AROUND.items()}
    other = "mlp.fc2" if model.config.feed_forward == "swiglu" else "mlp.w3"
    block = {ours: theirs for theirs, ours in BLOCK.items() if theirs != other}
    state = {}
    for name, value in model.network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer.startswith("blocks."):
            _, number, inner = layer.split(".", 2)
            theirs = f"blocks.{number}.{block[inner]}"
        else:
            theirs = around[layer]
        state[f"{theirs}.{kind}"] = value
    p, dim = model.config.patch, model.space.dim
    key = "x_embedder.proj.weight"
    state[key] = state[key].unflatten(1, (p, p, dim)).permute(0, 3, 1, 2)
    state["pos_embed"] = model.network.places[None]
    if model.config.rotary:
        state["feat_rope.freqs_cos"], state["feat_rope.freqs_sin"] = (
            table.repeat_interleave(2, dim=1) for table in (model.network.cos, model.network.sin)
        )
    return state


CHANGES = [{}, {"patch": 2, "qk_norm": True}, {"norm": "layer", "feed_forward": "gelu", "rotary": False}]


@pytest.mark.parametrize("changes", CHANGES)
def test_a_generator_of_lightningdit(changes, vae_run, tmp_path):
    torch.manual_seed(1)
    config = FlowConfig(width=32, depth=2, num_heads=2, time_scale=1.0, **changes)
    model = FlowGenerator(config, Vectors(layout=grid(8, 8), dim=4), 5).eval()
    for weight in model.network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    mean, std = torch.randn(4), torch.rand(4) + 0.5
    model.normalise_by(mean, std / 0.5)
    file = tmp_path / "dit.pt"
    state = to_lightningdit(model)
    torch.save({"model": {"x": torch.ones(2)}, "ema": {f"module.{k}": v for k, v in state.items()}}, file)
    torch.save({"mean": mean.view(1, 4, 1, 1), "std": std.view(1, 4, 1, 1)}, tmp_path / "latents_stats.pt")
    done = CliRunner().invoke(app, [
        "import", "lightningdit", str(file), "--out", str(tmp_path / "run"), "--tokenizer", str(vae_run),
        "--statistics", str(tmp_path / "latents_stats.pt"), "--num-heads", "2", "--multiplier", "0.5",
    ], catch_exceptions=False)  # fmt: skip
    assert done.exit_code == 0 and "8x8 vectors of 4 numbers, 5 classes" in done.output
    ours = load_generator(tmp_path / "run")
    assert ours.config == config
    labels, how = torch.tensor([0, 3, 4]), FlowSampling(steps=3, guidance_scale=2.0)
    torch.testing.assert_close(ours.sample(labels, sampling=how), model.sample(labels, sampling=how))


def test_statistics_that_would_spoil_every_sample_are_refused(vae_run, tmp_path):
    model = FlowGenerator(FlowConfig(width=32, depth=1, num_heads=2), Vectors(layout=grid(8, 8), dim=4), 5)
    torch.save(to_lightningdit(model), tmp_path / "dit.pt")
    for std, multiplier, words in (
        (torch.tensor([1.0, 0.0, 1.0, 1.0]), 1.0, "'std' must be above 0, found 0;"),
        (-torch.ones(4), 1.0, "'std' must be above 0, found -1;"),
        (torch.ones(4), 0.0, "--multiplier 0.0: expected a number above 0"),
        (torch.ones(4), float("nan"), "--multiplier nan: expected a number above 0"),
    ):
        torch.save({"mean": torch.zeros(4), "std": std}, tmp_path / "s.pt")
        with pytest.raises(UserError, match=re.escape(words)):
            import_lightningdit(tmp_path / "dit.pt", tmp_path / "run", vae_run, tmp_path / "s.pt", 2, multiplier)
    for statistics, words in (
        ({"mean": torch.tensor([0.0, math.nan, 0.0, 0.0]), "std": torch.ones(4)}, "statistics .*s.pt: 'mean' holds values that are not finite"),
        ({"mean": torch.zeros(8), "std": torch.ones(8)}, r"tensors of 4 channels, found mean \(8 numbers\), std \(8 numbers\)"),
        ({"mean": [0.0] * 4, "std": [1.0] * 4}, r"found mean \(list\), std \(list\)"),
    ):  # fmt: skip
        torch.save(statistics, tmp_path / "s.pt")
        with pytest.raises(UserError, match=words):
            import_lightningdit(tmp_path / "dit.pt", tmp_path / "run", vae_run, tmp_path / "s.pt", 2)
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_refused(vae_run, tmp_path):
    model = FlowGenerator(FlowConfig(width=32, depth=1, num_heads=2), Vectors(layout=grid(8, 8), dim=4), 5)
    whole = to_lightningdit(model)
    torch.save({"mean": torch.zeros(4), "std": torch.ones(4)}, tmp_path / "s.pt")
    final = "final_layer.linear.weight"
    cases = {
        "num-heads": ({}, None),
        "also predicts a variance": ({final: torch.zeros(8, 32)}, 2),
        "has no weight 'x_embedder.proj.weight'": ({"x_embedder.proj.weight": None}, 2),
        "writes vectors of 3 numbers": (
            {"x_embedder.proj.weight": torch.zeros(32, 3, 1, 1), final: torch.zeros(3, 32)},
            2,
        ),
        "it has 16 positions": ({"pos_embed": torch.zeros(1, 16, 32)}, 2),
        "pos_embed. are not those": ({"pos_embed": whole["pos_embed"] + 0.1}, 2),
        "weight 'blocks.0.twist.weight' is not part": ({"blocks.0.twist.weight": torch.ones(2)}, 2),
        "import a DiT with vistok import dit": ({final: torch.zeros(8, 32)}, 2),
        "without shifts": ({"blocks.0.adaLN_modulation.1.weight": torch.zeros(128, 32)}, 2),
    }
    for words, (changes, heads) in cases.items():
        torch.save({k: v for k, v in {**whole, **changes}.items() if v is not None}, tmp_path / "dit.pt")
        with pytest.raises(UserError, match=words):
            import_lightningdit(tmp_path / "dit.pt", tmp_path / "run", vae_run, tmp_path / "s.pt", heads)
    torch.save(whole, tmp_path / "dit.pt")
    torch.save({"mean": torch.zeros(3), "std": torch.ones(3)}, tmp_path / "s.pt")
    with pytest.raises(UserError, match="expected 'mean' and 'std', tensors of 4 channels"):
        import_lightningdit(tmp_path / "dit.pt", tmp_path / "run", vae_run, tmp_path / "s.pt", 2)
    assert not (tmp_path / "run").exists()


def dit_state(
    width: int, depth: int, classes: int, side: int, channels: int, variance: bool = True
) -> dict[str, Tensor]:
    """Return random weights as DiT names and lays them out, with a patch of two."""
    shapes = {
        "x_embedder.proj": (width, channels, 2, 2), "t_embedder.mlp.0": (width, 256), "t_embedder.mlp.2": (width, width),
        "final_layer.linear": (4 * channels * (1 + variance), width), "final_layer.adaLN_modulation.1": (2 * width, width),
    }  # fmt: skip
    for i in range(depth):
        shapes |= {
            f"blocks.{i}.attn.qkv": (3 * width, width), f"blocks.{i}.attn.proj": (width, width),
            f"blocks.{i}.mlp.fc1": (4 * width, width), f"blocks.{i}.mlp.fc2": (width, 4 * width),
            f"blocks.{i}.adaLN_modulation.1": (6 * width, width),
        }  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    state = {"y_embedder.embedding_table.weight": torch.randn(classes + 1, width, generator=generator) * 0.2}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * 0.15
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    place = torch.arange(side // 2, dtype=DOUBLE)
    angles = place[:, None] * 10_000.0 ** (-torch.arange(width // 4, dtype=DOUBLE) / (width // 4))
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns, rows = waves.repeat(side // 2, 1), waves.repeat_interleave(side // 2, dim=0)
    return state | {"pos_embed": torch.cat([columns, rows], dim=1)[None].float()}


def dits_noise(state: dict[str, Tensor], x: Tensor, number: int, labels: Tensor, heads: int) -> Tensor:
    """Return the noise that DiT predicts in x (batch, channels, height, width) after step `number` of 0 to 999."""

    def linear(name: str, h: Tensor) -> Tensor:
        return functional.linear(h, state[f"{name}.weight"].double(), state[f"{name}.bias"].double())

    def normalized(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return functional.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]

    kernel = state["x_embedder.proj.weight"].double()
    h = functional.conv2d(x, kernel, state["x_embedder.proj.bias"].double(), stride=2)
    batch, width, rows, columns = h.shape
    h = h.flatten(2).transpose(1, 2) + state["pos_embed"].double()
    angles = number * torch.exp(-math.log(10_000) * torch.arange(128, dtype=DOUBLE) / 128)
    time = linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()])[None])
    condition = (
        linear("t_embedder.mlp.2", functional.silu(time)) + state["y_embedder.embedding_table.weight"].double()[labels]
    )
    condition = functional.silu(condition)
    depth = sum(name.endswith("attn.qkv.weight") for name in state)
    for i in range(depth):
        parts = linear(f"blocks.{i}.adaLN_modulation.1", condition).chunk(6, dim=1)
        qkv = linear(f"blocks.{i}.attn.qkv", normalized(h, *parts[:2])).unflatten(2, (3, heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v
        h = h + parts[2][:, None] * linear(f"blocks.{i}.attn.proj", mixed.transpose(1, 2).flatten(2))
        inner = functional.gelu(linear(f"blocks.{i}.mlp.fc1", normalized(h, *parts[3:5])), approximate="tanh")
        h = h + parts[5][:, None] * linear(f"blocks.{i}.mlp.fc2", inner)
    out = linear(
        "final_layer.linear", normalized(h, *linear("final_layer.adaLN_modulation.1", condition).chunk(2, dim=1))
    )
    images = (
        out.unflatten(1, (rows, columns)).unflatten(3, (2, 2, -1)).permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
    )
    return images[:, : x.shape[1]]


def ddim(
    state: dict[str, Tensor], x: Tensor, numbers: list[int], labels: Tensor, heads: int, scale: float, guided: int
) -> Tensor:
    """Return DDIM's result from noise x through these steps (Song et al. 2020, equation 12 with sigma 0), in float64."""
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=DOUBLE), 0)
    without = torch.full_like(labels, len(state["y_embedder.embedding_table.weight"]) - 1)
    for now, after in zip(numbers, [*numbers[1:], None], strict=True):
        noise, plain = (dits_noise(state, x, now, classes, heads) for classes in (labels, without))
        noise[:, :guided] = plain[:, :guided] + scale * (noise[:, :guided] - plain[:, :guided])
        clean = (x - (1 - kept[now]).sqrt() * noise) / kept[now].sqrt()
        there = torch.ones((), dtype=DOUBLE) if after is None else kept[after]
        x = there.sqrt() * clean + (1 - there).sqrt() * noise
    return x


@pytest.mark.parametrize("variance", [True, False])
def test_a_generator_of_dit_draws_what_dit_draws(variance, vae_run, tmp_path):
    state = dit_state(width=32, depth=2, classes=5, side=8, channels=4, variance=variance)
    torch.save({"model": {"x": torch.ones(2)}, "ema": state} if variance else state, tmp_path / "DiT.pt")
    arguments = ["import", "dit", str(tmp_path / "DiT.pt"), "--tokenizer", str(vae_run), "--out", str(tmp_path / "run"), "--num-heads", "4"]  # fmt: skip
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert (
        done.exit_code == 0 and "DiT: generator" in done.output and "8x8 vectors of 4 numbers, 5 classes" in done.output
    )
    assert ("learned variance" in done.output) == variance
    model = load_generator(tmp_path / "run", device="cpu")
    labels, ids = torch.tensor([0, 3, 4]), torch.tensor([5, 6, 9])
    noise = normal_grid(2, ids, 0, (64, 4))
    pictures = noise.double().transpose(1, 2).unflatten(2, (8, 8))
    for number in (0, 500, 999):
        with torch.no_grad():
            found = model.network(noise, torch.full((3,), 1 - (number + 1) / 1000), labels)
        expected = dits_noise(state, pictures, number, labels, heads=4).flatten(2).transpose(1, 2)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=2e-5)
    how = FlowSampling(steps=50, solver="ddim", guidance_scale=4.0, guidance_channels=3, seed=2)
    found = model.sample(labels, ids, how).double() * 0.18215
    expected = ddim(state, pictures, list(range(999, 0, -20)), labels, heads=4, scale=4.0, guided=3)
    expected = expected.flatten(2).transpose(1, 2)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4


def test_a_dit_that_never_dropped_labels_keeps_all_its_classes(vae_run, tmp_path):
    torch.save(dit_state(width=32, depth=1, classes=999, side=8, channels=4), tmp_path / "DiT.pt")
    assert "1,000 classes and none for no class" in import_dit(tmp_path / "DiT.pt", tmp_path / "run", vae_run, 4)
    model = load_generator(tmp_path / "run", device="cpu")
    assert model.num_classes == 1000 and model.null_label is None
    with pytest.raises(UserError, match="label_dropout"):
        model.sample(torch.tensor([999]), torch.tensor([0]), FlowSampling(steps=1, guidance_scale=2.0))


@pytest.mark.parametrize("rows, said, classes, words", [
    (10, None, 9, "9 classes and one for no class; if all 10 are classes, give --classes 10"),
    (10, 10, 10, "10 classes and none for no class"), (10, 9, 9, "9 classes and one for no class"), (1, None, 1, "1 class and none"),
])  # fmt: skip
def test_rows_of_a_table_of_classes_are_what_one_says(rows, said, classes, words, vae_run, tmp_path):
    """Whether the last row is a class or stands for none cannot be seen in a file."""
    file = tmp_path / "DiT.pt"
    torch.save(dit_state(width=32, depth=1, classes=rows - 1, side=8, channels=4), file)
    line = import_dit(file, tmp_path / "run", vae_run, 4, classes=said)
    assert words in line and ("give --classes" in line) == (said is None and rows > 1)
    model = load_generator(tmp_path / "run", device="cpu")
    assert model.num_classes == classes and (model.null_label is None) == (classes == rows)
    with pytest.raises(UserError, match=f"has {rows} rows, so --classes is .*found 12"):
        import_dit(file, tmp_path / "other", vae_run, 4, classes=12)


def test_an_autoencoders_shift_is_subtracted_before_its_scale(vae_run, tmp_path):
    """A network that was trained on (z - shift) * scale has the shift for its mean."""
    export_diffusers(vae_run, tmp_path / "vae.d")
    settings = json.loads((tmp_path / "vae.d" / "config.json").read_text())
    (tmp_path / "vae.d" / "config.json").write_text(json.dumps(settings | {"scaling_factor": 1.5, "shift_factor": 0.6}))
    import_diffusers(tmp_path / "vae.d", tmp_path / "shifted")
    torch.save(dit_state(width=32, depth=1, classes=5, side=8, channels=4), tmp_path / "DiT.pt")
    plain = load_generator(_dit(tmp_path / "DiT.pt", tmp_path / "plain", vae_run, 1.5), device="cpu")
    shifted = load_generator(_dit(tmp_path / "DiT.pt", tmp_path / "run", tmp_path / "shifted", 1.5), device="cpu")
    labels, how = torch.tensor([0, 3]), FlowSampling(steps=3)
    torch.testing.assert_close(shifted.sample(labels, sampling=how), plain.sample(labels, sampling=how) + 0.6)


def test_an_autoencoders_moments_come_before_its_scale_and_come_back(vae_run, tmp_path):
    """They were dropped without a word, and samples decoded off the scale: diffusers takes (z - mean) * scale / std."""
    export_diffusers(vae_run, tmp_path / "vae.d")
    config = tmp_path / "vae.d" / "config.json"
    settings, moments = (
        json.loads(config.read_text()),
        {"latents_mean": [0.5, -1.0, 0.0, 2.0], "latents_std": [2.0, 3.0, 1.0, 0.5]},
    )
    config.write_text(json.dumps(settings | moments | {"scaling_factor": 1.5}))
    import_diffusers(tmp_path / "vae.d", tmp_path / "moved")
    export_diffusers(tmp_path / "moved", tmp_path / "back")
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert {name: written[name] for name in moments} == moments and written["scaling_factor"] == 1.5
    torch.save(dit_state(width=32, depth=1, classes=5, side=8, channels=4), tmp_path / "DiT.pt")
    plain = load_generator(_dit(tmp_path / "DiT.pt", tmp_path / "plain", vae_run, 1.5), device="cpu")
    moved = load_generator(_dit(tmp_path / "DiT.pt", tmp_path / "run", tmp_path / "moved", 1.5), device="cpu")
    labels, how = torch.tensor([0, 3]), FlowSampling(steps=3)
    mean, deviation = (torch.tensor(moments[name]) for name in ("latents_mean", "latents_std"))
    torch.testing.assert_close(
        moved.sample(labels, sampling=how), plain.sample(labels, sampling=how) * deviation + mean
    )
    # A decoder trained alone decodes the same vectors, which the generators of these know so normalised.
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        Image.new("RGB", (16, 16), (20 * number, 9, 9)).save(tmp_path / "pictures" / f"{number}.png")
    recipe = with_network_of(find_recipe("images64_kl"), str(tmp_path / "moved"))
    data = recipe.data.replace(dataset="folder", root=str(tmp_path / "pictures"))
    for trains, kept in (("decoder", 1.5), ("all", None)):
        tuned = train_tokenizer.prepare(recipe.replace(trains=trains, data=data, name=trains), tmp_path / "runs")
        assert tuned.metadata.get("scaling_factor") == kept and ("latents_std" in tuned.metadata) == (kept is not None)
    # Diffusers takes both or neither.
    config.write_text(json.dumps(settings | {"latents_std": moments["latents_std"], "scaling_factor": 1.5}))
    import_diffusers(tmp_path / "vae.d", tmp_path / "one")
    one = load_generator(_dit(tmp_path / "DiT.pt", tmp_path / "of-one", tmp_path / "one", 1.5), device="cpu")
    torch.testing.assert_close(one.sample(labels, sampling=how), plain.sample(labels, sampling=how))
    for wrong in (
        {"latents_std": [10**400, 1, 1, 1]},
        {"latents_mean": [0.5]},
        {"latents_std": [1.0, 1.0, 0.0, 1.0]},
        {"latents_std": "x"},
    ):
        config.write_text(json.dumps(settings | moments | wrong))
        with pytest.raises(UserError, match=f"{next(iter(wrong))} is .*; it must be a list of 4 finite numbers"):
            import_diffusers(tmp_path / "vae.d", tmp_path / "other")


def test_an_imported_teacher_has_classes_of_its_own(vae_run, tmp_path):
    """Its autoencoder, imported too, is said to know ImageNet's."""
    torch.save(dit_state(width=32, depth=1, classes=5, side=8, channels=4), tmp_path / "DiT.pt")
    import_dit(tmp_path / "DiT.pt", tmp_path / "run", vae_run, 4)
    require_fits(with_teacher(find_recipe("debug_guided"), str(tmp_path / "run")), vae_run)


def _dit(file, out, tokenizer, scale):
    import_dit(file, out, tokenizer, 4, scale)
    return out


def test_an_import_is_shown_with_its_parameters(vae_run, tmp_path):
    torch.save(dit_state(width=32, depth=1, classes=5, side=8, channels=4), tmp_path / "DiT.pt")
    import_dit(tmp_path / "DiT.pt", tmp_path / "run", vae_run, 4)
    for run in (vae_run, tmp_path / "run"):
        done = CliRunner().invoke(app, ["show", str(run)], catch_exceptions=False)
        assert done.exit_code == 0 and re.search(r"[1-9][0-9,]+ parameters", done.output), done.output


def test_what_is_not_a_dit_of_this_autoencoder_is_refused(vae_run, tmp_path):
    whole, file = dit_state(width=32, depth=1, classes=5, side=8, channels=4), tmp_path / "dit.pt"
    final = "final_layer.linear.weight"
    for words, changes, heads, scale in (
        ("give --num-heads", {}, None, 0.18215),
        ("--scale 0.0: expected a number above 0", {}, 4, 0.0),
        ("of LightningDiT; import it with vistok import lightningdit", {"blocks.0.mlp.w12.weight": torch.ones(2, 2)}, 4, 0.18215),
        ("gives 20 numbers for a patch, where DiT's gives 16 or, with a variance, 32", {final: torch.zeros(20, 32)}, 4, 0.18215),
        ("it has 9 positions", {"pos_embed": torch.zeros(1, 9, 32)}, 4, 0.18215),
    ):  # fmt: skip
        torch.save({**whole, **changes}, file)
        with pytest.raises(UserError, match=words):
            import_dit(file, tmp_path / "run", vae_run, heads, scale)
    torch.save(whole, file)
    export_diffusers(vae_run, tmp_path / "vae.d")
    settings = json.loads((tmp_path / "vae.d" / "config.json").read_text())
    (tmp_path / "vae.d" / "config.json").write_text(json.dumps(settings | {"scaling_factor": 0.13025}))
    import_diffusers(tmp_path / "vae.d", tmp_path / "sdxl")
    with pytest.raises(UserError, match=r"multiply its vectors by 0.13025.*SD-VAE, 0.18215"):
        import_dit(file, tmp_path / "run", tmp_path / "sdxl", 4)
    assert not (tmp_path / "run").exists()
    import_dit(file, tmp_path / "run", tmp_path / "sdxl", 4, 0.13025)
