"""TiTok's tokenizers and generators and MaskGIT's VQGAN, imported: against what their weights say, computed plainly here.

The original code stands beside ours in benchmarks/parity_tokens.py.
"""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

from vistok.cli import app
from vistok.errors import UserError
from vistok.interop.maskgit import import_maskgit
from vistok.interop.titok import import_titok
from vistok.interop.titok_generator import import_titok_generator
from vistok.runs.load import load_generator, load_tokenizer

WIDTH, HEADS, DIM, LATENTS, CODES, PATCH, SIDE = 8, 2, 4, 3, 16, 4, 12
GRID, PROXY_CODES, PROXY_DIM, CLASSES = SIDE // PATCH, 10, 6, 5
GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape, scale=0.5):
    return scale * torch.randn(*shape, generator=GENERATOR)


def linear(name, out, inside, *kernel, bias=True):
    return {f"{name}.weight": drawn(out, inside, *kernel), **({f"{name}.bias": drawn(out)} if bias else {})}


def norm(name, width=WIDTH):
    return {f"{name}.weight": 1 + drawn(width), f"{name}.bias": drawn(width)}


def side_of(name):
    found = {f"{name}.class_embedding": drawn(1, WIDTH), f"{name}.positional_embedding": drawn(GRID**2 + 1, WIDTH)}
    found[f"{name}.latent_token_positional_embedding"] = drawn(LATENTS, WIDTH)
    found |= norm(f"{name}.ln_pre") | norm(f"{name}.ln_post")
    block = f"{name}.transformer.0"
    found |= norm(f"{block}.ln_1") | norm(f"{block}.ln_2") | linear(f"{block}.attn.out_proj", WIDTH, WIDTH)
    found |= {f"{block}.attn.in_proj_weight": drawn(3 * WIDTH, WIDTH), f"{block}.attn.in_proj_bias": drawn(3 * WIDTH)}
    return found | linear(f"{block}.mlp.c_fc", 4 * WIDTH, WIDTH) | linear(f"{block}.mlp.c_proj", WIDTH, 4 * WIDTH)


def tokenizer_state(stages):
    state = side_of("encoder") | side_of("decoder") | {"latent_tokens": drawn(LATENTS, WIDTH)}
    state |= linear("encoder.patch_embed", WIDTH, 3, PATCH, PATCH) | linear("encoder.conv_out", DIM, WIDTH, 1, 1)
    state |= {"quantize.embedding.weight": drawn(CODES, DIM), "decoder.mask_token": drawn(1, 1, WIDTH)}
    state |= linear("decoder.decoder_embed", WIDTH, DIM)
    if not stages:
        return state | linear("decoder.ffn.0", 3 * PATCH**2, WIDTH, 1, 1) | linear("decoder.conv_out", 3, 3, 3, 3)
    state |= linear("decoder.ffn.0", 2 * WIDTH, WIDTH, 1, 1) | linear("decoder.ffn.2", PROXY_CODES, 2 * WIDTH, 1, 1)
    state |= {"pixel_quantize.embedding.weight": drawn(PROXY_CODES, PROXY_DIM)}
    return state | vqgan_side("pixel_decoder", down=False)


def residual(name, inside, out):
    found = norm(f"{name}.norm1", inside) | norm(f"{name}.norm2", out)
    found |= linear(f"{name}.conv1", out, inside, 3, 3, bias=False) | linear(
        f"{name}.conv2", out, out, 3, 3, bias=False
    )
    return found | (linear(f"{name}.nin_shortcut", out, out, 1, 1, bias=False) if inside != out else {})


def vqgan_side(name, down):
    """Levels of 32, 32 and 64 channels with a block each."""
    widths = [32, 32, 64]
    state = norm(f"{name}.norm_out", 64 if down else 32) | residual(f"{name}.mid.0", 64, 64)
    if down:
        state |= linear(f"{name}.conv_in", 32, 3, 3, 3, bias=False) | linear(f"{name}.conv_out", PROXY_DIM, 64, 1, 1)
        for i, before in enumerate([32, 32, 32]):
            state |= residual(f"{name}.down.{i}.block.0", before, widths[i])
        return state
    state |= linear(f"{name}.conv_in", 64, PROXY_DIM, 3, 3) | linear(f"{name}.conv_out", 3, 32, 3, 3)
    for i, before in enumerate([32, 64, 64]):
        state |= residual(f"{name}.up.{i}.block.0", before, widths[i])
        state |= linear(f"{name}.up.{i}.upsample_conv", widths[i], widths[i], 3, 3) if i else {}
    return state


def conv(state, name, x):
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)


def block(state, name, x):
    y = x
    for i in (1, 2):
        y = F.group_norm(y, 32, state[f"{name}.norm{i}.weight"], state[f"{name}.norm{i}.bias"], 1e-6)
        y = conv(state, f"{name}.conv{i}", F.silu(y))
    return y + (conv(state, f"{name}.nin_shortcut", y) if f"{name}.nin_shortcut.weight" in state else x)


def out_of(state, name, x):
    x = F.group_norm(x, 32, state[f"{name}.norm_out.weight"], state[f"{name}.norm_out.bias"], 1e-6)
    return conv(state, f"{name}.conv_out", F.silu(x))


def encoded(state, images):
    x = conv(state, "encoder.conv_in", images)
    for i in range(3):
        x = block(state, f"encoder.down.{i}.block.0", x)
        x = F.avg_pool2d(x, 2) if i < 2 else x
    return out_of(state, "encoder", block(state, "encoder.mid.0", x))


def decoded(state, name, x):
    x = block(state, f"{name}.mid.0", conv(state, f"{name}.conv_in", x))
    for i in (2, 1, 0):
        x = block(state, f"{name}.up.{i}.block.0", x)
        x = conv(state, f"{name}.up.{i}.upsample_conv", F.interpolate(x, scale_factor=2.0)) if i else x
    return out_of(state, name, x)


def layer_norm(state, name, x, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def fully(state, name, x):
    return F.linear(x, state[f"{name}.weight"].flatten(1), state[f"{name}.bias"])


def attended(x, qkv_weight, qkv_bias, out_weight, out_bias, heads=HEADS):
    layer = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True)
    weights = {"in_proj_weight": qkv_weight, "out_proj.weight": out_weight, "out_proj.bias": out_bias}
    layer.load_state_dict({**weights, "in_proj_bias": torch.zeros(3 * x.shape[-1]) if qkv_bias is None else qkv_bias})
    return layer(x, x, x, need_weights=False)[0]


def transformed(state, side, x):
    x, name = layer_norm(state, f"{side}.ln_pre", x), f"{side}.transformer.0"
    own = [
        state[f"{name}.attn.{part}"] for part in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    ]
    x = x + attended(layer_norm(state, f"{name}.ln_1", x), *own)
    h = fully(
        state, f"{name}.mlp.c_proj", F.gelu(fully(state, f"{name}.mlp.c_fc", layer_norm(state, f"{name}.ln_2", x)))
    )
    return layer_norm(state, f"{side}.ln_post", x + h)


def latents_of(state, images, legacy):
    patches = F.conv2d(images, state["encoder.patch_embed.weight"], state["encoder.patch_embed.bias"], stride=PATCH)
    first = state["encoder.class_embedding"].expand(len(images), 1, -1)
    x = torch.cat([first, patches.flatten(2).mT], 1) + state["encoder.positional_embedding"]
    latents = state["latent_tokens"] + state["encoder.latent_token_positional_embedding"]
    x = transformed(state, "encoder", torch.cat([x, latents.expand(len(x), -1, -1)], 1))[:, -LATENTS:]
    if legacy:
        x = x.reshape(len(x), WIDTH, LATENTS).mT
    return fully(state, "encoder.conv_out", x)


def places_of(state, codes):
    x = fully(state, "decoder.decoder_embed", codes) + state["decoder.latent_token_positional_embedding"]
    masks = state["decoder.mask_token"].expand(len(x), GRID**2, -1)
    first = state["decoder.class_embedding"].expand(len(x), 1, -1)
    masks = torch.cat([first, masks], 1) + state["decoder.positional_embedding"]
    return transformed(state, "decoder", torch.cat([masks, x], 1))[:, 1 : GRID**2 + 1]


def written(folder, state, config=None):
    folder.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps({"model": {"vq_model": config}}))
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def two_stage(tmp_path_factory):
    folder, state = tmp_path_factory.mktemp("titok"), tokenizer_state(stages=True)
    said = import_titok(written(folder, state), folder / "run", HEADS)
    assert "two-stage tokenizer, a line of 3 tokens of 16 codes at 12 pixels; no config.json beside it" in said
    return folder / "run", state


def test_two_stages(two_stage):
    run, state = two_stage
    images, ours = torch.rand(20, 3, SIDE, SIDE, generator=GENERATOR), load_tokenizer(run, device="cpu")
    codebook = F.normalize(state["quantize.embedding.weight"], dim=-1)
    tokens = (F.normalize(latents_of(state, images, legacy=True), dim=-1) @ codebook.T).argmax(-1)
    assert torch.equal(ours.encode(images * 2 - 1), tokens)
    x = torch.tanh(fully(state, "decoder.ffn.0", places_of(state, codebook[tokens])))
    logits = fully(state, "decoder.ffn.2", x)
    torch.testing.assert_close(ours.decoder.logits(ours.quantizer.to_decoder(tokens)), logits, rtol=1e-4, atol=1e-5)
    mean = (logits.softmax(-1) @ state["pixel_quantize.embedding.weight"]).mT.unflatten(2, (GRID, GRID))
    pictures = decoded(state, "pixel_decoder", mean)
    torch.testing.assert_close((ours.decode(tokens) + 1) / 2, pictures, rtol=1e-4, atol=1e-4)


def test_a_single_stage_as_its_config_says(tmp_path):
    state = tokenizer_state(stages=False)
    file = written(tmp_path / "file", state, {"use_l2_norm": False, "is_legacy": False})
    assert "single-stage tokenizer" in import_titok(file, tmp_path / "run", HEADS)
    images, ours = torch.rand(20, 3, SIDE, SIDE, generator=GENERATOR), load_tokenizer(tmp_path / "run", device="cpu")
    codebook = state["quantize.embedding.weight"]
    tokens = torch.cdist(latents_of(state, images, legacy=False), codebook.expand(20, -1, -1)).argmin(-1)
    assert torch.equal(ours.encode(images * 2 - 1), tokens)
    x = fully(state, "decoder.ffn.0", places_of(state, codebook[tokens])).unflatten(-1, (PATCH, PATCH, 3))
    pixels = x.unflatten(1, (GRID, GRID)).permute(0, 5, 1, 3, 2, 4).reshape(20, 3, SIDE, SIDE)
    pictures = conv(state, "decoder.conv_out", pixels)
    torch.testing.assert_close((ours.decode(tokens) + 1) / 2, pictures, rtol=1e-4, atol=1e-5)


def test_maskgits_vqgan(tmp_path):
    state = vqgan_side("encoder", down=True) | vqgan_side("decoder", down=False)
    state |= {"quantize.embedding.weight": drawn(PROXY_CODES, PROXY_DIM, scale=1.0)}
    import_maskgit(written(tmp_path / "file", state), tmp_path / "run", SIDE)
    images, ours = torch.rand(6, 3, SIDE, SIDE, generator=GENERATOR), load_tokenizer(tmp_path / "run", device="cpu")
    z = encoded(state, images).flatten(2).mT
    tokens = torch.cdist(z, state["quantize.embedding.weight"].expand(6, -1, -1)).argmin(-1)
    assert torch.equal(ours.encode(images * 2 - 1), tokens) and len(tokens.unique()) > 2
    codes = state["quantize.embedding.weight"][tokens].mT.unflatten(2, (GRID, GRID))
    torch.testing.assert_close((ours.decode(tokens) + 1) / 2, decoded(state, "decoder", codes), rtol=1e-4, atol=1e-4)
    bigger = ours.resized(24)
    assert bigger.encode(torch.rand(1, 3, 24, 24)).shape == (1, 36)


def bert_state():
    words = CODES + CLASSES + 2
    state = {f"embeddings.{name}_embeddings.weight": drawn(rows, WIDTH)
             for name, rows in (("word", words), ("position", LATENTS + 1), ("token_type", 2))}  # fmt: skip
    state |= norm("embeddings.LayerNorm") | linear("lm_head", CODES, WIDTH)
    for i in range(2):
        name = f"encoder.layer.{i}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            state |= linear(f"{name}.{part}", WIDTH, WIDTH)
        state |= linear(f"{name}.intermediate.dense", 4 * WIDTH, WIDTH) | linear(
            f"{name}.output.dense", WIDTH, 4 * WIDTH
        )
        state |= norm(f"{name}.attention.output.LayerNorm") | norm(f"{name}.output.LayerNorm")
    return {f"model.{name}": value for name, value in state.items()}


def bert(state, words):
    state = {name.removeprefix("model."): value for name, value in state.items()}
    x = state["embeddings.word_embeddings.weight"][words] + state["embeddings.position_embeddings.weight"]
    x = layer_norm(state, "embeddings.LayerNorm", x + state["embeddings.token_type_embeddings.weight"][0], 1e-12)
    for i in range(2):
        name = f"encoder.layer.{i}"
        own = f"{name}.attention"
        qkv = [torch.cat([state[f"{own}.self.{part}.{kind}"] for part in ("query", "key", "value")])
               for kind in ("weight", "bias")]  # fmt: skip
        y = attended(x, *qkv, state[f"{own}.output.dense.weight"], state[f"{own}.output.dense.bias"])
        x = layer_norm(state, f"{own}.output.LayerNorm", x + y, 1e-12)
        y = fully(state, f"{name}.output.dense", F.gelu(fully(state, f"{name}.intermediate.dense", x)))
        x = layer_norm(state, f"{name}.output.LayerNorm", x + y, 1e-12)
    return fully(state, "lm_head", x[:, 1:])


def uvit_state():
    state = {"embeddings.weight": drawn(CODES + CLASSES + 2, WIDTH), "pos_embed": drawn(1, LATENTS + 1, WIDTH)}
    state |= norm("norm") | linear("lm_head", CODES, WIDTH)
    for name in ("in_blocks.0", "in_blocks.1", "mid_block", "out_blocks.0", "out_blocks.1"):
        state |= norm(f"{name}.norm1") | norm(f"{name}.norm2") | linear(f"{name}.attn.proj", WIDTH, WIDTH)
        state |= linear(f"{name}.attn.qkv", 3 * WIDTH, WIDTH, bias=False)
        state |= linear(f"{name}.mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{name}.mlp.fc2", WIDTH, 4 * WIDTH)
        state |= linear(f"{name}.skip_linear", WIDTH, 2 * WIDTH) if name.startswith("out") else {}
    return state


def uvit(state, words):
    def one(name, x):
        y = layer_norm(state, f"{name}.norm1", x)
        out = [state[f"{name}.attn.proj.{kind}"] for kind in ("weight", "bias")]
        x = x + attended(y, state[f"{name}.attn.qkv.weight"], None, *out)
        return x + fully(
            state, f"{name}.mlp.fc2", F.gelu(fully(state, f"{name}.mlp.fc1", layer_norm(state, f"{name}.norm2", x)))
        )

    x = state["embeddings.weight"][words] + state["pos_embed"]
    first = one("in_blocks.0", x)
    second = one("in_blocks.1", first)
    x = one("mid_block", second)
    for i, early in enumerate((second, first)):
        x = one(f"out_blocks.{i}", fully(state, f"out_blocks.{i}.skip_linear", torch.cat([x, early], -1)))
    return fully(state, "lm_head", layer_norm(state, "norm", x)[:, 1:])


@pytest.mark.parametrize("network", ["bert", "uvit"])
def test_generators(network, two_stage, tmp_path):
    state, compute = (bert_state(), bert) if network == "bert" else (uvit_state(), uvit)
    said = import_titok_generator(written(tmp_path / "file", state), tmp_path / "run", two_stage[0], HEADS)
    assert "a line of 3 tokens of 16 codes, 5 classes" in said
    ours = load_generator(tmp_path / "run", device="cpu")
    tokens = torch.tensor([[3, CODES, 15], [CODES, CODES, CODES]])
    for label, word in ((2, CODES + 1 + 2), (CLASSES, CODES + 1 + CLASSES)):  # the last one stands for no class
        words = torch.cat([torch.full((2, 1), word), tokens], 1)
        logits = ours.network(tokens, torch.full((2,), label))
        torch.testing.assert_close(logits, compute(state, words), rtol=1e-4, atol=1e-5)
    assert ours.sample(torch.arange(4)).shape == (4, LATENTS) and ours.config.blocks == network


def test_what_does_not_fit_is_named(two_stage, tmp_path):
    run, state = two_stage
    file = written(tmp_path / "file", state)
    with pytest.raises(UserError, match=r"width 8 is none of the published ones \(512, 768, 1024\).*give --num-heads"):
        import_titok(file, tmp_path / "out")
    with pytest.raises(UserError, match="a tokenizer of TiTok; import it with vistok import titok"):
        import_maskgit(file, tmp_path / "out")
    with pytest.raises(UserError, match="missing: decoder.blocks.0.down.bias"):
        less = {name: value for name, value in state.items() if name != "decoder.transformer.0.mlp.c_proj.bias"}
        import_titok(written(tmp_path / "less", less), tmp_path / "out", HEADS)
    with pytest.raises(UserError, match="'encoder.text_proj.weight' is not part of a TiTok tokenizer"):
        import_titok(
            written(tmp_path / "more", {**state, "encoder.text_proj.weight": torch.zeros(1)}), tmp_path / "out", HEADS
        )
    with pytest.raises(UserError, match="give a file with the whole tokenizer"):
        less = {name: value for name, value in state.items() if not name.startswith("encoder.conv_out")}
        import_titok(written(tmp_path / "part", less), tmp_path / "out", HEADS)
    other = bert_state()
    other["model.lm_head.weight"], other["model.lm_head.bias"] = drawn(CODES + 1, WIDTH), drawn(CODES + 1)
    with pytest.raises(
        UserError, match="it writes 3 tokens of 17 codes, but tokenizer .* gives a line of 3 tokens of 16 codes"
    ):
        import_titok_generator(written(tmp_path / "other", other), tmp_path / "out", run, HEADS)
    assert not (tmp_path / "out").exists()
    with pytest.raises(
        UserError, match=f"a tokenizer of TiTok. Make a run directory of it first: vistok import titok {file}"
    ):
        load_tokenizer(file)
    done = CliRunner().invoke(app, ["import", "titok", str(file), "--out", str(tmp_path / "cli"), "--num-heads", "2"])
    assert done.exit_code == 0 and "two-stage tokenizer" in done.output, done.output
