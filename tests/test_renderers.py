"""Renderers: a tokenizer to clusters that decodes by drawing another tokenizer's tokens."""

import pytest
import torch
from torch.nn import functional as F

from vistok.config import make, override
from vistok.errors import UserError
from vistok.python.settings import recipe_config
from vistok.recipes import find_recipe
from vistok.rng import content_keys
from vistok.runs.load import load_generator, load_tokenizer, load_tokenizer_of
from vistok.runs.shipped import shipped_network
from vistok.runs.sources import with_codes_of
from vistok.space import token_grid
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.renderers.config import RENDERERS, AutoregressiveRendererConfig, MaskedRendererConfig
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

SMALL = {"width": 16, "depth": 2, "num_heads": 2, "ffn_multiple": 8, "dropout": 0.0}
CLUSTERS, TOKENS = token_grid(3, 3, 5), token_grid(4, 4, 7)


def renderer(config):
    torch.manual_seed(0)
    made = make(RENDERERS, config, CLUSTERS, TOKENS).eval()
    torch.nn.init.normal_(made.head.weight, std=0.5)  # it begins with zeros, and all tokens alike
    return made


@pytest.fixture(params=[AutoregressiveRendererConfig(**SMALL, top_p=None), MaskedRendererConfig(**SMALL, steps=5)])
def small(request):
    return renderer(request.param)


def given(rows=6):
    return torch.randint(5, (rows, 9), generator=torch.Generator().manual_seed(1))


def test_what_is_drawn_depends_on_the_clusters_alone(small):
    clusters = given()
    drawn = small.draw(clusters, content_keys(clusters))
    assert drawn.shape == (6, 16) and 0 <= drawn.min() <= drawn.max() < 7
    for rows in ([4], [5, 4, 0]):
        some = clusters[rows]
        assert torch.equal(small.draw(some, content_keys(some)), drawn[rows])
    assert len({tuple(row) for row in drawn.tolist()}) == 6


def test_keys_tell_clusters_and_their_order():
    keys = content_keys(torch.tensor([[1, 2, 3], [3, 2, 1], [1, 2, 4], [1, 2, 3]]))
    assert len(set(keys.tolist())) == 3 and keys[0] == keys[3]


def test_one_token_after_another_is_what_training_predicts():
    """With temperature 0, each token is the likeliest one given all clusters and the tokens before it."""
    small = renderer(AutoregressiveRendererConfig(**SMALL, temperature=0.0, top_p=None))
    clusters = given()
    drawn = small.draw(clusters, content_keys(clusters))
    logits = small.logits(clusters, drawn)
    assert torch.equal(logits.argmax(-1), drawn)
    # A token's logits depend on no later token, and on every cluster.
    later = drawn.clone()
    later[:, 9:] = (later[:, 9:] + 1) % 7
    torch.testing.assert_close(small.logits(clusters, later)[:, :10], logits[:, :10])
    assert (small.logits((clusters + 1) % 5, drawn) - logits).abs().amax(dim=(0, 2)).min() > 1e-4
    expected = F.cross_entropy(logits.flatten(0, 1), drawn.flatten())
    torch.testing.assert_close(small.loss(clusters, drawn)["rendering_loss"], expected)  # no smoothing in evaluation


def test_masked_tokens_are_filled_once_and_the_loss_is_of_those(small):
    if small.config.kind != "masked":
        return
    seen = []
    whole = small.logits
    small.logits = lambda clusters, tokens: seen.append(tokens.clone()) or whole(clusters, tokens)
    clusters = given()
    drawn = small.draw(clusters, content_keys(clusters))
    small.logits = whole
    masked = [(tokens == 7).sum(1).tolist() for tokens in seen]
    assert len(seen) == 5 and masked[0] == [16] * 6 and all(a > b for a, b in zip(masked, masked[1:], strict=False))
    for tokens in seen:  # what is filled stays
        assert torch.equal(torch.where(tokens == 7, drawn, tokens), drawn)
    noise = Noise(3, torch.arange(6))
    some = Noise(3, torch.arange(6)[2:4])
    both = small.loss(clusters, drawn, noise)["rendering_loss"]
    assert both.isfinite()
    parts = [
        small.loss(clusters[i : i + 1], drawn[i : i + 1], Noise(3, torch.tensor([i])))["rendering_loss"] for i in (2, 3)
    ]
    torch.testing.assert_close(small.loss(clusters[2:4], drawn[2:4], some)["rendering_loss"], torch.stack(parts).mean())


def settings_of(fashion_root, *more):
    return [
        f'data.root="{fashion_root}"',
        "data.max_images=200",
        "length=3 steps",
        "execution.evaluate_every=1000",
        *more,
    ]


@pytest.mark.slow
def test_all_verbs_take_clusters_and_their_renderers(tmp_path, fashion_root, quiet):
    fitted = "tokenizer.quantizer.image_fraction=1"
    config = override(find_recipe("debug_clusters"), settings_of(fashion_root, fitted))
    clusters = train_tokenizer.prepare(config, tmp_path).train(quiet).path
    caches = [cache_tokens(clusters, split, quiet) for split in ("train", "val")]
    config = override(find_recipe("debug_ar"), ["length=2 steps", "generator.label_smoothing=0.1"])
    generator = train_generator.prepare(config, *caches, clusters, tmp_path).train(quiet).path
    for recipe in ("debug_renderer", "debug_renderer_ar"):
        taken = f'tokenizer.clusters_from="{clusters}"'
        config = override(find_recipe(recipe), settings_of(fashion_root, fitted, taken))
        run = train_tokenizer.prepare(config, tmp_path).train(quiet).path
        rendered, plain = (load_tokenizer(place, device="cpu") for place in (run, clusters))
        images = torch.rand(4, 1, 28, 28) * 2 - 1
        tokens = rendered.encode(images)
        assert torch.equal(tokens, plain.encode(images)) and rendered.space == plain.space
        decoded = rendered.decode(tokens)
        torch.testing.assert_close(rendered.decode(tokens[2:]), decoded[2:])
        baseline = load_tokenizer(shipped_network("fashion-baseline", "tokenizer"), device="cpu")
        torch.testing.assert_close(baseline.decode(rendered.tokens(tokens)), decoded)  # its decoder, untouched
        # The generator of these clusters fits both decoders.
        drawn = load_generator(generator, device="cpu")
        assert load_tokenizer_of(drawn, run).decode(drawn.sample([0, 1])).shape == (2, 1, 28, 28)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (['tokenizer.codes_from=""'], "add --codes"),
        (['tokenizer.codes_from="nowhere"'], "nowhere: not found"),
        (["tokenizer.codes.quantizer.codebook_size=64"], "differs from tokenizer.codes; give it with --codes"),
        (['losses.perceptual.network="fashion"'], "learns tokens, not pixels"),
        (["tokenizer.patch=5"], "do not divide images"),
        (["tokenizer.renderer.steps=50"], "renderer.steps 50: an image has 49 tokens"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words, fashion_root, tmp_path):
    with pytest.raises(UserError, match=words):
        train_tokenizer.prepare(override(find_recipe("debug_renderer"), settings_of(fashion_root, *changes)), tmp_path)


def test_the_name_covers_what_is_rendered_to(fashion_root, tmp_path):
    settings = settings_of(fashion_root)
    names = {
        train_tokenizer.prepare(
            override(find_recipe("debug_renderer"), [*settings, f'tokenizer.codes_from="{codes}"']), tmp_path
        ).run_dir.path.name
        for codes in ("fashion-baseline", "fashion-crt")  # of one config
    }
    assert len(names) == 2


def test_codes_come_with_their_network():
    config = with_codes_of(find_recipe("debug_renderer"), "fashion-crt")
    given = recipe_config("debug_renderer", None, lambda kind: None, codes="fashion-crt")  # as vistok.train reads it
    assert given.tokenizer == config.tokenizer
    with pytest.raises(UserError, match="is for a generator; codes are for tokenizers, such as images64_renderer"):
        recipe_config("debug_ar", None, lambda kind: None, codes="fashion-crt")
    assert config.tokenizer.codes_from == "fashion-crt" and config.tokenizer.codes.quantizer.codebook_size == 512
    with pytest.raises(UserError, match="has no renderer"):
        with_codes_of(find_recipe("debug_vq"), "fashion-crt")
