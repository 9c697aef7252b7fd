"""The masked family: schedules, masks and losses, sampling against its own distribution, and a whole run on tokens."""

import itertools
import math

import pytest
import torch
from typer.testing import CliRunner

from test_engine import rows_without_time, same_state, state_of, stop_after
from vistok.app.wish import fields_of
from vistok.cli import app
from vistok.config import override
from vistok.data.latents.cache import LatentCache
from vistok.engine.log import read_rows
from vistok.errors import Stopped, UserError
from vistok.generator.codes import guide
from vistok.generator.families import default_sampling
from vistok.generator.masked.config import MaskedConfig, MaskedSampling
from vistok.generator.masked.generator import MaskedGenerator
from vistok.generator.masked.schedule import guidance_scales
from vistok.nn.flops import count_flops
from vistok.nn.masking import SCHEDULES, even_progress, masked_counts, masks, mean_share, still_masked
from vistok.recipes import find_recipe
from vistok.runs.curves import charts_of, headline
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.load import load_generator
from vistok.space import Line, Tokens, Vectors, grid, token_grid
from vistok.verbs import train_generator

SMALL = {"width": 32, "depth": 2, "num_heads": 2, "ffn_multiple": 16}
LINE = Tokens(layout=Line(length=5), codebook_size=7)


def generator(space: Tokens | None = None, std: float = 0.2, **changes) -> MaskedGenerator:
    """Return a small network that predicts something, unlike a new one."""
    torch.manual_seed(0)
    model = MaskedGenerator(MaskedConfig(**{**SMALL, **changes}), space or token_grid(3, 4, 20), 5).eval()
    for weight in model.network.parameters():
        torch.nn.init.normal_(weight, std=std)
    return model


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_fill_every_token_once(schedule):
    ends = SCHEDULES[schedule](torch.tensor([0.0, 0.3, 0.6, 1.0]))
    assert ends[0] == pytest.approx(1) and ends[-1] == pytest.approx(0, abs=1e-6) and (ends.diff() < 0).all()
    for num_tokens, steps in itertools.product((1, 2, 5, 49, 256), (1, 2, 3, 8, 49, 256)):
        if steps <= num_tokens:
            left = still_masked(schedule, steps, num_tokens)
            filled = [a - b for a, b in itertools.pairwise(left)]
            assert len(filled) == steps and min(filled) >= 1 and sum(filled) == num_tokens and left[-1] == 0


def test_schedules_are_those_of_the_papers():
    """Tokens left after each of 8 steps, by floor(tokens x share), as in MaskGIT's and TiTok's code."""
    for name, share in (
        ("cosine", lambda r: math.cos(r * math.pi / 2)),
        ("arccos", lambda r: math.acos(r) * 2 / math.pi),
    ):
        expected = [256, *(math.floor(256 * share(step / 8) + 1e-9) for step in range(1, 8)), 0]
        assert still_masked(name, 8, 256) == expected


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_masks_in_training_have_the_schedules_shares(schedule):
    ids = torch.arange(4000)
    counts = masked_counts(SCHEDULES[schedule](even_progress(3, ids)), 10)
    found = masks(3, ids, counts, 10)
    assert torch.equal(found.sum(1), counts) and int(counts.min()) >= 1
    assert float(found.float().mean()) == pytest.approx(mean_share(schedule, 10), abs=0.02)
    torch.testing.assert_close(found.float().mean(0), torch.full((10,), mean_share(schedule, 10)), atol=0.03, rtol=0)
    assert torch.equal(masks(3, ids[7:9], counts[7:9], 10), found[7:9])


def test_a_batch_has_all_shares():
    """In any 64 neighbours, numbers lie about evenly, and another seed brings others."""
    for start in (0, 64_000_000_000):
        found = even_progress(5, torch.arange(64) + start).sort().values
        gaps = found.diff()
        assert float(found[0]) < 2.7 / 64 and float(found[-1]) > 1 - 2.7 / 64 and float(gaps.max()) < 2.7 / 64
        assert not torch.equal(even_progress(6, torch.arange(64) + start).sort().values, found)


def test_guidance_grows_as_in_titoks_code():
    """There, logits are cond + s (cond - uncond): our scale is one more. Power-cosine is written as ours is."""
    how = MaskedSampling(guidance_scale=5.5)
    assert guidance_scales(how, 4) == [5.5] * 4
    assert guidance_scales(how.replace(guidance_schedule="linear"), 4) == pytest.approx(
        [1 + 4.5 * step / 4 for step in range(4)]
    )
    power = guidance_scales(how.replace(guidance_schedule="power_cosine", guidance_power=2.0), 4)
    assert power == pytest.approx([4.5 * (1 - math.cos((step / 4) ** 2 * math.pi)) / 2 + 1 for step in range(4)])
    model = generator()
    assert model.calls(how.replace(steps=4)) == 8 and model.calls(MaskedSampling(steps=4)) == 4
    assert model.calls(how.replace(steps=4, guidance_schedule="linear")) == 7  # at first the scale is 1
    assert model.calls(MaskedSampling()) == 8 and generator(LINE).calls(MaskedSampling()) == 5


@pytest.mark.parametrize("rotary", [True, False])
@pytest.mark.parametrize("changes", [
    {}, {"order": "random"}, {"convention": "titok"}, {"guidance_scale": 2.0}, {"top_k": 5, "temperature": 0.9},
    {"guidance_scale": 3.0, "guidance_schedule": "power_cosine", "schedule": "cosine", "top_p": 0.8},
])  # fmt: skip
def test_samples_depend_on_seed_and_number_alone(changes, rotary):
    model, labels, ids = generator(rotary=rotary), torch.arange(6) % 5, torch.arange(6) + 10
    how = MaskedSampling(steps=4, seed=3, **changes)
    whole = model.sample(labels, ids, how)
    assert whole.shape == (6, 12) and int(whole.min()) >= 0 and int(whole.max()) < 20
    for size in (1, 4):
        parts = [model.sample(labels[i : i + size], ids[i : i + size], how) for i in range(0, 6, size)]
        assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(model.sample(labels, ids + 1, how), whole)
    assert not torch.equal(model.sample(labels, ids, how.replace(seed=4)), whole)


@pytest.mark.parametrize("order", ["confidence", "random"])
@pytest.mark.parametrize("space", [token_grid(3, 4, 20), LINE])
def test_a_filled_token_stays_and_each_step_fills_as_many_as_it_should(order, space, monkeypatch):
    model, seen = generator(space), []
    forward = model.network.forward

    def watched(tokens, labels, places=None):
        seen.append(tokens.clone())
        return forward(tokens, labels, places)

    monkeypatch.setattr(model.network, "forward", watched)
    drawn = model.sample(torch.arange(5), sampling=MaskedSampling(steps=4, order=order))
    left = still_masked("arccos", 4, space.layout.positions)
    assert [int((tokens == space.codebook_size).sum()) for tokens in seen] == [5 * count for count in left[:-1]]
    for before, after in itertools.pairwise([*seen, drawn]):
        filled = before != space.codebook_size
        assert torch.equal(before[filled], after[filled])


def chain(model: MaskedGenerator, label: int) -> dict[tuple[int, ...], float]:
    """Return the probability of every image under random-order autoregression, by enumerating orders and codes."""
    num_tokens, codes = model.num_tokens, model.space.codebook_size
    found = dict.fromkeys(itertools.product(range(codes), repeat=num_tokens), 0.0)
    orders = list(itertools.permutations(range(num_tokens)))
    for order, image in itertools.product(orders, found):
        tokens, probability = torch.full((1, num_tokens), codes), 1.0
        for place in order:
            logits = model.network(tokens, torch.tensor([label]))[0, place]
            probability *= float(logits.double().softmax(-1)[image[place]])
            tokens[0, place] = image[place]
        found[image] += probability / len(orders)
    return found


def test_one_step_for_each_token_in_random_order_is_random_order_autoregression():
    model = generator(Tokens(layout=Line(length=3), codebook_size=2), std=0.6)
    with torch.no_grad():
        expected = chain(model, 2)
    assert sum(expected.values()) == pytest.approx(1) and max(expected.values()) > 2 * min(expected.values())
    count = 20_000
    how = MaskedSampling(steps=3, order="random")
    drawn = model.sample(torch.full((count,), 2), sampling=how)
    for image, probability in expected.items():
        share = float((drawn == torch.tensor(image)).all(1).float().mean())
        assert share == pytest.approx(probability, abs=4.5 * math.sqrt(probability * (1 - probability) / count)), image
    one_step = model.sample(
        torch.full((count,), 2), sampling=how.replace(steps=1)
    )  # independent, so another distribution
    gaps = [abs(float((one_step == torch.tensor(image)).all(1).float().mean()) - expected[image]) for image in expected]
    assert max(gaps) > 0.02


def test_without_noise_the_surest_tokens_come_first():
    model, labels = generator(), torch.arange(5)
    how = MaskedSampling(steps=12, temperature=0.0, choice_temperature=0.0)
    assert how.always_alike and not MaskedSampling().always_alike
    tokens = torch.full((5, 12), 20)
    with torch.no_grad():
        for _ in range(12):
            best, codes = model.network(tokens, labels).log_softmax(-1).max(-1)
            place = best.masked_fill(tokens != 20, -math.inf).argmax(1, keepdim=True)
            tokens.scatter_(1, place, codes.gather(1, place))
    assert torch.equal(model.sample(labels, sampling=how), tokens)
    assert torch.equal(model.sample(labels, torch.arange(5) + 9, how), tokens)
    titok = how.replace(convention="titok", temperature=1.0)
    assert titok.always_alike and torch.equal(
        model.sample(labels, torch.arange(5) + 9, titok), model.sample(labels, sampling=titok)
    )


def test_guidance_moves_logits_away_from_no_class():
    model, labels = generator(), torch.tensor([1, 3])
    how = MaskedSampling(steps=1, temperature=0.0, guidance_scale=3.0)
    tokens = torch.full((2, 12), 20)
    with torch.no_grad():
        one, none = (model.network(tokens, number) for number in (labels, torch.full((2,), 5)))
    assert torch.equal(model.sample(labels, sampling=how), guide(one, none, 3.0).argmax(-1))


@pytest.mark.parametrize("how", [MaskedSampling(steps=4, guidance_scale=2.0), MaskedSampling(steps=5, order="random")])
def test_flops_are_those_of_the_calls_that_are_made(how):
    model, left = generator(), still_masked("arccos", how.steps, 12)
    drawn_for = [a - b if how.order == "random" else a for a, b in itertools.pairwise(left)]
    tokens, labels = torch.full((1, 12), 20), torch.tensor([0])
    passes = [count_flops(lambda n=n: model.network(tokens, labels, torch.arange(n)[None])) for n in drawn_for]
    rows = 1 if how.guidance_scale == 1 else 2
    assert model.sampling_flops(how) == pytest.approx(rows * sum(passes))
    assert model.sampling_bytes(how) >= rows * 4 * 12 * 20


def test_weights_in_half_of_the_bytes():
    model, labels = generator(), torch.arange(5)
    drawn = model.sample(labels, sampling=MaskedSampling(precision="bfloat16"))
    assert drawn.shape == (5, 12) and model.network.head.weight.dtype == torch.float32
    plain = model.sample(labels, sampling=MaskedSampling())
    assert 0.3 < float((drawn == plain).float().mean()) <= 1


def objective_of(*settings: str, space=None):
    run = override(find_recipe("debug_masked"), ["generator.dropout=0", "generator.label_dropout=0", *settings])
    objective = train_generator.build_objective(run, LatentFacts(space or token_grid(3, 4, 20), 5), torch.device("cpu"))
    for weight in objective.model.network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return objective


def batch_of(count: int) -> dict[str, torch.Tensor]:
    return {"latents": torch.arange(12 * count).view(count, 12) * 7 % 20, "labels": torch.arange(count) % 5,
            "positions": torch.arange(count) + 100}  # fmt: skip


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_an_images_mask_is_its_own(weight):
    """Whatever the micro-batch: losses of two halves are those of the whole; another pass brings others."""
    objective, batch = objective_of(f"generator.unmasked_weight={weight}"), batch_of(8)
    halves = [{name: value[part] for name, value in batch.items()} for part in (slice(4), slice(4, 8))]
    whole, *parts = (objective._loss(one, 0).total for one in (batch, *halves))
    torch.testing.assert_close(whole, torch.stack(parts).mean(), rtol=1e-4, atol=1e-5)
    again = objective._loss({**batch, "positions": batch["positions"] + 8}, 0).total
    assert abs(float((again - whole).detach())) > 1e-3


def test_the_loss_is_smoothed_cross_entropy_of_tokens_that_are_not_seen():
    objective, batch = objective_of("generator.label_smoothing=0.1", "generator.unmasked_weight=0.25"), batch_of(6)
    keys, model = batch["positions"], objective.model
    counts = masked_counts(SCHEDULES["arccos"](even_progress(objective.seed, keys)), 12)
    masked = masks(objective.seed, keys, counts, 12)
    logits = model.network(batch["latents"].masked_fill(masked, 20), batch["labels"]).log_softmax(-1)
    exact = -logits.gather(-1, batch["latents"][..., None])[..., 0]
    smoothed = 0.9 * exact + 0.1 * -logits.mean(-1)
    weights = masked.float() + 0.25 * (~masked).float()
    share = mean_share("arccos", 12)
    expected = (weights * smoothed).sum() / (6 * 12 * (share + 0.25 * (1 - share)))
    torch.testing.assert_close(objective._loss(batch, 0).total, expected)


def test_held_out_losses_are_keyed_by_the_image_and_lie_at_ten_shares():
    model, batch = generator(), batch_of(20)
    ids = torch.arange(20) + 40
    with torch.no_grad():
        whole = model.held_out(batch["latents"], batch["labels"], ids)
        part = model.held_out(batch["latents"][5:8], batch["labels"][5:8], ids[5:8])
        masked = masks(0, ids[7:8], torch.tensor([9]), 12)  # three quarters of 12
        losses = model(batch["latents"][7:8], masked, batch["labels"][7:8])
    torch.testing.assert_close(whole["masked_loss"][5:8], part["masked_loss"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole["masked_loss"][7], losses[masked].mean(), rtol=1e-4, atol=1e-5)
    assert list(whole)[1:] == [f"masked_loss_at_{0.05 + 0.1 * i:.2f}" for i in range(10)]
    assert torch.equal(whole["masked_loss_at_0.75"], whole["masked_loss"][[7, 17]])


def test_a_new_network_knows_nothing():
    model = MaskedGenerator(MaskedConfig(**SMALL), token_grid(3, 4, 20), 5)
    losses = model(batch_of(2)["latents"], torch.ones(2, 12, dtype=torch.bool), torch.tensor([0, 1]))
    torch.testing.assert_close(losses, torch.full((2, 12), math.log(20)))


def test_what_cannot_be_is_refused():
    with pytest.raises(
        UserError, match="a masked generator writes tokens, but these latents are 7x7 vectors of 4 numbers"
    ):
        MaskedGenerator(MaskedConfig(**SMALL), Vectors(layout=grid(7, 7), dim=4), 3)
    with pytest.raises(UserError, match="steps 13: an image has 12 tokens, .* use at most 12 steps"):
        generator().sampler(MaskedSampling(steps=13))
    with pytest.raises(UserError, match="steps"):
        MaskedSampling(steps=0)
    with pytest.raises(UserError, match="schedule.*'arccos', 'cosine', 'linear' or 'square'"):
        MaskedSampling(schedule="cubic")
    with pytest.raises(UserError, match="needs a generator trained with label dropout"):
        generator(label_dropout=0.0).sampler(MaskedSampling(guidance_scale=2.0))
    with pytest.raises(UserError, match=r"labels must lie in 0...4, found 0...9"):
        generator().sample(torch.tensor([0, 9]))
    with pytest.raises(UserError, match="a draft speeds up only autoregressive generators, but this one is masked"):
        generator().sped_up(MaskedSampling(), generator(), 4)


@pytest.fixture(scope="module")
def masked_run(toy_runs, tmp_path_factory, quiet):
    """A run on the tokens of the toy tokenizer."""
    tokenizer, runs = toy_runs[0], tmp_path_factory.mktemp("masked")
    caches = [LatentCache(tokenizer / "tokens" / split) for split in ("train", "val")]

    def prepare(folder):
        return train_generator.prepare(find_recipe("debug_masked"), *caches, tokenizer, folder)

    return prepare, prepare(runs).train(quiet).path


def vistok(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return done.exit_code, done.output


def test_a_run_on_tokens_from_training_to_scores(masked_run, tmp_path, fashion_root):
    _, run = masked_run
    rows = read_rows(run / "metrics.jsonl")
    measured = [row["masked_loss"] for row in rows if row["kind"] == "validation"]
    assert measured[0] == pytest.approx(math.log(64)) and measured[-1] < measured[0]
    assert {"masked_loss_at_0.05", "masked_loss_raw", "unigram_nats_per_token"} <= rows[-1].keys() | rows[-2].keys()
    charts = {chart.title: chart for chart in charts_of(rows, "generator")}
    assert len(charts["Held-out nats per masked token by share masked"].series[0].xs) == 10
    assert "Nats per masked token" in charts and "Nats per token" not in charts
    assert "nats per masked token held out" in headline(rows, "generator")
    code, said = vistok("sample", run, "--out", tmp_path / "a.png", "--count", 20, "--steps", 6, "--guidance", 2)
    assert code == 0 and "12 calls" in said and (tmp_path / "a.png").is_file()
    code, said = vistok("evaluate", "generator", run, "--count", 50, "--data", fashion_root, "--steps", 3)
    assert code == 0 and "gFMD" in said and "3 calls" in said and "no likelihood" in said
    code, said = vistok("sample", run, "--out", tmp_path / "b.png", "--set", "order=random", "--top-k", 9)
    assert code == 0 and "8 calls" in said
    with pytest.raises(UserError, match="--solver: masked generators do not support it"):
        vistok("sample", run, "--out", tmp_path / "c.png", "--solver", "euler")
    with pytest.raises(UserError, match="steps 50: an image has 49 tokens"):
        vistok("sample", run, "--out", tmp_path / "c.png", "--steps", 50)
    assert fields_of("masked") == ["temperature", "top_k", "top_p", "steps"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_exactly(masked_run, tmp_path, quiet, monkeypatch):
    prepare, run = masked_run
    stop_after(monkeypatch, 23)
    with pytest.raises(Stopped, match="after step 23 of 40"):
        prepare(tmp_path).train(quiet)
    monkeypatch.undo()
    again = prepare(tmp_path).train(quiet).path
    assert again.name == run.name and rows_without_time(again) == rows_without_time(run)
    assert same_state(state_of(run), state_of(again))
    model = load_generator(again)
    assert default_sampling(model.config) == MaskedSampling() and model.num_tokens == 49
