"""Training that starts from trained weights: a decoder alone, and generators for the same or other classes."""

import json

import pytest
import torch

from vistok.config import override
from vistok.engine.distributed import ALONE
from vistok.engine.log import read_rows
from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.runs.initial import Initial, initial_weights, load_initial, with_network_of
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.load import load_generator, load_tokenizer, read_model
from vistok.space import token_grid
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.train_generator import build_objective

QUICK = ["execution.tensorboard=false", "execution.num_workers=0"]


@pytest.fixture(scope="module")
def restarting_run(tmp_path_factory, fashion_root, quiet):
    """A toy tokenizer whose unused codes are moved after two steps."""
    settings = [
        f"data.root={json.dumps(str(fashion_root))}",
        "data.max_images=200",
        "length=6 steps",
        "tokenizer.quantizer.restart_after=2",
        "tokenizer.quantizer.start_after=2",
    ]
    config = override(find_recipe("debug_vq"), [*settings, *QUICK])
    return train_tokenizer.prepare(config, tmp_path_factory.mktemp("runs")).train(quiet).path, settings


def test_a_decoder_that_trains_alone_leaves_the_tokens_as_they_are(restarting_run, tmp_path, quiet):
    """Codes were moved under the frozen encoder: a validation had put the quantizer back into training mode."""
    first, settings = restarting_run
    config = with_network_of(find_recipe("debug_vq"), str(first))
    config = override(config, [*settings, *QUICK, 'trains="decoder"', "execution.evaluate_every=2"])
    second = train_tokenizer.prepare(config, tmp_path).train(quiet).path
    before, after = (load_tokenizer(run) for run in (first, second))
    images = torch.rand(40, 1, 28, 28) * 2 - 1
    tokens = before.encode(images)
    assert torch.equal(after.encode(images), tokens)
    assert not torch.equal(after.decode(tokens), before.decode(tokens))
    stored = [read_model(run, "tokenizer")[0] for run in (first, second)]
    moved = {name.split(".")[0] for name in stored[0] if not torch.equal(stored[0][name], stored[1][name])}
    assert moved == {"decoder", "post_quantizer"}
    rows = [row for row in read_rows(second / "metrics.jsonl") if row["kind"] == "train"]
    assert "autoencoder/pixel_loss" in rows[-1] and "autoencoder/codebook_loss" not in rows[-1]


def test_a_decoder_needs_an_encoder_and_nothing_to_regularize(restarting_run, tmp_path):
    alone = override(find_recipe("debug_vq"), [*restarting_run[1], 'trains="decoder"'])
    with pytest.raises(UserError, match="keeps the encoder of a trained tokenizer: add --init-from"):
        train_tokenizer.prepare(alone, tmp_path)
    with pytest.raises(UserError, match="nothing to regularize; use a recipe without"):
        override(find_recipe("debug_crt"), ['trains="decoder"'])


def test_a_generator_goes_on_from_anothers_weights(toy_runs, tmp_path, quiet):
    tokenizer, caches, generator = toy_runs
    config = override(with_network_of(find_recipe("debug_ar"), str(generator)), ["length=1 steps", *QUICK])
    job = train_generator.prepare(config, caches["train"], caches["val"], tokenizer, tmp_path)
    scratch = config.replace(init_from="")
    assert (
        job.run_dir.path
        != train_generator.prepare(scratch, caches["train"], caches["val"], tokenizer, tmp_path).run_dir.path
    )
    job.train(quiet)
    (begun, ended) = (
        [row for row in read_rows(run / "metrics.jsonl") if row["kind"] == "validation"]
        for run in (job.run_dir.path, generator)
    )
    assert begun[0]["nats_per_token"] == pytest.approx(ended[-1]["nats_per_token"], rel=1e-5)
    assert load_generator(job.run_dir.path).config == load_generator(generator).config


def test_other_classes_begin_as_no_class(toy_runs):
    config = with_network_of(find_recipe("debug_ar"), str(toy_runs[2]))
    initial = initial_weights(config)
    old = initial.state["classes.table.weight"]
    network = build_objective(config, LatentFacts(token_grid(7, 7, 64), 3), torch.device("cpu")).networks["generator"]
    load_initial(network, initial, ("a", "b", "c"))
    assert torch.equal(network.classes.table.weight, old[-1].expand(4, -1))
    tokens = torch.randint(64, (2, 49))
    null = load_generator(toy_runs[2])
    torch.testing.assert_close(
        network.eval().nats(tokens, torch.tensor([0, 2])), null.nats(tokens, torch.full((2,), null.num_classes))
    )
    # Without label dropout "no class" was never trained.
    network.classes.label_dropout = 0.0
    load_initial(network, initial, ("a", "b", "c"))
    torch.testing.assert_close(network.classes.table.weight, old[:-1].mean(0).expand(4, -1))
    # As many classes, but others: their tokens mean something else.
    names = tuple(f"other {number}" for number in range(len(old) - 1))
    same = build_objective(config, LatentFacts(token_grid(7, 7, 64), len(names)), torch.device("cpu")).networks[
        "generator"
    ]
    load_initial(same, initial, names)
    assert torch.equal(same.classes.table.weight[0], same.classes.table.weight[-1])
    load_initial(same, initial, initial.class_names)
    assert torch.equal(same.classes.table.weight, old)


def test_a_generator_of_other_tokens_is_refused(toy_runs):
    config = with_network_of(find_recipe("debug_ar"), str(toy_runs[2]))
    network = build_objective(config, LatentFacts(token_grid(7, 7, 128), 10), torch.device("cpu")).networks["generator"]
    with pytest.raises(UserError, match=r"token_embedding.weight \(64, .*\) instead of \(128, "):
        load_initial(network, initial_weights(config), ())
    with pytest.raises(UserError, match="a generator that comes with vistok: .*pictures64"):
        with_network_of(find_recipe("debug_ar"), "nowhere")
    assert isinstance(initial_weights(config), Initial)


@pytest.mark.parametrize("dim", [2, 16])
def test_vectors_begin_as_the_latents_of_tokens(restarting_run, tmp_path, dim):
    """`vistok train tokenizer images64_kl --init-from pictures64` used to train another tokenizer to tokens, without a word."""
    first, settings = restarting_run
    settings = [one for one in settings if "quantizer" not in one]
    config = with_network_of(override(find_recipe("debug_kl"), [f"tokenizer.quantizer.dim={dim}"]), str(first))
    config = override(config, [*settings, *QUICK])
    job = train_tokenizer.prepare(config, tmp_path)
    assert any("its encoder and decoder are kept, and the bottleneck begins anew" in line for line in job.warnings)
    vectors = job.objective(torch.device("cpu"), ALONE).networks["tokenizer"].train()
    tokens = load_tokenizer(first)
    images = torch.rand(4, 1, 28, 28) * 2 - 1
    with torch.no_grad():
        (latents, layout), made = tokens.to_latents(images), vectors(images)
        both = min(dim, tokens.quantizer.code_dim)
        torch.testing.assert_close(made.bottleneck.latents[..., :both], latents[..., :both])
        torch.testing.assert_close(made.bottleneck.statistics["deviation"], torch.tensor(0.02))
        # Numbers that tokens do not have change no image, and those that vectors lack are missing.
        shared = torch.cat([latents[..., :both], torch.zeros_like(latents[..., both:])], -1)
        torch.testing.assert_close(vectors.to_images(made.bottleneck.latents, layout), tokens.to_images(shared, layout))


def test_tokens_begin_as_vectors(tmp_path, fashion_root, quiet):
    data = [f"data.root={json.dumps(str(fashion_root))}", "data.max_images=200", "length=2 steps", *QUICK]
    first = train_tokenizer.prepare(override(find_recipe("debug_kl"), data), tmp_path).train(quiet).path
    config = override(with_network_of(find_recipe("debug_vq"), str(first)), data)
    assert config.tokenizer.space.kind == "tokens"
    second = load_tokenizer(train_tokenizer.prepare(config, tmp_path).train(quiet).path)
    assert second.encode(torch.zeros(2, 1, 28, 28)).dtype == torch.int64
    alone = override(with_network_of(find_recipe("debug_vq"), str(first)), [*data, 'trains="decoder"'])
    with pytest.raises(
        UserError, match="recipe's are of another kind, 7x7 tokens of 64 codes; choose a recipe for its"
    ):
        train_tokenizer.prepare(alone, tmp_path)


def test_a_generator_of_another_family_is_refused(toy_runs):
    with pytest.raises(UserError, match="of the autoregressive family, but debug-flow trains one of the flow family"):
        with_network_of(find_recipe("debug_flow"), str(toy_runs[2]))
