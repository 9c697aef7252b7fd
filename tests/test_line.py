"""TiTok's tokenizer: images as a line of latents, by itself and through every verb."""

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from typer.testing import CliRunner

import vistok
from vistok.app.pages.reconstruct import Edited
from vistok.app.reconstruction import keep
from vistok.cli import app
from vistok.config import ConfigError, override
from vistok.engine import loop
from vistok.errors import Stopped, UserError
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.interop.diffusers_export import export_diffusers
from vistok.interop.llamagen import export_llamagen
from vistok.recipes import find_recipe
from vistok.runs.load import load_tokenizer
from vistok.space import Line, Tokens, Vectors, grid
from vistok.tokenizer.bottlenecks.config import FSQConfig, KLConfig, SimVQConfig, VQConfig
from vistok.tokenizer.config import LineTokenizerConfig, PatchTransformerConfig
from vistok.tokenizer.networks.line import LineTokenizer
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.regularizers.base import Setting
from vistok.tokenizer.regularizers.causal import CausalModel, CausalRegularizer
from vistok.tokenizer.regularizers.config import CausalConfig
from vistok.verbs import train_tokenizer
from vistok.verbs.cache_latents import cache_tokens
from vistok.verbs.reconstruct import reconstruct_files

SIDE = PatchTransformerConfig(width=16, depth=1, num_heads=2)


def config(**changes):
    settings = {"image_size": 12, "in_channels": 1, "patch": 4, "num_latents": 5, "encoder": SIDE, "decoder": SIDE}
    return LineTokenizerConfig(**{**settings, "quantizer": VQConfig(codebook_size=32, code_dim=4), **changes})


def built(**changes) -> LineTokenizer:
    torch.manual_seed(0)
    return LineTokenizer(config(**changes)).eval()


def some_images(count=3, sides=(12, 12), channels=1):
    return torch.rand(count, channels, *sides, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("length", [1, 5, 20])  # fewer latents than patches, and more
@pytest.mark.parametrize(
    "bottleneck",
    [VQConfig(codebook_size=32, code_dim=4), FSQConfig(levels=(4, 3)), SimVQConfig(codebook_size=32), KLConfig(dim=3)],
    ids=lambda part: part.kind,
)
def test_a_line_of_any_length_with_any_bottleneck(bottleneck, length):
    model = built(num_latents=length, quantizer=bottleneck, in_channels=3, image_width=8)
    assert model.space.layout == Line(length=length)
    images = some_images(sides=(12, 8), channels=3)
    latents = model.encode(images)
    assert latents.shape == (3, *model.space.shape) and torch.equal(model.encode(images), latents)
    assert model.decode(latents).shape == images.shape and model.stored(images).shape[:2] == (3, length)
    torch.testing.assert_close(model.decode(latents[1:2]), model.decode(latents)[1:2])
    output = model.train()(images, Noise(0, torch.arange(3)))
    assert output.reconstruction.shape == images.shape and output.layout == model.space.layout
    assert output.features.shape == (3, length, model.quantizer.in_dim)
    (output.reconstruction.square().sum() + sum(output.bottleneck.losses.values())).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without or without == ["quantizer.codebook"]


def test_integers_are_what_the_bottleneck_chose():
    model, images = built(), some_images()
    tokens = model.encode(images)
    assert tokens.dtype == torch.int64 and 0 <= tokens.min() <= tokens.max() < 32
    output = model(images)
    assert torch.equal(output.bottleneck.stored, tokens)
    torch.testing.assert_close(model.decode(tokens), output.reconstruction)
    assert torch.equal(model.decode(tokens.tolist()), model.decode(tokens.numpy()))


def test_patches_are_put_back_where_they_were_taken():
    """Patches through the encoder's order, then through the decoder's: the same image."""
    model, images = built(), some_images()
    inside = {}
    model.encoder.embed.register_forward_pre_hook(lambda _, inputs: inside.update(patches=inputs[0]))
    model.decoder.to_pixels.register_forward_hook(lambda *_: inside["patches"])
    tokens = model.encode(images)
    torch.testing.assert_close(model.decode(tokens), images)


def test_every_latent_sees_the_whole_image_and_every_pixel_the_whole_line():
    model, images = built(quantizer=KLConfig(dim=3)), some_images(1)
    images.requires_grad_()
    features = model.to_latents(images)
    for position in range(5):
        (slope,) = torch.autograd.grad(features[0, position].sum(), images, retain_graph=True)
        assert (slope.abs() > 0).all()
    codes = torch.randn(1, 5, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(model.to_images(codes, model.space.layout)[0, 0, 0, 0], codes)
    assert (slope.abs() > 0).all()


def test_fewer_tokens_decode_where_that_was_trained():
    model, images = built(prefixes=True), some_images()
    tokens = model.encode(images)
    for given in range(1, 6):
        part = model.decode(tokens[:, :given])
        assert part.shape == images.shape
        # What is behind the prefix makes no difference: in training it is hidden, in decoding it is not there.
        codes = model.quantizer.to_decoder(tokens.clone())
        codes[:, given:] = 7.0
        torch.testing.assert_close(part, model.decoder(codes, torch.full((3,), given)))
    assert torch.equal(model.decode(tokens[:, :2], Line(length=2)), model.decode(tokens[:, :2]))
    with pytest.raises(UserError, match=r"tokens \(3, 0\).*line of 5, so it takes \(batch, 1\.\.\.5\)"):
        model.decode(tokens[:, :0])
    with pytest.raises(UserError, match=r"tokens \(3, 6\).*takes \(batch, 1\.\.\.5\)"):
        model.decode(F.pad(tokens, (0, 1)))


def test_each_image_keeps_a_prefix_of_its_own_in_training_alone():
    model = built(prefixes=True)
    noise = Noise(3, torch.arange(4000))
    lengths = model._lengths(4000, noise)
    counts = torch.bincount(lengths, minlength=6)
    assert counts[0] == 0 and (counts[1:] > 700).all() and len(counts) == 6
    assert torch.equal(model._lengths(10, Noise(3, torch.arange(5, 15))), lengths[5:15])  # whatever the batch
    assert not torch.equal(model._lengths(4000, Noise(4, torch.arange(4000))), lengths)
    images, places = some_images(4), Noise(3, torch.arange(4))
    kept = model.train()(images, places)
    expected = model.decoder(kept.bottleneck.decoded, lengths[:4])
    torch.testing.assert_close(kept.reconstruction, expected)
    assert not torch.allclose(kept.reconstruction, model.eval()(images, places).reconstruction)


def test_what_does_not_fit_is_named():
    model, images = built(), some_images()
    tokens = model.encode(images)
    with pytest.raises(UserError, match=r"the first 3 of a line of 5.*not trained to decode a part.*prefixes=true"):
        model.decode(tokens[:, :3])
    with pytest.raises(UserError, match=r"tokens \(3, 6\).*line of 5, so it takes \(batch, 5\)"):
        model.decode(F.pad(tokens, (0, 1)))
    with pytest.raises(UserError, match=r"on 5x1: this tokenizer's latents are a line of 5"):
        model.decode(tokens, grid(5, 1))
    with pytest.raises(UserError, match=r"tokens must lie in 0\.\.\.31, found 0\.\.\.32"):
        model.decode([[0, 1, 2, 3, 32]])
    with pytest.raises(UserError, match=r"images \(3, 1, 16, 12\): this tokenizer takes \(batch, 1, 12, 12\)"):
        model.encode(some_images(sides=(16, 12)))
    with pytest.raises(UserError, match="not finite"):
        model.encode(images * float("nan"))
    with pytest.raises(UserError, match="image size 24: this tokenizer runs at its own 12x12 alone"):
        model.resized(24)
    assert model.resized(12) is model and model.resized_for(grid(5, 1)) is None
    vectors = built(quantizer=KLConfig(dim=3))
    with pytest.raises(UserError, match=r"latents \(1, 5, 2\).*it takes \(batch, 5, 3\)"):
        vectors.decode(torch.zeros(1, 5, 2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch": 5}, "patch 5 does not divide images of 12x12 pixels"),
        ({"image_width": 10}, "patch 4 does not divide images of 12x10 pixels"),
        ({"num_latents": 0}, "num_latents"),
        ({"encoder": {"width": 16, "num_heads": 3}}, "width 16 must be a multiple of num_heads 3"),
    ],
)
def test_configs_that_cannot_be_built(change, said):
    with pytest.raises(ConfigError, match=said):
        config(**change)


def test_any_recipe_of_a_grid_becomes_one_of_a_line():
    """What both networks have stays, such as the codebook; encoders of another kind do not."""
    run = find_recipe("fashion_vq")
    changed = override(run, ["tokenizer.kind=line", "tokenizer.patch=7", "tokenizer.num_latents=3"])
    assert changed.tokenizer == LineTokenizerConfig(
        image_size=28, in_channels=1, patch=7, num_latents=3, quantizer=run.tokenizer.quantizer
    )
    with pytest.raises(ConfigError, match="patch 16 does not divide images of 28x28 pixels"):
        override(run, ["tokenizer.kind=line"])
    assert override(changed, ["tokenizer.kind=conv"]).tokenizer.quantizer == run.tokenizer.quantizer


def test_no_position_of_a_line_sees_a_later_one():
    """The order is the line's: for the causal regularizer's model, and for an autoregressive generator."""
    torch.manual_seed(0)
    line = Line(length=6)
    model = CausalModel(CausalConfig(width=16, num_heads=2, ffn_multiple=16), 4, 4, line).eval()
    latents = torch.randn(1, 6, 4, requires_grad=True)
    for position in range(6):
        (slope,) = torch.autograd.grad(model(latents)[0, position].sum(), latents, retain_graph=True)
        seen = slope.abs().sum(-1)[0] > 0
        assert seen.tolist() == [place <= position for place in range(6)]
    settings = AutoregressiveConfig(width=16, depth=1, num_heads=2, ffn_multiple=16, dropout=0.0)
    generator = AutoregressiveGenerator(settings, Tokens(layout=line, codebook_size=9), 3).eval()
    torch.nn.init.normal_(generator.head.weight)
    tokens, labels = torch.randint(9, (2, 6), generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2])
    logits = generator.logits(tokens, labels)
    changed = tokens.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 9
    differs = (generator.logits(changed, labels) - logits).abs().amax((0, 2)) > 1e-6
    assert differs.tolist() == [False] * 4 + [True] * 2
    assert not torch.allclose(generator.cos[1], generator.cos[2])  # places are told apart


def test_the_causal_regularizer_pulls_the_line():
    regularizer = CausalRegularizer(
        CausalConfig(width=16, num_heads=2, ffn_multiple=16),
        Setting(4, Tokens(layout=Line(length=5), codebook_size=32)),
    )
    output = built().train().quantizer(torch.randn(2, 5, 4, requires_grad=True))
    loss = regularizer.loss(output, 1.0)
    assert loss.isfinite() and loss > 0


RUN = (
    "data.max_images=120", "length=6 steps", "execution.log_every=1", "execution.evaluate_every=6", "losses.perceptual=null",
    "tokenizer.prefixes=true", "crt.width=16", "crt.num_heads=2", "crt.ffn_multiple=16",
)  # fmt: skip


def toy(root):
    return override(find_recipe("debug_line"), [f'data.root="{root}"', *RUN])


@pytest.fixture(scope="module")
def run(fashion_root, tmp_path_factory, quiet):
    return train_tokenizer.prepare(toy(fashion_root), tmp_path_factory.mktemp("line")).train(quiet).path


@pytest.mark.slow
def test_a_trained_line_is_cached_and_a_generator_writes_it(run, quiet, tmp_path):
    tokenizer = load_tokenizer(run)
    assert isinstance(tokenizer, LineTokenizer) and "a line of 8 tokens of 64 codes" in repr(tokenizer)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(row["autoencoder/causal_loss"] > 0 for row in rows if row["kind"] == "train")
    cache = cache_tokens(run, "train", quiet)
    assert cache.latents.shape == (120, 8) and cache.manifest.space == tokenizer.space
    runner = CliRunner()
    arguments = ["train", "generator", "debug_ar", "--tokenizer", str(run), "--runs", str(tmp_path)]
    done = runner.invoke(app, [*arguments, "--anyway", "--set", "length=3 steps"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (made,) = tmp_path.glob("debug-ar-*")
    images = vistok.load_generator(made).sample(torch.arange(4))
    assert images.shape == (4, 8)
    done = runner.invoke(app, ["sample", str(made), "--count", "4", "--out", str(tmp_path / "s.png")])
    assert done.exit_code == 0 and (tmp_path / "s.png").exists(), done.output


@pytest.mark.slow
def test_the_commands_take_it(run, fashion_root, tmp_path):
    runner = CliRunner()

    def said(*arguments):
        done = runner.invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.output

    assert "with the alarm blind" in said("show", run)  # of 6 steps: too few to be dead
    scored = said("evaluate", "tokenizer", run, "--data", fashion_root)
    assert "codebook usage" in scored and re.search(r"^rate: at most \d+ bits an image$", scored, re.MULTILINE)
    picture = next((run / "samples").glob("*.png"))
    few, all_of_it = tmp_path / "few.png", tmp_path / "all.png"
    said("reconstruct", picture, "--tokenizer", run, "--out", few, "--tokens", 2)
    said("reconstruct", picture, "--tokenizer", run, "--out", all_of_it)
    assert few.read_bytes() != all_of_it.read_bytes()
    with pytest.raises(UserError, match="tokens 9: this tokenizer makes 8 of an image; give 1 to 8"):
        reconstruct_files([picture], run, few, tokens=(1, 9))
    several = said("reconstruct", picture, "--tokenizer", run, "--out", few, "--tokens", "2,8")
    assert "first 2: " in several and "first 8: " in several
    with Image.open(few) as rows, Image.open(all_of_it) as whole:
        height = (whole.height + 6) // 2  # of a row and the gap below it
        assert rows.height == whole.height + height
        assert np.array_equal(np.asarray(rows)[2 * height :], np.asarray(whole)[height:])  # all 8 are the whole line
    with pytest.raises(
        UserError, match="tokens 4: this tokenizer's 49 lie on a grid, so it decodes all of them; for beginnings"
    ):
        reconstruct_files(
            [picture], Path(vistok.__file__).parent / "weights/fashion_crt_tokenizer.safetensors", few, tokens=(4,)
        )
    made = vistok.run(run)
    assert (made.reconstruct(tokens=2).psnr != made.reconstruct().psnr).any()
    for export, whose in ((export_llamagen, "LlamaGen's code"), (export_diffusers, "diffusers")):
        with pytest.raises(UserError, match=f"network of kind 'line', but {whose} has convolutional autoencoders only"):
            export(run, tmp_path / "exported.pt")
    for text in ("0", "two", "1,", "-1", "1.5"):
        done = runner.invoke(
            app, ["reconstruct", str(picture), "--tokenizer", str(run), "--out", str(few), f"--tokens={text}"]
        )
        assert isinstance(done.exception, UserError) and "as in 4 or 1,4,16" in str(done.exception)
    root = f'data.root="{fashion_root}"'
    dry = said("train", "tokenizer", "debug_line", "--dry-run", "--set", root, "--runs", tmp_path / "none")
    assert "20 steps" in dry and "encoder" in dry and not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_stopped_run_goes_on_exactly(run, fashion_root, tmp_path, quiet, monkeypatch):
    """With prefixes, whose lengths belong to images and steps."""
    config = toy(fashion_root)
    original = loop.take_step

    def stop(training, batch, step, statistics):
        original(training, batch, step, statistics)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", stop)
        with pytest.raises(Stopped, match="after step 3 of 6"):
            train_tokenizer.prepare(config, tmp_path).train(quiet)
    again = train_tokenizer.prepare(config, tmp_path).train(quiet).path
    whole, resumed = (load_tokenizer(path).state_dict() for path in (run, again))
    assert again.name == run.name and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_vectors_of_a_line_have_a_space_of_their_own():
    model = built(quantizer=KLConfig(dim=3))
    assert model.space == Vectors(layout=Line(length=5), dim=3)
    assert np.prod(model.space.shape) == 15


def test_tokens_of_a_line_stand_below_the_picture(run):
    """In the app: they have no place in it."""
    tokenizer = load_tokenizer(run)
    kept = keep("line", next((run / "samples").glob("*.png")), tokenizer)
    html, words, _, _ = Edited(kept).at(2).put(7, tokenizer).shown()
    assert 'class="tokens strip"' in html and html.count("data-token") == 8 and "grid-template-rows" not in html
    assert "Token 7 of 64 at position 3." in words
