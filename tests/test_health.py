"""Whether a run came out alive: what is measured, which alarms stand, what they advise, and who asks before building on it."""

import json
import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from tiny_networks import TOKENIZER, tokenizer_parts, write_pair
from vistok.cli import app
from vistok.config import override
from vistok.data.images.sources import ArraySource
from vistok.data.latents.views import expand_views
from vistok.engine.log import Alarm, Ringing, read_rows
from vistok.engine.weights import load_weights, save_weights
from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveConfig, AutoregressiveSampling
from vistok.generator.masked.config import MaskedConfig
from vistok.metrics.codebook import perplexity_share, unigram_nats
from vistok.metrics.color import lab_errors, to_lab
from vistok.metrics.spread import Spread
from vistok.metrics.variety import Drawn, Variety, variety
from vistok.origin import Health, Origin, Training
from vistok.recipes import find_recipe
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.runs.health.gate import alarms_of, closing_words, require_alive
from vistok.runs.health.generator_symptoms import generator_alarms
from vistok.runs.health.only_begun import has_only_begun, longer, not_judged
from vistok.runs.health.reconstruction_quality import baseline_of, reconstruction_quality
from vistok.runs.health.sample_warnings import collapse_warnings, score_warnings
from vistok.runs.health.tokenizer_symptoms import tokenizer_alarms
from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.config import LossConfig
from vistok.tokenizer.networks.conv import ConvTokenizer
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

RUN = TokenizerRun(losses=LossConfig(perceptual=None), tokenizer=find_recipe("debug_vq").tokenizer)
SETTING = re.compile(r'--set ("[^"]*"|\S+)')


# What is measured.


def test_lab_is_that_of_the_textbooks():
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128]])
    lab = to_lab(colours.to(torch.uint8).T.reshape(1, 3, 6, 1))[0, :, :, 0].T
    expected = [
        [53.24, 80.09, 67.20],
        [87.73, -86.18, 83.18],
        [32.30, 79.19, -107.86],
        [100, 0, 0],
        [0, 0, 0],
        [53.59, 0, 0],
    ]
    torch.testing.assert_close(lab, torch.tensor(expected), atol=0.02, rtol=0)


def test_colour_that_is_lost_is_an_error_of_chroma():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    grey = torch.full((1, 3, 4, 4), 127, dtype=torch.uint8)  # as light as the red, L 53.2
    whole, chroma = (float(error) for error in lab_errors(grey, red))
    assert chroma == pytest.approx(np.hypot(80.09, 67.20), abs=0.1) and whole == pytest.approx(chroma, abs=0.01)
    assert [float(error) for error in lab_errors(red, red)] == [0, 0]


def test_spread_is_the_variance_however_images_are_divided():
    images = torch.randint(0, 256, (70, 3, 5, 4), dtype=torch.uint8)
    whole, parts = Spread(), [Spread(), Spread(), Spread()]
    whole.add(images)
    parts[0].add(images[:1]), parts[1].add(images[1:])
    values = images.double() / 255
    assert whole.variance() == pytest.approx(float(values.var(0, correction=0).mean()), rel=1e-12)
    assert Spread.joined(parts).variance() == whole.variance()
    assert torch.equal(whole.mean_picture()[0], images.double().mean(0).round().to(torch.uint8))
    equal = Spread()
    equal.add(images[:1].expand(9, -1, -1, -1))
    assert equal.variance() == 0


def test_perplexity_and_the_likelihood_by_frequencies():
    assert perplexity_share(np.array([5, 5, 5, 5])) == pytest.approx(1)
    assert perplexity_share(np.array([7, 0, 0, 0])) == pytest.approx(0.25)
    assert unigram_nats(np.array([2, 0]), np.array([3, 1])) == pytest.approx(-(3 * np.log(3 / 4) + np.log(1 / 4)) / 4)


def quality(model, images):
    source = ArraySource(images, np.zeros(len(images), dtype=np.int64), ["one"], "d")
    data = tokenizer_parts()[0].data
    return reconstruction_quality(model, source, data, torch.device("cpu"), baseline_of(source, data))


def test_a_dead_decoder_shows_in_a_validation_and_a_perfect_one_too(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    model = ConvTokenizer(TOKENIZER)
    sound = type(model).forward

    def grey(self, batch):
        output = sound(self, batch)
        output.reconstruction = torch.zeros_like(batch)
        return output

    def perfect(self, batch):
        output = sound(self, batch)
        output.reconstruction = batch
        return output

    monkeypatch.setattr(ConvTokenizer, "forward", grey)
    dead = quality(model, images)
    assert dead["dependence"] == 0 and dead["psnr_over_mean"] < 0.1 and 0 < dead["code_perplexity"] <= 1
    monkeypatch.setattr(ConvTokenizer, "forward", perfect)
    whole = quality(model, images)
    assert whole["dependence"] == pytest.approx(1) and whole["psnr"] == 100  # as every PSNR of equal images
    pixels = images.astype(float)
    mean = pixels.mean(0).round()
    psnr = -10 * np.log10(((pixels - mean) ** 2).mean((1, 2, 3)) / 255**2)
    assert whole["psnr_over_mean"] == pytest.approx(whole["psnr"] - psnr.mean(), abs=1e-4)
    assert "lab_error" not in whole  # of grey images
    # Equal images cannot tell, and nothing is alarming.
    assert all(np.isnan(quality(model, images[:1])[name]) for name in ("dependence", "psnr_over_mean"))


# Which alarms stand.


def names(watch_of, rows):
    """What a run raises that goes on, and what one raises that is resumed before every row."""
    watch = watch_of()
    found = [[alarm.name for alarm in watch(rows[: i + 1]).raised] for i in range(len(rows))]
    assert found == [[alarm.name for alarm in watch_of()(rows[: i + 1]).raised] for i in range(len(rows))]
    return sum(found, [])


def of(config=RUN, total=1000):
    return lambda: tokenizer_alarms(config, total)


def validated(step, **values):
    sound = {"dependence": 0.8, "psnr_over_mean": 5.0, "codebook_usage": 0.9}
    return {"kind": "validation", "step": step, **sound, **values}


def trained(step, **values):
    return {"kind": "train", "step": step, **{name.replace("__", "/"): value for name, value in values.items()}}


def gan(step, loss):
    return trained(step, discriminator__loss=loss, discriminator__discriminator_loss=loss)


def test_alarm_when_reconstructions_are_blind():
    assert names(of(), [validated(0, dependence=0.0), validated(50, dependence=0.0), validated(100)]) == []
    rows = [validated(0), validated(100, dependence=0.01), validated(200, dependence=0.01), validated(300)]
    assert names(of(), [*rows, validated(400, psnr_over_mean=0.4)]) == ["blind", "blind"]
    watch = tokenizer_alarms(RUN, 1000)
    assert [alarm.name for alarm in watch(rows[:3]).standing] == ["blind"] and watch(rows[:3]).raised == ()
    assert watch(rows) == Ringing((), (), ("blind",))
    # Early in a run it is told at the end alone; one of a few steps is no reason to stop anybody.
    (alarm,) = tokenizer_alarms(RUN, 60)([validated(60, dependence=0.0)]).standing
    assert alarm.dead
    (alarm,) = tokenizer_alarms(RUN, 4)([validated(4, dependence=0.0)]).standing
    assert not alarm.dead
    assert tokenizer_alarms(RUN, 4)([{"kind": "validation", "step": 4}]).standing == ()  # of an earlier version


def test_images_that_are_nearly_alike_are_named_as_the_reason():
    alike, usual = (validated(60, psnr=psnr, psnr_over_mean=-1.0) for psnr in (34.0, 12.0))
    (alarm,) = tokenizer_alarms(RUN, 60)([alike]).standing
    assert "their mean alone has 35.0 dB" in alarm.found
    (alarm,) = tokenizer_alarms(RUN, 60)([usual]).standing
    assert "farther from the image than the mean" in alarm.found and "differ little" not in alarm.found


def test_fine_tuning_that_makes_reconstructions_worse_is_noticed():
    began = override(find_recipe("images64_vq", "tokenizer"), ["init_from=pictures64", 'trains="decoder"'])
    rows = [validated(0, psnr=22.0), validated(300, psnr=21.0), validated(600, psnr=21.85)]
    (alarm,) = tokenizer_alarms(began, 600)(rows).standing
    assert alarm.name == "worse" and not alarm.dead and "21.85 dB, and 22.00 dB before the first step" in alarm.found
    assert "optimizer.lr=0.00025 (smaller steps" in alarm.advice
    (alarm,) = tokenizer_alarms(override(began, ["optimizer.lr=1e-4"]), 600)(rows).standing
    assert alarm.advice.startswith("Take the weights")
    for config, seen in (
        (RUN, rows),  # from nothing
        (began, rows[:2]),  # it may still recover
        (began, [*rows, validated(600, psnr=21.95)]),
        (override(began, ["losses.adversarial.weight=1"]), rows),  # what looks better has a lower PSNR
        (override(began, ['trains="all"', "crt.weight=0.2"]), rows),  # and so has what is easier to model
    ):
        assert "worse" not in [
            one.name for one in tokenizer_alarms(config, 1200 if seen == rows[:2] else 600)(seen).standing
        ]


def test_pictures_that_are_alike_have_not_only_begun_to_be_learned():
    assert has_only_begun([validated(60, psnr=14.0, psnr_over_mean=2.0)])
    assert not has_only_begun([validated(60, psnr=34.0, psnr_over_mean=2.0)])
    assert has_only_begun([validated(60, psnr=34.0, psnr_over_mean=0.6)])
    assert longer(500) == "Train it longer." and "3,000 steps, as many as the recipes" in longer(3000)


def test_nothing_is_alarming_before_the_codes_begin():
    later = override(RUN, ["tokenizer.quantizer.start_after=300"])
    rows = [
        validated(step, dependence=0.0, codebook_usage=usage) for step, usage in ((0, 0.9), (300, 0.02), (399, 0.02))
    ]
    assert names(of(later), rows) == []
    assert names(of(later), [*rows, validated(400, dependence=0.0, codebook_usage=0.02)]) == ["blind", "codes_unused"]


def test_alarm_when_latents_collapse():
    rows = [
        trained(100 + i, autoencoder__latent_variance=value)
        for i, value in enumerate([0.1, 8e-4, 7e-4, 6e-4, 5e-4, 4e-4])
    ]
    assert names(of(), rows) == ["latents_collapse"]
    assert names(of(), rows[:5]) == []  # one of the last rows is sound
    rising = [trained(100 + i, autoencoder__latent_variance=(1 + i) * 1e-4) for i in range(8)]
    assert names(of(), rising) == ["latents_collapse"]  # of a single row, and then no longer
    assert tokenizer_alarms(RUN, 1000)(rising).standing == ()
    distance = RUN.replace(tokenizer=RUN.tokenizer.replace(quantizer=VQConfig(lookup="euclidean")))
    assert names(of(distance), rows) == []


def test_alarm_when_the_discriminator_wins():
    losses = [1.0, 0.8, 0.09, 0.05, 0.2, 0.05, 0.04, 0.03, 0.02, 0.01, 0.01, 0.01]
    rows = [gan(step, loss) for step, loss in enumerate(losses)]
    assert names(of(), rows) == ["discriminator_wins"]  # once, when five in a row are below
    assert names(of(), [*rows, gan(12, 0.9), *[gan(13 + i, 0.01) for i in range(5)]]) == ["discriminator_wins"] * 2
    paused = [*rows[:8], trained(8), *rows[9:]]  # a row in which it did not train
    assert names(of(), paused[:12]) == []


def test_alarm_when_codes_die():
    usages = [0.9, 0.6, 0.5, 0.31, 0.29, 0.28, 0.03]
    rows = [validated(100 * i, codebook_usage=usage) for i, usage in enumerate(usages)]
    assert names(of(), rows) == ["usage_falls", "codes_unused"]
    start = [(0, 0.9), (100, 0.2), (200, 0.3)]  # which is chance
    assert names(of(), [validated(step, codebook_usage=usage) for step, usage in start]) == []
    # Ten images of 64 tokens cannot use more than 4 % of 16,384 codes.
    few = [validated(100 * i, codebook_usage=0.03, tokens_per_code=640 / 16384) for i in range(3)]
    assert names(of(), few) == []


def test_codes_that_do_not_train_raise_no_alarm():
    """How many are in use depends on the pictures alone, and no advice could change it."""
    rows = [validated(100 * i, codebook_usage=usage) for i, usage in enumerate([0.9, 0.5, 0.007])]
    assert sorted(names(of(), rows)) == ["codes_unused", "usage_falls"]
    assert names(of(override(RUN, ['trains="decoder"', "crt=null", "init_from=x"])), rows) == []


def test_alarms_look_at_every_row_once():
    class Counted(list):
        looked = 0

        def __getitem__(self, index):
            Counted.looked += 1
            return super().__getitem__(index)

        def __iter__(self):
            raise AssertionError("all rows again")

    rows, watch = Counted(), tokenizer_alarms(RUN, 1000)
    for step in range(50):
        rows.append(gan(step, 1.0))
        watch(rows)
    assert Counted.looked <= 2 * len(rows)


def likely(step, nats, unigram=4.0):
    return {"kind": "validation", "step": step, "nats_per_token": nats, "unigram_nats_per_token": unigram}


def nats(step, value):
    return trained(step, generator__nats_per_token=value)


def test_alarms_of_a_generator():
    def watch():
        return generator_alarms(GeneratorRun(), 1000)

    assert names(watch, [likely(0, 6.0), likely(50, 5.0), likely(100, 4.5), likely(200, 3.9)]) == ["learned_nothing"]
    assert names(watch, [likely(100, 3.85)]) == ["learned_nothing"] and names(watch, [likely(100, 3.75)]) == []  # noise
    (alarm,) = watch()([likely(100, 4.5)]).standing
    assert alarm.dead and "4.000" in alarm.found
    (empty,) = watch()([likely(100, 0.06, 0.05)]).standing
    assert "tokenizer" in empty.advice  # there is nothing to learn
    learns = [nats(1, 5.0), likely(100, 3.5), nats(250, 3.4), likely(300, 3.2), nats(350, 2.9), likely(400, 3.3)]
    assert names(watch, learns) == ["memorises"]
    (alarm,) = watch()(learns).standing
    assert not alarm.dead and '--set "length=300 steps"' in alarm.advice
    # Of less, no generator learns anything: it would be told to train longer, and so on without end.
    soon = [nats(1, 5.0), likely(110, 3.2), nats(250, 2.9), likely(300, 3.3)]
    assert "length" not in watch()(soon).standing[0].advice
    # A validation without a training row since the one before it ends no alarm.
    assert names(watch, [*learns, likely(401, 3.4)]) == ["memorises"]
    risen = [*learns[:-2], nats(350, 3.5), likely(400, 3.3)]  # training does not get better either
    assert names(watch, risen) == []
    # By heart until it is worse than the frequencies: the name of the fault stays.
    assert names(watch, [*learns, nats(450, 1.0), likely(500, 5.0)]) == ["memorises"]
    assert names(watch, [{"kind": "validation", "step": 200, "nats_per_token": 9.0}]) == []
    # So few images that it was never better than at its start, and knows those of training.
    few = [likely(0, 6.9, 7.3), nats(100, 2.0), nats(300, 0.3), likely(370, 7.6, 7.3)]
    assert names(watch, few) == ["memorises"]


def test_random_crops_may_cost_more_before_a_generator_counts_as_memorising():
    """After 200 passes held-out nats of some folders had risen by 4 to 9 %, and 1 to 7 % of samples were copies."""

    def watch(crops=40):
        return generator_alarms(GeneratorRun(), 2000, expand_views([f"{crops}-crops"]))

    learns = [nats(1, 5.0), likely(350, 3.0), nats(1000, 2.5)]
    assert names(watch, [*learns, likely(2000, 3.3)]) == [] and names(watch, [*learns, likely(2000, 3.7)]) == [
        "memorises"
    ]
    assert names(lambda: watch(2), [*learns, likely(2000, 3.3)]) == ["memorises"]


def test_where_the_decoder_alone_was_trained_the_advice_is_to_train_the_rest():
    config = override(find_recipe("debug_vq"), ["trains=decoder"])
    for alarm in ("blind", "weak"):
        (found,) = tokenizer_alarms(config, 1000)(DEAD[alarm]).standing
        assert "--set trains=all" in found.advice
    override(config, ["trains=all"])  # can be typed


def test_a_generator_that_began_with_given_weights_is_not_told_to_be_smaller():
    config = GeneratorRun(generator=AutoregressiveConfig(depth=8, dropout=0.3))
    rows = [likely(0, 1.4), nats(100, 1.3), likely(100, 1.7), nats(300, 1.0), likely(370, 1.7)]
    (alarm,) = generator_alarms(config, 1000, ("center", "flip"))(rows).standing
    assert "generator.depth=4" in alarm.advice and "up from 1.400 at step 0" in alarm.found
    (alarm,) = generator_alarms(config.replace(init_from="pictures64"), 1000, ("center", "flip"))(rows).standing
    assert "depth" not in alarm.advice and "up from 1.400 in the weights that it began with" in alarm.found


def test_alarms_of_a_flow():
    """Its loss is held against that of a network that takes data for noise, and against its own before the first step."""

    def matched(step, loss, blind=None):
        known = {} if blind is None else {"blind_matching_loss": blind}
        return {"kind": "validation", "step": step, "matching_loss": loss, **known}

    def watch(**changed):
        return lambda: generator_alarms(GeneratorRun().replace(**changed), 1000)

    assert names(watch(), [matched(0, 2.0), matched(100, 1.99)]) == ["learned_nothing"]
    assert names(watch(), [matched(0, 2.0), matched(100, 1.9)]) == []
    assert names(watch(), [matched(0, 2.0), matched(50, 2.0)]) == []  # it is still early
    assert names(watch(init_from="pictures64"), [matched(0, 1.0), matched(100, 1.0)]) == []  # it knew before
    (alarm,) = watch()()([matched(0, 2.0), matched(100, 2.1)]).standing
    assert alarm.dead and "2.1000, and was 2.0000" in alarm.found
    noise = [matched(0, 2.0, 1.57), matched(100, 1.5, 1.57)]
    assert names(watch(), noise) == names(watch(init_from="pictures64"), noise[1:]) == ["learned_nothing"]
    assert names(watch(), [matched(0, 2.0, 1.57), matched(100, 1.4, 1.57)]) == []
    assert names(watch(), [matched(0, 1.0, 1.57), matched(100, 1.0, 1.57)]) == ["learned_nothing"]


def test_alarms_of_a_shortened_generator():
    """Its losses say little: what is watched is how varied its samples are."""

    def drawn(step, spread):
        return {"kind": "validation", "step": step, "sample_spread": spread}

    def watch():
        return generator_alarms(GeneratorRun(), 1000)

    assert names(watch, [drawn(100, 1.1)]) == names(watch, [drawn(50, 20.0)]) == []
    assert names(watch, [drawn(100, 0.3)]) == ["collapsed"] and names(watch, [drawn(100, 3.0)]) == ["scattered"]
    assert [watch()([drawn(100, spread)]).standing[0].dead for spread in (0.05, 0.3, 3.0, 20.0)] == [
        True,
        False,
        False,
        True,
    ]


def test_alarms_of_a_generator_that_fills_in():
    """Its loss is nats per token, too; what label smoothing costs is not held against it."""

    def masked(step, nats):
        return {"kind": "validation", "step": step, "masked_loss": nats, "unigram_nats_per_token": 4.0}

    def watch():
        return generator_alarms(GeneratorRun(generator=MaskedConfig(label_smoothing=0.1)), 1000)

    assert names(watch, [masked(100, 4.2)]) == ["learned_nothing"] and names(watch, [masked(100, 4.1)]) == []
    learns = [trained(1, generator__masked_loss=5.0), masked(100, 3.5), trained(150, generator__masked_loss=3.0)]
    assert names(watch, [*learns, masked(300, 3.8)]) == ["memorises"]


# What they advise.

DEAD = {
    "blind": [validated(1000, dependence=0.0)],
    "weak": [validated(1000, psnr_over_mean=0.1)],
    "latents_collapse": [trained(1000, autoencoder__latent_variance=1e-5)],
    "codes_unused": [validated(1000, codebook_usage=0.01)],
    "usage_falls": [validated(500), validated(1000, codebook_usage=0.3)],
    "discriminator_wins": [gan(i, 0.01) for i in range(5)],
}
CONFIGS = {
    "plain": [],
    "crt": ["crt.weight=4", "crt.width=16", "crt.num_heads=2"],
    "ce_post": ["crt.variant=ce_post"],
    "micro": ["crt.variant=l2_post", "batch_size=8", "execution.micro_batch_size=4"],
    "slow": ["optimizer.lr=1e-9", "optimizer.warmup=3000 steps"],
    "all": [
        "crt.variant=l2_pre_normalized", "tokenizer.quantizer.restart_after=20", "tokenizer.quantizer.start_after=10",
        "tokenizer.quantizer.codebook_size=32", "init_from=x",
    ],
    "gan": ["losses.adversarial.weight=1", "losses.adversarial.num_layers=2"],
    "fsq": ['tokenizer.quantizer={"kind": "fsq", "levels": [8, 8]}'],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "alarm"),
    [(name, alarm) for name in CONFIGS for alarm in DEAD if (alarm == "discriminator_wins") == (name == "gan")],
)
def test_an_advice_is_a_setting_that_is_not_there_yet(name, alarm):
    """Followed one after the other, each changes the run, and they come to an end."""
    config, total = override(RUN, CONFIGS[name]), 1000
    seen = []
    for _ in range(40):
        rows = [{**row, "step": total if row["kind"] != "train" else row["step"] + total} for row in DEAD[alarm]]
        if alarm == "usage_falls":
            rows[0]["step"] = total - 1
        found = tokenizer_alarms(config, total)(rows).standing
        assert [one.name for one in found] == [{"weak": "blind"}.get(alarm, alarm)]
        setting = SETTING.search(found[0].advice)
        if setting is None or "losses.adversarial=null" in setting[1]:  # after which nothing wins
            return
        (assignment,) = shlex.split(setting[1])
        changed = override(config, [assignment])
        assert changed != config, found[0].advice
        config, total = changed, int(changed.length.value) if "length" in assignment else total
        seen.append(assignment)
    raise AssertionError(f"it goes on for ever: {seen}")


def test_advice_is_about_what_is_wrong():
    def advised(alarm, *settings):
        return (
            tokenizer_alarms(override(RUN, ["optimizer.warmup=5 percent", *settings]), 1000)(DEAD[alarm])
            .standing[0]
            .advice
        )

    assert "crt.variant=l2_pre_normalized" in advised("blind", "crt.weight=4")
    normalized = ("crt.weight=4", "crt.variant=l2_pre_normalized")
    assert "crt.start_explained=0.5" in advised("blind", *normalized)
    assert "crt.weight=0.5" in advised("blind", *normalized, "crt.start_explained=0.5")
    assert "tokenizer.shortcut=true" in advised("weak") and "length=3000" in advised("weak", "tokenizer.shortcut=true")
    assert "optimizer.lr=0.0005" in advised("blind", "optimizer.lr=1e-9")
    assert "optimizer.warmup=5 percent" in advised("blind", "optimizer.warmup=900 steps")
    (usual,) = tokenizer_alarms(override(RUN, ["crt.weight=4"]), 1000)(DEAD["codes_unused"]).standing
    assert "restart_after=50" in usual.advice
    dead = [*DEAD["latents_collapse"], validated(1000, codebook_usage=0.01, dependence=0.0)]
    found = tokenizer_alarms(override(RUN, ["crt.weight=4", "optimizer.warmup=1 steps"]), 1000)(dead).standing
    assert [alarm.name for alarm in found] == ["blind", "latents_collapse", "codes_unused"]
    assert all("crt.variant=l2_pre_normalized" in alarm.advice for alarm in found)  # restarts alone leave it grey
    assert "restart_after" not in advised("codes_unused", "tokenizer.quantizer.restart_after=50")
    assert "start_after=100" in advised(
        "codes_unused", "tokenizer.quantizer.restart_after=50", "optimizer.warmup=1 steps"
    )


BARE = ("tokenizer.shortcut=false", "tokenizer.quantizer.start_after=null", "tokenizer.quantizer.restart_after=null")
ALONE = ("execution.num_workers=0", "execution.threads=1", "execution.tensorboard=false")
PLAIN = ("crt.variant=l2_pre", "crt.weight=40", "crt.start_explained=0")


@pytest.mark.slow
@pytest.mark.parametrize("broken", [(*BARE, *PLAIN, 'tokenizer.quantizer.lookup="cosine"'), ("optimizer.lr=1",)])
def test_advice_mends_a_run_that_really_went_wrong(broken, photo_folder, quiet, tmp_path):
    """Trained, and trained again as it says, until nothing is wrong."""
    usual = [f'data.root="{photo_folder}"', "batch_size=8", "length=120 steps", "execution.evaluate_every=40"]
    config, told = override(find_recipe("images32_crt", "tokenizer"), [*usual, *ALONE, *broken]), []
    for _ in range(4):
        run = train_tokenizer.prepare(config, tmp_path).train(quiet)
        alarms = alarms_of(run.path)
        if not alarms:
            break
        (assignment,) = shlex.split(SETTING.search(alarms[0].advice)[1])
        told.append(assignment)
        config = override(config, [assignment])
    assert told and not alarms, told


@pytest.fixture(scope="module")
def photo_tokens(photo_folder, quiet, tmp_path_factory):
    """A tokenizer's run, and its tokens of training and held-out pictures."""
    runs, usual = tmp_path_factory.mktemp("photo_tokens"), ["batch_size=8", "length=120 steps", *ALONE]
    config = override(find_recipe("images32_crt", "tokenizer"), [f'data.root="{photo_folder}"', *usual])
    run = train_tokenizer.prepare(config, runs).train(quiet).path
    mirrored = cache_tokens(run, "train", quiet, views=("center", "flip"))
    return run, mirrored, cache_tokens(run, "val", quiet)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alarm", "broken"),
    [
        ("learned_nothing", ("optimizer.lr=1e-7", "length=300 steps")),
        ("memorises", ("optimizer.lr=1e-3", "length=700 steps")),
    ],
)
def test_advice_mends_a_generator_that_really_went_wrong(alarm, broken, photo_tokens, quiet, tmp_path):
    tokenizer, train, val = photo_tokens
    small = ("generator.width=48", "generator.depth=2", "generator.num_heads=2", "generator.dropout=0", "batch_size=16")
    rows = ("execution.log_every=10", "execution.evaluate_every=50")
    config = override(find_recipe("images64_ar_small", "generator"), [*small, *rows, *ALONE, *broken])
    (found,) = alarms_of(train_generator.prepare(config, train, val, tokenizer, tmp_path).train(quiet).path)
    assert found.name == alarm
    mended = override(config, shlex.split(SETTING.search(found.advice)[1]))
    assert alarms_of(train_generator.prepare(mended, train, val, tokenizer, tmp_path).train(quiet).path) == []


# Who asks before building on it.

BLIND = Alarm("blind", 0.01, "all are grey", "Train it again with --set crt=null", dead=True)
WASTED = Alarm("codes_unused", 0.02, "few codes", "Take fewer")


def with_alarms(run, *alarms):
    """Let a run's weights say that it ended so."""
    for file in (run / "export").glob("*.safetensors"):
        state, header = load_weights(file)
        measured = {"dependence": 0.5, "image_variance": 0.1}
        save_weights(
            file, state, {**header, "health": {"alarms": [vars(one) for one in alarms], "validation": measured}}
        )
    return run


@pytest.fixture
def pair(tmp_path):
    return write_pair(tmp_path)


def vistok(*arguments, code=0):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_verbs_refuse_a_dead_run_and_go_on_when_told(pair, tmp_path):
    tokenizer, generator = with_alarms(pair[0], WASTED, BLIND), pair[1]
    out = ["--out", tmp_path / "s.png"]
    verbs = [
        ("train", "generator", "debug_ar", "--tokenizer", tokenizer),
        ("cache", tokenizer),
        ("evaluate", "tokenizer", tokenizer),
        ("evaluate", "tokenizer", tokenizer / "export" / "model.safetensors"),
        ("evaluate", "generator", generator),
        ("sample", generator, *out),
        ("export", "llamagen", tokenizer, "--out", tmp_path / "t.pt"),
        ("export", "hub", generator, "--repo", "a/b", "--out", tmp_path / "hub"),
    ]
    for verb in verbs:
        with pytest.raises(UserError, match=r"blind \(0\.01\): all are grey\. Train it again .*crt=null\. .*--anyway"):
            vistok(*verb)
    begun = ("--init-from", tokenizer, "--data", tmp_path)
    with pytest.raises(UserError, match=r"blind .*--anyway"):
        vistok("train", "tokenizer", "debug_vq", *begun)
    said = vistok("sample", generator, "--count", 4, *out, "--anyway")
    assert "warning: tokenizer" in said and "blind" in said and "codes_unused" in said and "4 images" in said
    assert "warning" in vistok("export", "hub", generator, "--repo", "a/b", "--out", tmp_path / "hub", "--anyway")
    assert load_weights(tmp_path / "hub" / "tokenizer" / "model.safetensors")[1]["health"]["alarms"]


def test_a_dead_generator_is_not_begun_with_unasked(pair):
    with_alarms(pair[1], BLIND)
    with pytest.raises(UserError, match=r"generator .* blind .*--anyway"):
        vistok("train", "generator", "debug_ar", "--tokenizer", pair[0], "--init-from", pair[1])


def test_other_alarms_warn_and_older_and_imported_runs_are_taken_as_they_are(pair):
    said = []
    require_alive(pair[1], anyway=False, tell=said.append)
    assert said == []
    with_alarms(pair[0], WASTED)
    require_alive(pair[1], anyway=False, tell=said.append)
    assert len(said) == 1 and "codes_unused (0.02): few codes. Take fewer" in said[0]
    require_alive(pair[0] / "nothing", anyway=False, tell=said.append)  # whoever reads it says what is wrong
    assert len(said) == 1


def test_damaged_health_is_a_damaged_header(pair):
    state, header = load_weights(pair[0] / "export" / "model.safetensors")
    save_weights(pair[0] / "export" / "model.safetensors", state, {**header, "health": {"alarms": [{"name": "x"}]}})
    assert alarms_of(pair[0]) == []
    with pytest.raises(UserError, match="damaged header"):
        vistok("evaluate", "tokenizer", pair[0])


def test_one_held_out_picture_says_nothing_of_quality():
    one = {"kind": "validation", "step": 2, "psnr": 15.2}
    assert not_judged([one]) and not has_only_begun([one])
    assert not not_judged([one | {"psnr_over_mean": 5.0}]) and not not_judged(
        [{"kind": "validation", "step": 2, "accuracy": 1.0}]
    )


def test_a_classifier_that_guesses_has_only_begun():
    row = {"kind": "validation", "step": 9, "accuracy": 0.12, "chance": 0.1}
    assert has_only_begun([row]) == "12% of held-out images are told right, where guessing gives 10%"
    assert not has_only_begun([row | {"accuracy": 0.6}]) and has_only_begun([row | {"accuracy": 0.55, "chance": 0.5}])
    assert not has_only_begun([{"kind": "validation", "step": 9, "accuracy": 0.12}])  # of an earlier version
    assert not has_only_begun(
        [{"kind": "validation", "step": 9, "blind_matching_loss": 1.5}]
    )  # the other was not finite


def test_a_flow_that_still_takes_data_for_noise_has_only_begun():
    rows = [{"kind": "validation", "step": 60, "matching_loss": 1.2, "blind_matching_loss": 1.57}]
    assert has_only_begun(rows) == "76% of the loss of a network that takes data for noise"
    assert not has_only_begun([rows[0] | {"matching_loss": 0.4}])
    assert not has_only_begun([{"kind": "validation", "step": 60, "matching_loss": 1.2}])  # of an earlier version


@pytest.mark.parametrize("name", ["nats_per_token", "masked_loss"])
def test_a_generator_that_knows_little_more_than_frequencies_has_only_begun(name):
    """Such generators draw noise, and "It went well" was said of them."""
    row = {"kind": "validation", "step": 110, name: 6.324, "unigram_nats_per_token": 6.670}
    assert has_only_begun([row]) == "6.324 nats a token, 5% less than code frequencies alone give"
    assert has_only_begun([row | {name: 7.0}]) == "7.000 nats a token, no less than code frequencies alone give"
    assert not has_only_begun([row | {name: 5.2}]) and not has_only_begun([row | {"unigram_nats_per_token": 0.05}])


def test_a_tokenizer_that_is_hardly_better_than_one_picture_has_only_begun():
    rows = [{"kind": "validation", "step": step, "psnr_over_mean": gain} for step, gain in ((0, -2.0), (50, 1.38))]
    assert has_only_begun(rows) == "1.4 dB closer to the picture than the mean of all pictures"
    assert not has_only_begun([*rows, {"kind": "validation", "step": 90, "psnr_over_mean": 5.0}, {"kind": "train"}])
    assert not has_only_begun([{"kind": "validation", "step": 9, "nats_per_token": 3.0}]) and not has_only_begun([])


def test_closing_words():
    assert closing_words([]) == ""
    assert closing_words([BLIND, WASTED]) == (
        ", with 2 alarms: blind, codes_unused. All are grey. Train it again with --set crt=null"
    )


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """300 drawn circles, squares and triangles."""
    root, draw = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for number in range(300):
        kind = ("circles", "squares", "triangles")[number % 3]
        (root / kind).mkdir(exist_ok=True)
        image = Image.new("RGB", (20, 20), tuple(draw.integers(150, 256, 3).tolist()))
        left, top, size = draw.integers(1, 8, 3).tolist()
        box, fill = (left, top, left + size + 4, top + size + 4), tuple(draw.integers(0, 150, 3).tolist())
        pen = ImageDraw.Draw(image)
        if kind == "triangles":
            pen.polygon([(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) // 2, box[1])], fill=fill)
        else:
            (pen.ellipse if kind == "circles" else pen.rectangle)(box, fill=fill)
        image.save(root / kind / f"{number:03d}.png")
    return root


SMALL = [
    "data.image_size=8", "tokenizer.image_size=8", "tokenizer.encoder.channels=4", "tokenizer.decoder.channels=4",
    "tokenizer.encoder.multipliers=[1,1]", "tokenizer.decoder.multipliers=[1,1]", "tokenizer.latent_channels=4",
    "tokenizer.encoder.patch=1", "tokenizer.decoder.patch=1", "tokenizer.shortcut=false",
    "tokenizer.encoder.norm_groups=2", "tokenizer.decoder.norm_groups=2", "tokenizer.encoder.attention_resolutions=[]",
    "tokenizer.decoder.attention_resolutions=[]", "tokenizer.quantizer.codebook_size=32", "batch_size=4",
    "length=50 steps", "execution.tensorboard=false", "execution.threads=1", "execution.num_workers=0", "execution.evaluate_every=50",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_that_dies_says_so_to_the_end(shapes, tmp_path):
    """It learns nothing at this rate: told at its end, asked before a generator is trained on it."""
    sets = [part for setting in (*SMALL, "optimizer.lr=1e-9") for part in ("--set", setting)]
    command = ("train", "tokenizer", "images64_vq", "--data", shapes, "--runs", tmp_path, *sets)
    said = vistok(*command, "--strict", code=3)
    last = said.strip().splitlines()[-1]
    assert last.startswith("It went badly, with ") and "blind" in last and "--set optimizer.lr=0.0005" in last
    (run,) = tmp_path.glob("images64-vq-*")
    assert last.endswith(f"Its page: {run}/page.html")
    rows = read_rows(run / "metrics.jsonl")
    measured = ("psnr_over_mean", "dependence", "code_perplexity", "lab_error", "chroma_error")
    for row in rows:
        if row["kind"] == "validation":
            assert all(np.isfinite([row[name], row[f"{name}_raw"]]).all() for name in measured)
    assert "blind" in {row["alarm"] for row in rows if row["kind"] == "alarm"}
    again = vistok(*command, "--strict", code=3)
    assert "was finished already" in again and again.strip().splitlines()[-1] == last
    vistok(*command)  # which is not strict

    few = [part for setting in ("length=2 steps", "generator.depth=1", "batch_size=4", "execution.tensorboard=false", "execution.threads=1")
           for part in ("--set", setting)]  # fmt: skip
    on = ("train", "generator", "debug_ar", "--tokenizer", run, "--runs", tmp_path, *few)
    with pytest.raises(UserError, match=r"alarm blind \(.*--anyway"):
        vistok(*on)
    assert not (run / "tokens").exists()
    assert "alarm blind" in vistok(*on, "--anyway")
    (generator,) = tmp_path.glob("debug-ar-*")
    assert (
        "unigram_nats_per_token" in read_rows(generator / "metrics.jsonl")[-1]
        or "alarm" in read_rows(generator / "metrics.jsonl")[-1]
    )


def test_alarms_are_told_until_they_end(shapes, quiet, tmp_path, monkeypatch):
    from vistok.verbs import train_tokenizer

    said = []
    monkeypatch.setattr(type(quiet), "say", lambda self, text: said.append(text))
    bell = Alarm("bell", 0.5, "it rings", "Do this")
    rings = {1: Ringing((bell,), (bell,)), 2: Ringing((bell,)), 3: Ringing((), (), ("bell",))}
    monkeypatch.setattr(
        train_tokenizer, "tokenizer_alarms", lambda *_: lambda rows: rings.get(rows[-1]["step"], Ringing())
    )
    settings = [*SMALL, "execution.log_every=10", "execution.evaluate_every=1", "length=4 steps"]
    config = override(
        find_recipe("images64_vq"), [f'data.root="{shapes}"', "tokenizer.quantizer.start_after=null", *settings]
    )
    run = train_tokenizer.prepare(config, tmp_path).train(quiet)
    rows = [row for row in read_rows(run.metrics) if row["kind"] == "alarm"]
    assert rows == [
        {"kind": "alarm", "step": 1, "alarm": "bell", "value": 0.5, "advice": "it rings. Do this", "dead": False},
        {"kind": "alarm", "step": 3, "alarm": "bell", "ended": True},
    ]
    told = [line for line in said if "bell" in line]
    assert told == [
        "warning: step 1: bell: it rings. Do this",
        "warning: step 2: still bell (0.5)",
        "step 3: no longer bell",
    ]


# Samples.


def test_equal_samples_are_found_whoever_drew_them():
    drawn = [Drawn(), Drawn()]
    same, other = torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.full((1, 1, 4, 4), 9, dtype=torch.uint8)
    drawn[0].add(torch.zeros(3, 4, dtype=torch.int64), same.expand(3, -1, -1, -1))
    drawn[1].add(torch.arange(8).view(2, 4), torch.cat([same, other]))
    found = variety(drawn)
    assert (found.count, found.distinct_grids, found.distinct_pictures, found.commonest) == (5, 3, 2, 4)
    assert found.variance == pytest.approx(torch.tensor([0, 0, 0, 0, 9 / 255]).double().var(correction=0))


def test_samples_that_are_alike_are_warned_of():
    noisy, sound = AutoregressiveSampling(), Variety(40, 40, 40, 1, 0.04)
    measured, unknown = Origin(health=Health(validation={"dependence": 0.5, "image_variance": 0.1})), Origin()
    assert collapse_warnings(sound, noisy, measured) == []
    assert collapse_warnings(Variety(40, 3, 3, 38, 0.0), noisy, unknown) == [
        "38 of 40 samples are the same picture. Train the generator for more steps, or on more images"
    ]
    alike = Variety(40, 3, 3, 38, 0.0)
    for sampling, advice in (
        (AutoregressiveSampling(temperature=0.2, top_k=3), "without --temperature and --top-k"),
        (AutoregressiveSampling(guidance_scale=12.0), "12 is much; --guidance 1.5"),
    ):
        assert advice in collapse_warnings(alike, sampling, unknown)[0]
    assert "30 different" in collapse_warnings(Variety(40, 35, 30, 2, 0.04), noisy, unknown)[0]
    assert "0.020 times" in collapse_warnings(Variety(40, 40, 40, 1, 0.001), noisy, measured)[0]
    assert collapse_warnings(Variety(40, 40, 40, 1, 0.001), noisy, measured, chosen=True) == []
    assert collapse_warnings(Variety(40, 40, 40, 1, 0.001), noisy, unknown) == []
    assert collapse_warnings(Variety(40, 10, 10, 4, 0.0), AutoregressiveSampling(temperature=0.0), measured) == []


def test_copies_are_warned_of_with_an_advice():
    run = Origin(run_config=json.loads(GeneratorRun().to_json()), training=Training(steps=500))
    scores = {
        "treatment": {"weights": "ema", "temperature": 1.0},
        "memorization": {"copy_share": 0.4, "num_unseen": 500},
    }
    (line,) = score_warnings(scores, run, Origin())
    assert "40% of the samples" in line and "generator.dropout=0.3" in line
    scores["memorization"] = {"copy_share": 0.4, "num_unseen": 99}  # too few to tell
    assert score_warnings(scores, run, Origin()) == []
    # Grey squares are nobody's copies.
    scores |= {"variety": vars(Variety(40, 1, 1, 40, 0.0)), "memorization": {"copy_share": 1.0, "num_unseen": 500}}
    (line,) = score_warnings(scores, run, Origin())
    assert line.startswith("40 of 40 samples are the same picture. ")


# Comparisons and studies.


def test_compare_shows_alarms(pair):
    from vistok.verbs.compare import alarm_lines

    assert alarm_lines(pair[0]) == []
    assert alarm_lines(with_alarms(pair[0], WASTED, BLIND)) == [
        "tokenizer ended with alarms: blind (0.01), codes_unused (0.02)"
    ]


def test_a_study_shows_alarms(tmp_path):
    import pandas as pd

    from conftest import REPOSITORY
    from vistok.study.findings.table import _alarms, alarm_sentence, read_table

    table = pd.DataFrame({
        "kind": ["tokenizer", "tokenizer", "generator", "generator"],
        "run": ["t", "u", "g", "h"],
        "tokenizer_run": ["t", "u", "t", "u"],
        "alarms": ["blind codes_unused", None, "memorises", ""],
    })  # fmt: skip
    table["alarms"] = _alarms(table)
    assert list(table.alarms) == ["blind codes_unused", "", "memorises tokenizer:blind tokenizer:codes_unused", ""]
    assert alarm_sentence(table) == (
        "1 of 2 tokenizers ended with alarms (blind 1, codes_unused 1); 1 of 2 generators ended with alarms (memorises 1)"
    )
    older = read_table(REPOSITORY / "results" / "fashion" / "runs.csv")  # of a version without alarms
    assert alarm_sentence(older) == ""
