"""Fréchet distances at every guidance scale, to held-out and to test images, in the features of one or two networks."""

from dataclasses import dataclass
from typing import Any

from vistok.metrics.features import FeatureExtractor
from vistok.metrics.protocol import Score
from vistok.rng import derive_seed
from vistok.runs.drawing import Clock, cost_of
from vistok.scoring.evaluate_generator import Against, Drawing, check_scoring, distances
from vistok.scoring.evaluators import second_evaluator
from vistok.scoring.guidance import at_the_edge
from vistok.scoring.scorer import Finished, Scored, Scorer, bounds, costs, pairs


class EveryScaleFidelity(Scorer):
    """The Fréchet distance of samples at all scales; the columns of a chosen scale hold the one best on held-out images."""

    of = "generator"

    def applies(self, run: Finished) -> bool:
        """Whether the study asks for all scales."""
        return run.asked.every_scale

    def score(self, run: Finished) -> Scored:
        """Draw once for each scale; `*_by_scale` hold distances with their bias removed, as `scale:distance`."""
        second = second_evaluator(run.stage2.data, run.extractor)
        extractors = (run.extractor, *([second] if second else []))
        found = {scale: _at(run, scale, extractors) for scale in run.asked.scales}
        best = min(found, key=lambda scale: found[scale].held_out.value)
        chosen = found[best]
        columns = {
            **bounds("gfmd", chosen.test.model_dump(mode="json")),
            "gfmd_val": chosen.held_out.value,
            "guidance_scale": best,
            "gfmd_unguided": found[1.0].test.value,
            "gfmd_by_scale": _by_scale({scale: at.test for scale, at in found.items()}),
            "gfmd_val_by_scale": _by_scale({scale: at.held_out for scale, at in found.items()}),
        }
        if second:
            columns["gfmd_second_by_scale"] = _by_scale({scale: at.tests[1] for scale, at in found.items()})
        sampling = run.stage2.sampling(guidance_scale=best)
        cost = cost_of(run.generator, run.tokenizer, sampling, chosen.clock)
        detail = {
            "guidance": {
                "guidance_scale": best,
                "at_the_edge": at_the_edge(best, found),
                "num_samples": run.asked.samples,
                "scores": _json({scale: at.held_out for scale, at in found.items()}),
            },
            "gfmd": _json({scale: at.test for scale, at in found.items()}),
            **({"gfmd_second": _json({scale: at.tests[1] for scale, at in found.items()})} if second else {}),
            "cost": cost.to_json(),
        }
        return Scored({**columns, **costs(cost)}, detail)


@dataclass(frozen=True)
class _AtScale:
    """The distances of one draw, to held-out images and, by network, to the test images; and the time that it took."""

    held_out: Score
    tests: tuple[Score, ...]
    clock: Clock

    @property
    def test(self) -> Score:
        """The distance to the test images in the first network's features."""
        return self.tests[0]


def _at(run: Finished, scale: float, extractors: tuple[FeatureExtractor, ...]) -> _AtScale:
    stage2, clock = run.stage2, Clock()
    against = [(run.extractor, "val"), *((extractor, "test") for extractor in extractors)]
    for extractor, split in against:
        check_scoring(stage2, Against((extractor,), split), run.asked.samples)
    plain = stage2.sampling()
    # Noise of its own for each scale: otherwise the errors of neighbouring scales would be alike, and the best look too good.
    seed = derive_seed(plain.seed, "every scale", f"{scale:g}") % 2**31
    sampling = plain.replace(guidance_scale=scale, seed=seed)
    drawing = Drawing(sampling, run.asked.samples, clock=clock)
    held_out, *tests = distances(stage2, against, drawing, run.progress)
    return _AtScale(held_out, tuple(tests), clock)


def _by_scale(scores: dict[float, Score]) -> str:
    return pairs(
        {scale: score.value if score.corrected is None else score.corrected for scale, score in scores.items()}
    )


def _json(scores: dict[float, Score]) -> dict[str, Any]:
    return {f"{scale:g}": score.model_dump(mode="json") for scale, score in scores.items()}
