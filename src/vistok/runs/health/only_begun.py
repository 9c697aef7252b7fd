"""Runs without an alarm that have only begun to learn: what they are still close to, in words."""

from collections.abc import Sequence

from vistok.engine.log import Row, last_validation
from vistok.runs.health.alarms import ALIKE, LONG

GAIN_OF_ALIKE = 1.0  # dB over the mean of images that hardly differ from it
GAIN = 3.0  # dB over the mean of all images; below it there are patches of colour where things should be
# Of the matching loss of a network that takes data for noise; trained flows of Fashion-MNIST end at a fifth to a quarter of it
# (results/continuous), and at three quarters samples are still noise.
MATCHED = 0.7
# Of the way from guessing to always right.
TOLD = 0.2
# Of the nats of code frequencies, by which held-out tokens are likelier. At 0.05 samples of emoji are noise (at 0.03 those of a masked
# generator); of Fashion-MNIST's recorded runs the least has 0.18, and a masked generator had 0.14 after 50 steps.
GAINED = 0.1
EMPTY = 0.1  # nats per token: below this there is nothing to gain


def has_only_begun(rows: Sequence[Row]) -> str:
    """Say how little the last validation differs from that of a network that knows nothing; empty if by much.

    Of tokenizers, classifiers and all families of generators.
    """
    last = last_validation(rows)
    gain = last.get("psnr_over_mean", GAIN)
    alike = last.get("psnr", 0.0) - gain > ALIKE  # whose mean is hard to beat
    if gain < (GAIN_OF_ALIKE if alike else GAIN):
        return f"{gain:.1f} dB closer to the picture than the mean of all pictures"
    blind, matching = last.get("blind_matching_loss"), last.get("matching_loss")
    if blind is not None and matching is not None and (share := matching / blind) > MATCHED:
        return f"{share:.0%} of the loss of a network that takes data for noise"
    nats, unigram = last.get("nats_per_token", last.get("masked_loss")), last.get("unigram_nats_per_token", 0.0)
    if nats is not None and unigram > EMPTY and (gained := 1 - nats / unigram) < GAINED:
        than = f"{gained:.0%} less than" if gained > 0 else "no less than"
        return f"{nats:.3f} nats a token, {than} code frequencies alone give"
    if "chance" in last and last["accuracy"] - last["chance"] < TOLD * (1 - last["chance"]):
        return f"{last['accuracy']:.0%} of held-out images are told right, where guessing gives {last['chance']:.0%}"
    return ""


def longer(steps: int) -> str:
    """Return what to do about a run of so many steps that has only begun to learn."""
    if steps < LONG:
        return "Train it longer."
    return f"It has had {steps:,} steps, as many as the recipes: look at its page before training it longer."


def not_judged(rows: Sequence[Row]) -> bool:
    """Whether a tokenizer's held-out pictures do not differ, as a single one does not: no gain over their mean is known."""
    last = last_validation(rows)
    return "psnr" in last and "psnr_over_mean" not in last
