"""How the arms compare, with intervals, and the demo's answer in words."""

import json
import math
from typing import Any

from vistok.demo.facts import dig
from vistok.demo.sizes import ARMS
from vistok.metrics.interval import Interval, t_interval
from vistok.metrics.protocol import Score

# What is compared between the arms: name -> path of the score in an arm's results.
COMPARED = {
    "gfmd_guided": ("generator", "scores", "guided", "gfmd"),
    "gfmd_off": ("generator", "scores", "off", "gfmd"),
    "nats_per_token": ("generator", "likelihood", "ema", "nats_per_token"),
    "psnr": ("tokenizer", "scores", "ema", "psnr"),
    "rfmd": ("tokenizer", "scores", "ema", "rfmd"),
}
# Distances of different pairs of tokenizers differ by factors, so their ratios are averaged; of the others, differences.
RATIOS = ("gfmd_guided", "gfmd_off", "rfmd")


def comparison(results: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return how a score with the regularizer compares with that without: a ratio or a difference, with its interval.

    One pair: a difference, whose interval is the sampling noise of the scored images alone (paired jackknife). Several: a
    paired t-interval over the pairs, of differences or of the logarithms of ratios.
    """
    pairs = []
    for result in results:
        baseline, crt = (Score.from_json(json.dumps(dig(result[arm], COMPARED[name]))) for arm in ARMS)
        pairs.append((baseline, crt))
    if len(pairs) == 1:
        interval = pairs[0][1].minus(pairs[0][0]).interval
        assert interval is not None  # the demo scores hundreds of images
        return _as_json(interval, "difference")
    if name not in RATIOS:
        return _as_json(t_interval([crt.value - baseline.value for baseline, crt in pairs]), "difference")
    logs = t_interval([math.log(crt.value / baseline.value) for baseline, crt in pairs])
    return {"value": math.exp(logs.value), "low": math.exp(logs.low), "high": math.exp(logs.high), "of": "ratio"}


def _as_json(interval: Interval, of: str) -> dict[str, Any]:
    return {"value": interval.value, "low": interval.low, "high": interval.high, "of": of}


def in_digits(found: dict[str, Any], digits: int) -> list[str]:
    """Return a comparison's value and the ends of its interval, as text."""
    values = (found[part] for part in ("value", "low", "high"))
    return [f"{value:.2f}" if found["of"] == "ratio" else f"{value:+.{digits}f}" for value in values]


def verdict(found: dict[str, Any], less: str, more: str, neither: str) -> str:
    """Return the phrase that a comparison deserves, by its interval."""
    same = 1.0 if found["of"] == "ratio" else 0.0
    return less if found["high"] < same else more if found["low"] > same else neither


def mean_of(results: list[dict[str, Any]], arm: str, path: tuple[str, ...]) -> float:
    """Return an arm's score, averaged over pairs."""
    values = [float(dig(result[arm], path)["value"]) for result in results]
    return sum(values) / len(values)


def answer(facts: dict[str, Any]) -> str:
    """Return the answer in two sentences, or three: what the intervals say, and no more."""
    results, found = facts["results"], facts["comparisons"]
    means = {name: [mean_of(results, arm, path) for arm in ARMS] for name, path in COMPARED.items()}
    opening = verdict(
        found["gfmd_guided"],
        "At equal training compute the causal regularizer made generation better",
        "At equal training compute the causal regularizer made generation worse",
        "These runs do not settle whether the causal regularizer helps generation",
    )
    several = len(results) > 1
    scope = f"over {len(results)} pairs of tokenizers" if several else "sampling noise only"
    guided, off = (_distances(means[name], found[name]) for name in ("gfmd_guided", "gfmd_off"))
    easier = verdict(found["nats_per_token"], "easier", "harder", "about as easy")
    worse = verdict(found["psnr"], "worse", "better", "about as good")
    limits = "" if several else " This is a single pair of runs: another training seed may differ by more."
    return (
        f"{opening}: with guidance gFMD is {guided}, without guidance {off} (95 % intervals, {scope}). Its tokens are {easier} "
        f"to predict ({_instead(means['nats_per_token'])} nats each, held out), and its reconstructions {worse} "
        f"({_instead(means['psnr'])} dB PSNR).{limits}"
    )


def _distances(means: list[float], found: dict[str, Any]) -> str:
    value, low, high = in_digits(found, 2)
    if found["of"] == "ratio":
        return f"{_instead(means)}, {value} times as large ({low} to {high})"
    return f"{_instead(means)}, a difference of {value} ({low} to {high})"


def _instead(means: list[float]) -> str:
    return f"{means[1]:.2f} instead of {means[0]:.2f}"
