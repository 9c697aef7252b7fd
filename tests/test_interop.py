"""Checkpoints of other projects: read without running them, round trips, clear refusals."""

import argparse
import json
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vistok.config import science
from vistok.data.config import DataConfig
from vistok.engine.config import OptimizerConfig
from vistok.engine.log import Progress
from vistok.engine.weights import save_weights
from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveConfig, AutoregressiveSampling
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.interop import diffusers as diffusers_module
from vistok.interop import llamagen as llamagen_module
from vistok.interop.autoencoder_names import to_ours, to_theirs
from vistok.interop.diffusers import import_diffusers
from vistok.interop.foreign_file import read_foreign
from vistok.interop.llamagen import _require_llamagen_tokenizer, export_llamagen, generator_to_theirs, import_llamagen
from vistok.interop.taming import import_taming
from vistok.recipes import find_recipe
from vistok.runs.initial import with_network_of
from vistok.runs.load import load_generator, load_tokenizer
from vistok.space import token_grid
from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.bottlenecks.vq import VQ
from vistok.tokenizer.config import AdversarialConfig, ConvNetConfig, ConvTokenizerConfig, LossConfig
from vistok.tokenizer.networks.conv import ConvTokenizer
from vistok.tokenizer.regularizers.config import CausalConfig
from vistok.units import steps
from vistok.verbs import train_tokenizer


class Callback:
    """What Lightning leaves in a checkpoint: an object of a class that the reader has not."""

    def __init__(self) -> None:
        self.best = {"score": 1.0}


class Touch:
    """What nobody should run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def _llamagen_config(lookup: str = "cosine") -> ConvTokenizerConfig:
    side = ConvNetConfig(channels=32, multipliers=(1, 2), attention_resolutions=(8,))
    quantizer = VQConfig(codebook_size=32, lookup=lookup)
    return ConvTokenizerConfig(image_size=16, latent_channels=8, encoder=side, decoder=side, quantizer=quantizer)


def _tokenizer(config: ConvTokenizerConfig) -> ConvTokenizer:
    torch.manual_seed(0)
    model = ConvTokenizer(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def small_llamagen(monkeypatch: pytest.MonkeyPatch) -> AutoregressiveGenerator:
    monkeypatch.setitem(llamagen_module.SIZES, (2, 64), ("GPT-small", 4))
    config = AutoregressiveConfig(width=64, depth=2, num_heads=4, qk_norm=False, class_token_rotary="zero")
    torch.manual_seed(1)
    model = AutoregressiveGenerator(config, token_grid(8, 8, 32), 10)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model.eval()


def _save_tokenizer(path: Path, model: ConvTokenizer, **more: Any) -> Path:
    theirs = to_theirs(model.state_dict(), model.config, "llamagen")
    torch.save({"model": theirs | {"quantize.codebook_used": torch.zeros(65536)}, **more}, path)
    return path


def test_a_call_in_a_pickle_is_not_made(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    file = tmp_path / "evil.pt"
    torch.save({"model": {"weight": torch.arange(3.0)}, "callbacks": {"a": Touch(marker)}}, file)
    found = read_foreign(file)
    assert not marker.exists()
    assert torch.equal(found["model"]["weight"], torch.arange(3.0))
    # The file does run it where it is read as it asks.
    torch.load(file, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_callbacks_and_namespaces_do_not_stop_the_reading(tmp_path: Path, legacy: bool) -> None:
    file = tmp_path / "x.ckpt"
    parts = {"state_dict": {"w": torch.ones(2)}, "args": argparse.Namespace(image_size=384), "callbacks": [Callback()]}
    torch.save(parts, file, _use_new_zipfile_serialization=not legacy)
    found = read_foreign(file)
    assert found["args"].image_size == 384
    assert torch.equal(found["state_dict"]["w"], torch.ones(2))


def test_what_is_no_checkpoint_gets_a_sentence(tmp_path: Path) -> None:
    for name, content in (("page.pt", b"<html>not found</html>"), ("cut.safetensors", b"\x00" * 20), ("empty.pt", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            read_foreign(tmp_path / name)
    (tmp_path / "list.pt").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="list.pt"):
        read_foreign(tmp_path / "list.pt")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as file:
        file.writestr("a.txt", "a")
    with pytest.raises(UserError, match="zip.pt"):
        read_foreign(tmp_path / "zip.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_tokenizer_goes_to_llamagen_and_back(tmp_path: Path, suffix: str) -> None:
    model = _tokenizer(_llamagen_config())
    file = _save_tokenizer(tmp_path / "vq.pt", model, args=argparse.Namespace(image_size=16))
    said = import_llamagen(file, tmp_path / "run")
    assert "llamagen-vq2" in said and "8x8 tokens of 32 codes" in said
    imported = load_tokenizer(tmp_path / "run")
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(imported.encode(images), model.encode(images))
    assert export_llamagen(tmp_path / "run", tmp_path / f"back{suffix}") == "tokenizer"
    back = read_foreign(tmp_path / f"back{suffix}")
    theirs = to_theirs(model.state_dict(), model.config, "llamagen")
    found: dict[str, Tensor] = back["model"] if suffix == ".pt" else back
    # LlamaGen loads strictly, and its module has this buffer.
    assert found.pop("quantize.codebook_used").shape == (65_536,)
    assert set(found) == set(theirs) and all(torch.equal(found[name], theirs[name]) for name in theirs)


def test_generator_goes_to_llamagen_and_back(tmp_path: Path, small_llamagen: AutoregressiveGenerator) -> None:
    import_llamagen(
        _save_tokenizer(tmp_path / "vq.pt", _tokenizer(_llamagen_config())), tmp_path / "tok", image_size=16
    )
    theirs = generator_to_theirs(small_llamagen.state_dict())
    assert {"layers.1.attention.wqkv.weight", "cls_embedding.embedding_table.weight"} <= set(theirs)
    torch.save({"model": theirs, "args": argparse.Namespace(image_size=16)}, tmp_path / "gpt.pt")
    with pytest.raises(UserError, match="--tokenizer"):
        import_llamagen(tmp_path / "gpt.pt", tmp_path / "gpt")
    import_llamagen(tmp_path / "gpt.pt", tmp_path / "gpt", tokenizer=tmp_path / "tok")
    # The same import again changes nothing; another into the same folder is refused.
    import_llamagen(tmp_path / "gpt.pt", tmp_path / "gpt", tokenizer=tmp_path / "tok")
    with pytest.raises(UserError, match="already holds something else"):
        import_llamagen(tmp_path / "vq.pt", tmp_path / "gpt", image_size=16)
    imported = load_generator(tmp_path / "gpt")
    tokens, labels = torch.randint(32, (2, 64)), torch.tensor([1, 9])
    assert torch.equal(imported(tokens, labels), small_llamagen(tokens, labels))
    greedy = AutoregressiveSampling(temperature=0.0, guidance_scale=2.0)
    ids = torch.arange(2)
    assert torch.equal(imported.sampler(greedy)(labels, ids), small_llamagen.sampler(greedy)(labels, ids))
    assert export_llamagen(tmp_path / "gpt", tmp_path / "back.pt") == "generator"
    back = torch.load(tmp_path / "back.pt", weights_only=True)["model"]
    assert set(back) == set(theirs) and all(torch.equal(back[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("name", "depth", "width", "heads", "hidden", "params"),
    [
        ("GPT-XL", 36, 1280, 20, 3584, 775e6),
        ("GPT-XXL", 48, 1536, 24, 4096, 1.4e9),
        ("GPT-3B", 24, 3200, 32, 8704, 3.1e9),
    ],
)
def test_llamagens_largest_have_their_shapes(name, depth, width, heads, hidden, params) -> None:
    """By shapes alone, on the meta device: the shapes that LlamaGen's files have."""
    layer = {
        "attention.wqkv": (3 * width, width), "attention.wo": (width, width), "attention_norm": (width,),
        "ffn_norm": (width,), "feed_forward.w1": (hidden, width), "feed_forward.w3": (hidden, width),
        "feed_forward.w2": (width, hidden),
    }  # fmt: skip
    shapes = {f"layers.{i}.{part}.weight": shape for i in range(depth) for part, shape in layer.items()}
    shapes |= {"tok_embeddings.weight": (16_384, width), "output.weight": (16_384, width), "norm.weight": (width,)}
    shapes |= {"cls_embedding.embedding_table.weight": (1001, width)}
    theirs = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    found_name, config = llamagen_module.generator_config(theirs)
    assert (found_name, config.num_heads, config.width, config.depth) == (name, heads, width, depth)
    with torch.device("meta"):
        model = AutoregressiveGenerator(config, token_grid(24, 24, 16_384), 1000)
    ours = {key: tuple(value.shape) for key, value in generator_to_theirs(model.state_dict()).items()}
    assert ours == shapes
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(params, rel=0.03)


def test_other_architectures_are_named(tmp_path: Path, small_llamagen: AutoregressiveGenerator) -> None:
    model = _tokenizer(_llamagen_config())
    theirs = to_theirs(model.state_dict(), model.config, "llamagen")
    lacking = {name: value for name, value in theirs.items() if name != "decoder.conv_out.bias"}
    for content, words in (
        (lacking, "missing: decoder.conv_out.bias"),
        (theirs | {"encoder.extra.weight": torch.ones(1)}, "encoder.extra.weight"),
        (theirs | {"decoder.conv_out.bias": torch.ones(7)}, r"decoder.conv_out.bias \(7,\) instead of \(3,\)"),
        ({"head.weight": torch.ones(1)}, "neither a tokenizer"),
        ({"tok_embeddings.weight": torch.ones(4, 96)}, "0 layers of width 96"),
        ({"cls_embedding.cap_proj.fc1.weight": torch.ones(1)}, "text-to-image"),
    ):
        save_file(content, str(tmp_path / "x.safetensors"))
        with pytest.raises(UserError, match=words):
            import_llamagen(tmp_path / "x.safetensors", tmp_path / "out", image_size=16)
        assert not (tmp_path / "out").exists()


_YAML = """
model:
  params:
    n_embed: 32
    embed_dim: 8
    ddconfig: {double_z: False, z_channels: 8, resolution: 16, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 2],
      num_res_blocks: 2, attn_resolutions: [8], dropout: 0.0}
"""


def test_taming_checkpoint_with_its_yaml(tmp_path: Path) -> None:
    config = _llamagen_config("euclidean")
    model = _tokenizer(config)
    theirs = to_theirs(model.state_dict(), config, "taming")
    assert {"encoder.down.0.downsample.conv.weight", "decoder.up.1.upsample.conv.weight", "encoder.mid.attn_1.q.bias"} <= set(theirs)  # fmt: skip
    assert all(
        torch.equal(value, model.state_dict()[name]) for name, value in to_ours(theirs, config, "taming").items()
    )
    state = theirs | {"loss.discriminator.main.0.weight": torch.ones(1)}
    torch.save({"state_dict": state, "callbacks": {Callback: {"best": 1}}, "epoch": 3}, tmp_path / "vqgan.ckpt")
    (tmp_path / "vqgan.yaml").write_text(_YAML)
    import_taming(tmp_path / "vqgan.ckpt", tmp_path / "vqgan.yaml", tmp_path / "run")
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(load_tokenizer(tmp_path / "run").encode(images), model.encode(images))
    for text, words in (
        (_YAML.replace("n_embed: 32", "n_embed: 64"), "of another shape: quantizer.codebook"),
        (_YAML.replace("n_embed: 32", ""), "no 'n_embed'"),
        (_YAML.replace("double_z: False", "double_z: True"), "double_z"),
    ):
        (tmp_path / "vqgan.yaml").write_text(text)
        with pytest.raises(UserError, match=words):
            import_taming(tmp_path / "vqgan.ckpt", tmp_path / "vqgan.yaml", tmp_path / "other")
    with pytest.raises(UserError, match="--config"):
        import_taming(tmp_path / "vqgan.ckpt", tmp_path / "missing.yaml", tmp_path / "other")


def test_euclidean_look_up_finds_the_nearest_code() -> None:
    torch.manual_seed(0)
    quantizer = VQ(VQConfig(codebook_size=50, code_dim=4, lookup="euclidean"))
    quantizer.codebook.data = torch.randn(50, 4)
    vectors = 2 * torch.randn(200, 4)
    expected = torch.cdist(vectors.double(), quantizer.codebook.double()).argmin(dim=1)
    output = quantizer(vectors)
    assert torch.equal(output.stored, expected)
    assert torch.equal(quantizer.indices_to_codes(expected), quantizer.codebook[expected])
    assert torch.equal(quantizer.codes_to_indices(quantizer.codebook), torch.arange(50))
    assert torch.equal(output.latents, vectors)


def test_networks_that_llamagen_cannot_express_are_refused(tmp_path: Path) -> None:
    config = _llamagen_config("euclidean")
    (tmp_path / "vqgan.yaml").write_text(_YAML)
    torch.save({"state_dict": to_theirs(_tokenizer(config).state_dict(), config, "taming")}, tmp_path / "vqgan.ckpt")
    import_taming(tmp_path / "vqgan.ckpt", tmp_path / "vqgan.yaml", tmp_path / "run")
    with pytest.raises(UserError, match="cannot be exported"):
        export_llamagen(tmp_path / "run", tmp_path / "x.pt")
    with pytest.raises(UserError, match="as wide a decoder"):
        _require_llamagen_tokenizer(_llamagen_config("cosine").replace(decoder_channels=16))
    with pytest.raises(UserError, match=".safetensors"):
        export_llamagen(tmp_path / "run", tmp_path / "x.bin")


@pytest.mark.slow
def test_fine_tuning_begins_with_the_imported_weights(tmp_path: Path, photo_folder: Path, quiet: Progress) -> None:
    """A learning rate of next to nothing leaves them where they were; the regularizer and a fresh discriminator train."""
    import_llamagen(
        _save_tokenizer(tmp_path / "vq.pt", _tokenizer(_llamagen_config())), tmp_path / "tok", image_size=16
    )
    base = find_recipe("debug_vq").replace(
        data=DataConfig(dataset="folder", root=str(photo_folder), image_size=16, channels=3),
        tokenizer=ConvTokenizerConfig(image_size=16),
        losses=LossConfig(perceptual=None, adversarial=AdversarialConfig(start=steps(1), num_layers=1, channels=4)),
        regularizers=(CausalConfig(width=16, num_heads=2, ffn_multiple=16),),
        length=steps(2),
        optimizer=OptimizerConfig(lr=1e-12, weight_decay=0.0, warmup=steps(0)),
    )
    config = with_network_of(base, str(tmp_path / "tok"))
    assert config.tokenizer == _llamagen_config()
    job = train_tokenizer.prepare(config, tmp_path / "runs")
    run = job.train(quiet)
    before, after = (load_tokenizer(path).state_dict() for path in (tmp_path / "tok", run.path))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    # Other weights to begin with are another run; the place where they lie is not.
    assert train_tokenizer.prepare(config.replace(init_from=""), tmp_path / "runs").run_dir.path != run.path
    (tmp_path / "tok").rename(tmp_path / "moved")
    moved = with_network_of(base, str(tmp_path / "moved"))
    assert train_tokenizer.prepare(moved, tmp_path / "runs").run_dir.path == run.path
    other = moved.replace(tokenizer=moved.tokenizer.replace(latent_channels=4))
    with pytest.raises(UserError, match="differs from the config's"):
        train_tokenizer.prepare(other, tmp_path / "other").train(quiet)


IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1


def _taming(tmp_path: Path, state: dict[str, Tensor], text: str = _YAML) -> tuple[Tensor, str]:
    """Import a VQGAN; return its tokens of two images, and what the import said."""
    torch.save({"state_dict": state}, tmp_path / "v.ckpt")
    (tmp_path / "v.yaml").write_text(text)
    shutil.rmtree(tmp_path / "v", ignore_errors=True)
    said = import_taming(tmp_path / "v.ckpt", tmp_path / "v.yaml", tmp_path / "v")
    return load_tokenizer(tmp_path / "v").encode(IMAGES), said


def test_the_weights_of_a_vqgan_are_those_that_the_original_decodes_with(tmp_path: Path) -> None:
    config = _llamagen_config("euclidean")
    model = _tokenizer(config)
    state = to_theirs(model.state_dict(), config, "taming")
    expected, said = _taming(tmp_path, state)
    assert torch.equal(expected, model.encode(IMAGES))
    assert said.endswith("16 pixels")
    # A codebook that is an average carries what it is made from, in either order.
    statistics = {"quantize.embedding.embed_avg": torch.randn(32, 8), "quantize.embedding.cluster_size": torch.ones(32)}
    for averaged in (state | statistics, statistics | state):
        assert torch.equal(_taming(tmp_path, averaged)[0], expected)
    # Averages lie under names without dots; the yaml tells whether they are used.
    other = {name: value + 0.1 * torch.randn_like(value) for name, value in state.items()}
    both = other | {f"model_ema.{name.replace('.', '')}": value for name, value in state.items()}
    both |= {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3)}
    with_ema = _YAML.replace("    n_embed", "    use_ema: True\n    n_embed")
    tokens, said = _taming(tmp_path, both, with_ema)
    assert torch.equal(tokens, expected) and "averaged weights (use_ema)" in said
    tokens, said = _taming(tmp_path, both)
    assert torch.equal(tokens, _taming(tmp_path, other)[0]) and "left out" in said
    assert "has none" in _taming(tmp_path, state, with_ema)[1]
    del both["model_ema.encoderconv_inweight"]
    with pytest.raises(UserError, match="encoder.conv_in.weight"):
        _taming(tmp_path, both, with_ema)


def test_a_vqgan_inside_a_larger_models_checkpoint(tmp_path: Path) -> None:
    config = _llamagen_config("euclidean")
    state = to_theirs(_tokenizer(config).state_dict(), config, "taming")
    expected, _ = _taming(tmp_path, state)
    inside = {f"first_stage_model.{name}": value for name, value in state.items()}
    inside |= {"transformer.tok_emb.weight": torch.ones(2), "cond_stage_model.x": torch.ones(1)}
    nested = _YAML.replace("\n", "\n      ").replace(
        "model:", "first_stage_config:\n        target: taming.models.vqgan.VQModel"
    )
    outer = "model:\n  target: taming.models.cond_transformer.Net2NetTransformer\n  params:\n" + nested.replace(
        "\n      first_", "\n    first_"
    )
    tokens, said = _taming(tmp_path, inside, outer.replace("params:\n\n      first", "params:\n    first"))
    assert torch.equal(tokens, expected) and "larger model around it is left out" in said


def test_latent_diffusions_network_without_attention(tmp_path: Path) -> None:
    side = ConvNetConfig(channels=32, multipliers=(1, 2), attention_resolutions=(), middle_attention=False)
    quantizer = VQConfig(codebook_size=32, lookup="euclidean")
    config = ConvTokenizerConfig(image_size=16, latent_channels=8, encoder=side, decoder=side, quantizer=quantizer)
    state = to_theirs(_tokenizer(config).state_dict(), config, "taming")
    assert "encoder.mid.block_2.conv1.weight" in state and not [name for name in state if "attn" in name]
    text = _YAML.replace("  params:", "  target: ldm.models.autoencoder.VQModelInterface\n  params:", 1)
    text = text.replace("attn_resolutions: [8]", "attn_resolutions: [], attn_type: none")
    tokens, said = _taming(tmp_path, state, text)
    assert torch.equal(tokens, _tokenizer(config).encode(IMAGES)) and "ldm-vq-f2" in said
    # Configs of before the option keep their fingerprints.
    assert "middle_attention" not in science(ConvNetConfig()) and "middle_attention" in science(side)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  params:", "  target: src.IBQ.models.ibqgan.IBQ\n  params:", "ibqgan.IBQ; these can be imported"),
        ("  params:", "  target: taming.models.vqgan.GumbelVQ\n  params:", "GumbelVQ"),
        ("    n_embed", "    l2_normalize: True\n    n_embed", "l2_normalize: True is not supported"),
        ("    n_embed", "    remap: x.npy\n    n_embed", "remap: x.npy"),
        ("    n_embed", "    use_l2_norm: 1\n    n_embed", "use_l2_norm"),
        ("dropout: 0.0", "resamp_with_conv: False", "resamp_with_conv: False"),
        ("dropout: 0.0", "tanh_out: True", "tanh_out"),
        ("ch: 32", "ch: 33", "norm_groups"),
        ("ch: 32", "ch: wide", "encoder.channels"),
        ("resolution: 16", "resolution: 99999999", "image_size"),
        (_YAML, "[" * 20_000, "nested too deeply"),
        (_YAML, "{a: " * 20_000, "nested too deeply"),
        (_YAML, "- 1\n- 2", "it has no model"),
        (_YAML, "\x00\x01", "damaged"),
    ],
)  # fmt: skip
def test_what_a_yaml_says_is_read_or_refused_by_name(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "v.yaml").write_text(_YAML.replace(old, new, 1))
    torch.save({"state_dict": {"encoder.down.0.block.0": torch.ones(1)}}, tmp_path / "v.ckpt")
    with pytest.raises(UserError, match=words):
        import_taming(tmp_path / "v.ckpt", tmp_path / "v.yaml", tmp_path / "out")


def test_a_file_of_another_family_is_named_with_its_verb(tmp_path: Path) -> None:
    vqgan = {"encoder.down.0.block.0.conv1.weight": torch.ones(1)}
    quantized = vqgan | {"quantize.embedding.weight": torch.ones(1)}
    (tmp_path / "v.yaml").write_text(_YAML)
    for content, words in (
        (quantized, "VQGAN of taming.*vistok import taming"),
        (vqgan, "KL autoencoder of latent-diffusion.*vistok import taming"),
        (
            {"encoder.down_blocks.0.x": torch.ones(1), "quantize.embedding.weight": torch.ones(1)},
            "vistok import diffusers",
        ),
        ({"encoder.down_blocks.0.x": torch.ones(1)}, "AutoencoderKL"),
        ({"first_stage_model.quantize.embedding.weight": torch.ones(1)}, "vistok import taming"),
        ({"quantize.embed.weight": torch.ones(1)}, "Gumbel"),
        ({"fc.weight": torch.ones(1)}, "its weights are fc.weight"),
    ):
        torch.save({"model": content}, tmp_path / "x.pt")
        with pytest.raises(UserError, match=words):
            import_llamagen(tmp_path / "x.pt", tmp_path / "out")
    torch.save({"model": {"encoder.conv_blocks.0.res.0": torch.ones(1)}}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="vistok import llamagen"):
        import_taming(tmp_path / "x.pt", tmp_path / "v.yaml", tmp_path / "out")


def test_weights_that_are_quantized_or_not_finite_are_refused(tmp_path: Path) -> None:
    for wrong, words in ((torch.ones(3).to(torch.int8), "holds int8"), (torch.full((3,), float("nan")), "not finite")):
        state = to_theirs(_tokenizer(_llamagen_config()).state_dict(), _llamagen_config(), "llamagen")
        torch.save({"model": state | {"decoder.conv_out.bias": wrong}}, tmp_path / "x.pt")
        with pytest.raises(UserError, match=f"decoder.conv_out.bias.*{words}"):
            import_llamagen(tmp_path / "x.pt", tmp_path / "out", image_size=16)


def test_llamagens_stored_arguments_are_read(tmp_path: Path, small_llamagen: AutoregressiveGenerator) -> None:
    euclidean = _tokenizer(_llamagen_config("euclidean"))
    _save_tokenizer(tmp_path / "vq.pt", euclidean, args=argparse.Namespace(image_size=16, codebook_l2_norm=False))
    import_llamagen(tmp_path / "vq.pt", tmp_path / "tok")
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(load_tokenizer(tmp_path / "tok").encode(images), euclidean.encode(images))
    theirs = generator_to_theirs(small_llamagen.state_dict())
    table = "cls_embedding.embedding_table.weight"
    classless = theirs | {table: theirs[table][:-1]}
    for number, (state, arguments, words) in enumerate((
        (theirs, {}, "256 pixels assumed"),
        (theirs, {"image_size": 32}, "16x16 tokens of 32 codes, 10 classes$"),
        (classless, {"class_dropout_prob": 0.0}, "10 classes, trained without label dropout"),
        (classless, {"num_classes": 10}, "10 classes, trained without label dropout"),
        (theirs, {"num_classes": 10}, "10 classes; 256"),
        (theirs, {"num_classes": 12}, "num_classes 12"),
        (theirs, {"cls_token_num": 120}, "cls_token_num 120"),
        (theirs, {"downsample_size": 16}, "tokens of 16x16 pixels, but those of tokenizer"),
        (theirs, {"image_size": "wide"}, "image size 'wide'"),
    )):  # fmt: skip
        torch.save({"model": state, "args": argparse.Namespace(**arguments)}, tmp_path / "gpt.pt")
        try:
            said = import_llamagen(tmp_path / "gpt.pt", tmp_path / f"gpt{number}", tokenizer=tmp_path / "tok")
        except UserError as error:
            said = str(error)
        assert re.search(words, said), said
    # Without a row for no class: the same logits, no guidance, and the same table when it goes back.
    imported = load_generator(tmp_path / "gpt2")
    with pytest.raises(UserError, match="label dropout"):
        imported.sampler(AutoregressiveSampling(guidance_scale=2.0))
    assert "class_dropout_prob=0" in export_llamagen(tmp_path / "gpt2", tmp_path / "back.pt")
    assert torch.equal(read_foreign(tmp_path / "back.pt")["model"][table], classless[table])
    # Published files tell their size by their names.
    torch.save({"model": theirs}, tmp_path / "c2i_B_384.pt")
    said = import_llamagen(tmp_path / "c2i_B_384.pt", tmp_path / "gpt-b", tokenizer=tmp_path / "tok")
    assert "192x192 tokens" in said and "384 pixels, going by the file's name" in said


def test_an_export_can_be_repeated_and_overwrites_nothing_else(tmp_path: Path) -> None:
    config = _llamagen_config()
    restarting = config.replace(quantizer=config.quantizer.replace(restart_after=5))
    state = {name: value for name, value in _tokenizer(config).state_dict().items()}
    state |= {"quantizer.used": torch.zeros(32, dtype=torch.bool), "quantizer.steps_unused": torch.zeros(32).long()}
    header = {"model": "tokenizer", "config": json.loads(restarting.to_json()), "recipe": "r", "dataset": "folder",
              "class_names": ["all"], "run_config": {}, "training": {}}  # fmt: skip
    save_weights(tmp_path / "run.safetensors", state, header)
    (tmp_path / "out.pt.0123456789ab.partial").write_bytes(b"of a killed export")
    for _ in range(2):
        assert export_llamagen(tmp_path / "run.safetensors", tmp_path / "out.pt") == "tokenizer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.pt", "run.safetensors"]
    (tmp_path / "mine.pt").write_bytes(b"precious")
    with pytest.raises(UserError, match="already exists with other contents"):
        export_llamagen(tmp_path / "run.safetensors", tmp_path / "mine.pt")
    assert (tmp_path / "mine.pt").read_bytes() == b"precious"


_DIFFUSERS = {
    "_class_name": "VQModel", "_diffusers_version": "0.1", "act_fn": "silu", "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"], "in_channels": 3, "latent_channels": 8,
    "layers_per_block": 2, "norm_num_groups": 32, "num_vq_embeddings": 32, "out_channels": 3, "sample_size": 16,
    "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"], "vq_embed_dim": None, "scaling_factor": 0.18215,
}  # fmt: skip


def _to_diffusers(model: ConvTokenizer) -> dict[str, Tensor]:
    """Return a tokenizer's weights under the names of diffusers of today, attention as linear layers."""
    layers = {ours: theirs for theirs, ours in diffusers_module.layer_names(model.config).items() if not re.search(r"\.(query|key|value|proj_attn)$", theirs)}  # fmt: skip
    found = {}
    for name, value in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        theirs = "quantize.embedding.weight" if name == "quantizer.codebook" else f"{layers[layer]}.{kind}"
        found[theirs] = value[:, :, 0, 0] if ".to_" in theirs and value.ndim == 4 else value
    return found


def test_a_vqmodel_of_diffusers(tmp_path: Path) -> None:
    model = _tokenizer(_llamagen_config("euclidean"))
    theirs = _to_diffusers(model)
    assert {
        "encoder.down_blocks.0.downsamplers.0.conv.weight", "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
        "encoder.down_blocks.1.attentions.1.to_out.0.weight", "encoder.mid_block.attentions.0.group_norm.bias",
        "decoder.up_blocks.0.resnets.2.conv2.weight", "decoder.up_blocks.0.upsamplers.0.conv.bias",
        "decoder.mid_block.resnets.1.norm1.weight", "decoder.conv_norm_out.weight", "quantize.embedding.weight",
    } <= set(theirs)  # fmt: skip
    folder = tmp_path / "pipeline" / "vqvae"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(_DIFFUSERS))
    save_file(
        {name: value.contiguous() for name, value in theirs.items()}, folder / "diffusion_pytorch_model.safetensors"
    )
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    for place in (tmp_path / "pipeline", folder, folder / "diffusion_pytorch_model.safetensors"):
        said = import_diffusers(place, tmp_path / "run")
        assert "diffusers-vq-f2: tokenizer, 8x8 tokens of 32 codes at 16 pixels" in said
        assert torch.equal(load_tokenizer(tmp_path / "run").encode(images), model.encode(images))
    assert "16x16 tokens" in import_diffusers(folder, tmp_path / "larger", image_size=32)
    for change, words in (
        ({"_class_name": "Strange"}, "Strange.*VQModel and AutoencoderKL can"),
        ({"norm_type": "spatial"}, "norm_type: spatial"),
        ({"twist": 1}, "twist: 1"),
        ({"block_out_channels": [32, 48]}, "must all be multiples"),
        ({"block_out_channels": "x"}, "block_out_channels"),
        ({"up_block_types": ["Strange", "UpDecoderBlock2D"]}, "Strange"),
        ({"layers_per_block": 3}, "missing"),
    ):
        (folder / "config.json").write_text(json.dumps(_DIFFUSERS | change))
        with pytest.raises(UserError, match=words):
            import_diffusers(folder, tmp_path / "other")
    (folder / "config.json").write_text("[" * 20_000)
    with pytest.raises(UserError, match="nested too deeply"):
        import_diffusers(folder, tmp_path / "other")
    with pytest.raises(UserError, match="no config.json"):
        import_diffusers(tmp_path / "other", tmp_path / "another")
