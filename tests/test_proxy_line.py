"""TiTok's two stages: a line whose decoder learns a grid's tokens, then pixels."""

import json
import os
import signal

import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

import vistok
from vistok.cli import app
from vistok.config import ConfigError, override
from vistok.engine import loop
from vistok.engine.log import read_rows
from vistok.errors import Stopped, UserError
from vistok.recipes import find_recipe
from vistok.runs.initial import with_network_of
from vistok.runs.load import load_tokenizer, read_model
from vistok.runs.proxy import with_proxy_of
from vistok.space import Line, grid
from vistok.tokenizer.bottlenecks.config import FSQConfig, KLConfig, SimVQConfig, VQConfig
from vistok.tokenizer.config import ConvNetConfig, ConvTokenizerConfig, PatchTransformerConfig, ProxyLineTokenizerConfig
from vistok.tokenizer.lecam import LeCam
from vistok.tokenizer.networks.conv import ConvTokenizer
from vistok.tokenizer.networks.proxy_line import ProxyLineTokenizer
from vistok.tokenizer.noise import Noise
from vistok.verbs import train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

SIDE = PatchTransformerConfig(width=16, depth=1, num_heads=2)
NET = ConvNetConfig(channels=4, multipliers=(1, 1), num_res_blocks=1, attention_resolutions=(), norm_groups=2)


def grid_config(**changes):
    settings = {
        "image_size": 12,
        "image_width": 8,
        "in_channels": 1,
        "latent_channels": 4,
        "encoder": NET,
        "decoder": NET,
    }
    return ConvTokenizerConfig(**{**settings, "quantizer": VQConfig(codebook_size=16, code_dim=4), **changes})


def config(**changes):
    settings = {"image_size": 12, "image_width": 8, "in_channels": 1, "patch": 4, "num_latents": 5, "encoder": SIDE}
    quantizer = VQConfig(codebook_size=32, code_dim=4)
    return ProxyLineTokenizerConfig(
        **{**settings, "decoder": SIDE, "quantizer": quantizer, "proxy": grid_config(), **changes}
    )


def built(**changes) -> ProxyLineTokenizer:
    torch.manual_seed(0)
    return ProxyLineTokenizer(config(**changes)).eval()


def some_images(count=3):
    return torch.rand(count, 1, 12, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("length", [1, 20])
@pytest.mark.parametrize(
    "bottleneck",
    [VQConfig(codebook_size=32, code_dim=4), FSQConfig(levels=(4, 3)), SimVQConfig(codebook_size=32), KLConfig(dim=3)],
    ids=lambda part: part.kind,
)
def test_a_line_of_any_length_with_any_bottleneck(bottleneck, length):
    """The grid of the proxy, 6x4, is another one than that of the encoder's patches, 3x2."""
    model, images = built(num_latents=length, quantizer=bottleneck), some_images()
    assert model.space.layout == Line(length=length) and model.decoder.layout == grid(6, 4)
    latents = model.encode(images)
    assert latents.shape == (3, *model.space.shape) and model.decode(latents).shape == images.shape
    output = model.train()(images, Noise(0, torch.arange(3)))
    assert output.logits.shape == (3, 24, 16)
    (output.reconstruction.square().sum() + sum(output.bottleneck.losses.values())).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without or without == ["quantizer.codebook"]
    tokens_alone = model(images, Noise(0, torch.arange(3)), pixels=False)
    assert torch.equal(tokens_alone.logits, output.logits) and len(tokens_alone.reconstruction) == 0


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize(
    "bottleneck", [VQConfig(codebook_size=16, code_dim=4), FSQConfig(levels=(4, 4))], ids=lambda part: part.kind
)
def test_tokens_that_are_certain_become_the_proxys_own_images(bottleneck, shortcut):
    its = grid_config(quantizer=bottleneck, shortcut=shortcut, image_size=11, image_width=7)  # padded
    torch.manual_seed(1)
    proxy = ConvTokenizer(its).eval()
    model = ProxyLineTokenizer(config(proxy=its, image_size=11, image_width=7, patch=1)).eval()
    state = proxy.state_dict()
    model.decoder.grid.load_state_dict({name: state[name] for name in model.decoder.grid.state_dict()})
    assert not [name for name in model.decoder.grid.state_dict() if name.startswith(("encoder", "pre_quantizer"))]
    tokens = torch.randint(16, (3, 24), generator=torch.Generator().manual_seed(2))
    logits = 200.0 * F.one_hot(tokens, 16)
    torch.testing.assert_close(model.decoder.pixels(logits), proxy.decode(tokens))
    # Between two codes, the decoder gets what lies between them.
    logits[:, :, 3] = logits.amax(-1)
    codes = proxy.quantizer.to_decoder(tokens)
    mean = torch.where(tokens[..., None] == 3, codes, (codes + proxy.quantizer.to_decoder(torch.tensor(3))) / 2)
    torch.testing.assert_close(model.decoder.pixels(logits), proxy.to_images(mean, proxy.space.layout))


def test_fewer_tokens_decode_where_that_was_trained():
    model, images = built(prefixes=True), some_images()
    tokens = model.encode(images)
    codes = model.quantizer.to_decoder(tokens).clone()
    codes[:, 2:] = 7.0
    torch.testing.assert_close(model.decode(tokens[:, :2]), model.decoder(codes, torch.full((3,), 2)))
    with pytest.raises(UserError, match="the first 2 of a line of 5"):
        built().decode(tokens[:, :2])
    trained = model.train()(images, Noise(0, torch.arange(3))).logits
    assert not torch.allclose(trained, model.eval()(images, Noise(0, torch.arange(3))).logits)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_size": 8}, r"images are \(height, width, channels\) \(8, 8, 1\) but the proxy takes \(12, 8, 1\)"),
        ({"proxy": grid_config(quantizer=KLConfig(dim=2))}, "cannot be predicted as tokens; give one with vq or fsq"),
        ({"proxy": {"kind": "line"}}, "'line' is not one of conv"),
    ],
)
def test_proxies_that_do_not_fit(change, said):
    with pytest.raises(ConfigError, match=said):
        config(**change)


def test_recipes_and_losses_that_do_not_fit(tmp_path):
    recipe = find_recipe("debug_proxy_line")
    with pytest.raises(ConfigError, match="compares no images: set losses.perceptual to null, and"):
        override(recipe, ["losses.perceptual.weight=1"])
    with pytest.raises(ConfigError, match="tokenizer.kind is 'conv'; take a recipe such as fashion_proxy_line"):
        override(find_recipe("debug_vq"), ["losses.perceptual=null", 'losses.target="tokens"'])
    with pytest.raises(ConfigError, match="'decoder' goes on with pixels"):
        override(recipe, ['trains="decoder"'])
    with pytest.raises(UserError, match="add --proxy"):
        train_tokenizer.prepare(recipe, tmp_path)
    with pytest.raises(UserError, match="learns a grid's tokens before pixels"):
        train_tokenizer.prepare(override(recipe, ['losses.target="pixels"']), tmp_path)
    with pytest.raises(UserError, match="--proxy: this recipe learns pixels.*such as fashion_proxy_line"):
        with_proxy_of(find_recipe("debug_vq"), "fashion-baseline")
    with pytest.raises(UserError, match="--proxy nothing: not found"):
        with_proxy_of(recipe, "nothing")
    other = with_proxy_of(recipe, "fashion-baseline")
    assert other.tokenizer.proxy.quantizer.codebook_size == 512 and other.proxy == "fashion-baseline"
    with pytest.raises(UserError, match="its network differs from tokenizer.proxy"):
        train_tokenizer.prepare(recipe.replace(proxy="fashion-baseline"), tmp_path)


def test_the_shipped_proxy_is_the_recipes():
    """So that the recipe runs as it stands."""
    recipe = find_recipe("fashion_proxy_line")
    assert with_proxy_of(recipe, recipe.proxy) == recipe


QUICK = ["data.max_images=120", "length=6 steps", "execution.log_every=1", "execution.evaluate_every=6"]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, fashion_root, quiet):
    """A toy tokenizer to a grid whose codes began, and were restarted: buffers that its copy does not need."""
    settings = [f'data.root="{fashion_root}"', *QUICK, "losses.perceptual=null"]
    settings += ["tokenizer.quantizer.restart_after=2", "tokenizer.quantizer.start_after=2"]
    config = override(find_recipe("debug_vq"), settings)
    return train_tokenizer.prepare(config, tmp_path_factory.mktemp("proxy")).train(quiet).path


@pytest.fixture(scope="module")
def stages(proxy, tmp_path_factory, fashion_root, quiet):
    """The runs of both stages, and the second one's config."""
    runs = tmp_path_factory.mktemp("stages")
    first = train_tokenizer.prepare(first_stage(proxy, fashion_root), runs).train(quiet).path
    second = second_stage(first, fashion_root)
    return first, train_tokenizer.prepare(second, runs).train(quiet).path, second


def first_stage(proxy, root):
    config = with_proxy_of(find_recipe("debug_proxy_line"), str(proxy))
    crt = ["crt.width=16", "crt.num_heads=2", "crt.ffn_multiple=16", "tokenizer.prefixes=true"]
    return override(config, [f'data.root="{root}"', *QUICK, *crt])


def second_stage(first, root):
    recipe = find_recipe("fashion_proxy_line_decoder").replace(
        execution=find_recipe("debug_vq").execution, batch_size=16
    )
    gan = ["losses.adversarial.start=2 steps", "losses.adversarial.ramp=0 steps", "losses.adversarial.channels=8",
           "losses.adversarial.num_layers=2", "losses.adversarial.lecam_weight=0.1"]  # fmt: skip
    return override(with_network_of(recipe, str(first)), [f'data.root="{root}"', *QUICK, *gan])


def test_the_first_stage_learns_the_proxys_tokens(proxy, stages, fashion_root):
    first = stages[0]
    states = [read_model(run, "tokenizer")[0] for run in (proxy, first)]
    copied = {name: value for name, value in states[1].items() if name.startswith("decoder.grid.")}
    assert len(copied) > 10
    for name, value in copied.items():
        assert torch.equal(value, states[0][name.removeprefix("decoder.grid.")]), name
    rows = [row for row in read_rows(first / "metrics.jsonl") if row["kind"] == "train"]
    for row in rows:
        assert 0 <= row["autoencoder/proxy_accuracy"] <= 1 and row["autoencoder/causal_loss"] > 0
        assert "autoencoder/pixel_loss" not in row and "autoencoder/commitment_loss" in row
    # The loss that is minimised is the cross-entropy of exactly the proxy's tokens.
    objective = train_tokenizer.prepare(first_stage(proxy, fashion_root), first.parent).objective(
        torch.device("cpu"), vistok_world()
    )
    images = torch.rand(4, 1, 28, 28) * 2 - 1
    its = load_tokenizer(proxy, device="cpu")
    targets = its.encode(images)
    assert torch.equal(objective.targets(images), targets)
    objective.tokenizer.eval()
    output, compared = objective.compare(images, None)
    log_p = output.logits.log_softmax(-1)
    expected = -log_p.gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(compared.terms["proxy_loss"], expected)
    trained = {name for name, p in objective.tokenizer.named_parameters() if p.requires_grad}
    assert trained and not any(name.startswith("decoder.grid.") for name in trained)


def vistok_world():
    from vistok.engine.distributed import ALONE

    return ALONE


def test_the_second_stage_leaves_the_tokens_as_they_are(stages):
    first, second, _ = stages
    before, after = (load_tokenizer(run) for run in (first, second))
    images = torch.rand(20, 1, 28, 28) * 2 - 1
    tokens = before.encode(images)
    assert torch.equal(after.encode(images), tokens)
    assert not torch.equal(after.decode(tokens), before.decode(tokens))
    stored = [read_model(run, "tokenizer")[0] for run in (first, second)]
    moved = {".".join(name.split(".")[:3]) for name in stored[0] if not torch.equal(stored[0][name], stored[1][name])}
    assert all(name.startswith("decoder.") for name in moved)
    assert {"decoder.grid.decoder", "decoder.grid.quantizer", "decoder.to_codes.0", "decoder.mask"} <= moved
    rows = [row for row in read_rows(second / "metrics.jsonl") if row["kind"] == "train"]
    assert "autoencoder/pixel_loss" in rows[-1] and rows[-1]["discriminator/lecam_loss"] >= 0
    assert "autoencoder/codebook_loss" not in rows[-1]


def test_names_cover_the_proxys_contents(proxy, stages, fashion_root, tmp_path):
    config = first_stage(proxy, fashion_root)
    names = [train_tokenizer.prepare(config, tmp_path).run_dir.path.name]
    moved = tmp_path / "moved"
    moved.symlink_to(proxy)
    names.append(train_tokenizer.prepare(config.replace(proxy=str(moved)), tmp_path).run_dir.path.name)
    assert names[0] == names[1] == stages[0].name
    raw = config.replace(proxy=str(proxy / "export" / "raw.safetensors"))  # other weights
    assert train_tokenizer.prepare(raw, tmp_path).run_dir.path.name != names[0]


@pytest.mark.slow
def test_generators_of_the_first_stage_draw_with_the_second(stages, quiet, tmp_path):
    first, second, _ = stages
    cache = cache_tokens(first, "train", quiet)
    assert cache.latents.shape == (120, 8)
    runner = CliRunner()

    def said(*arguments):
        done = runner.invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.output

    said(
        "train",
        "generator",
        "debug_ar",
        "--tokenizer",
        first,
        "--runs",
        tmp_path,
        "--anyway",
        "--set",
        "length=3 steps",
    )
    (made,) = tmp_path.glob("debug-ar-*")
    pictures = []
    for tokenizer in (first, second):
        out = tmp_path / f"{len(pictures)}.png"
        said("sample", made, "--count", "4", "--out", out, "--tokenizer", tokenizer, "--anyway")
        pictures.append(out.read_bytes())
    assert pictures[0] != pictures[1]
    assert vistok.load_generator(made).info.tokenizer.digest in load_tokenizer(second).info.decodes
    out = tmp_path / "few.png"
    picture = next((second / "samples").glob("*.png"))
    said("reconstruct", picture, "--tokenizer", second, "--out", out, "--tokens", 2)
    assert out.is_file()


@pytest.mark.slow
def test_a_stopped_second_stage_goes_on_exactly(stages, tmp_path, quiet, monkeypatch):
    """With the averages of the discriminator's regularizer."""
    _, whole, config = stages
    original = loop.take_step

    def stop(training, batch, step, statistics):
        original(training, batch, step, statistics)
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", stop)
        with pytest.raises(Stopped, match="after step 4 of 6"):
            train_tokenizer.prepare(config, tmp_path).train(quiet)
    again = train_tokenizer.prepare(config, tmp_path).train(quiet).path
    rows = [
        [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if row["kind"] == "train"]
        for run in (whole, again)
    ]
    for one, two in zip(*rows, strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
    states = [load_tokenizer(path).state_dict() for path in (whole, again)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_lecam_pulls_logits_towards_the_other_sides_average():
    """Halves of a batch, of different sizes, give what the whole batch gives, in the term and in the averages."""
    logits = [torch.randn(6, 1, 3, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    whole, parts = LeCam(0.5, 0.9), LeCam(0.5, 0.9)
    for lecam in (whole, parts):
        lecam.real.fill_(0.3)
        lecam.fake.fill_(-0.2)
    term = whole(*logits)
    real, fake = logits
    expected = 0.5 * ((real + 0.2).clamp(min=0).square().mean() + (0.3 - fake).clamp(min=0).square().mean())
    torch.testing.assert_close(term, expected)
    split = parts(real[:4], fake[:4]) * 4 / 6 + parts(real[4:], fake[4:]) * 2 / 6
    torch.testing.assert_close(split, term)
    for lecam in (whole, parts):
        lecam.after_step(lambda mean: mean)
        torch.testing.assert_close(lecam.real, 0.9 * torch.tensor(0.3) + 0.1 * real.mean())
        torch.testing.assert_close(lecam.fake, 0.9 * torch.tensor(-0.2) + 0.1 * fake.mean())
    before = whole.real.clone()
    whole(*logits)
    whole.after_step(lambda mean: mean)
    torch.testing.assert_close(whole.real, 0.9 * before + 0.1 * real.mean())  # the step before is not counted twice
