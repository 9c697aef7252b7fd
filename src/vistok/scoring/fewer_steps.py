"""Fréchet distances of samples in fewer steps, for families whose samples take a number of steps: what a cheaper image is worth."""

from vistok.runs.drawing import Clock, cost_of
from vistok.scoring.evaluate_generator import Drawing, choose_guidance, sample_distance
from vistok.scoring.scorer import Finished, Scored, Scorer


class FewerSteps(Scorer):
    """Samples at the chosen guidance in fewer steps than usual; each column holds `steps:value ...`."""

    of = "generator"

    def applies(self, run: Finished) -> bool:
        """Whether the study asks for it and the family takes steps."""
        return bool(run.asked.fewer_steps) and hasattr(run.stage2.sampling(), "steps")

    def score(self, run: Finished) -> Scored:
        """Draw once for each number of steps, and compare with the test images."""
        asked, stage2 = run.asked, run.stage2
        plain = stage2.sampling()
        # The scale that the usual number of steps chose; it is kept with the run.
        search = Drawing(plain, asked.search_samples)
        scale = choose_guidance(stage2, run.extractor, asked.scales, search, run.progress)["guidance_scale"]
        distances, flops, scores = {}, {}, {}
        for steps in asked.fewer_steps:
            clock, sampling = Clock(), plain.replace(guidance_scale=scale, steps=steps)
            drawing = Drawing(sampling, asked.samples, clock=clock)
            score = sample_distance(stage2, run.extractor, drawing, run.progress)
            distances[steps] = score.value
            flops[steps] = cost_of(run.generator, run.tokenizer, sampling, clock).flops_per_image
            scores[f"{steps}"] = score.model_dump(mode="json")
        columns = {"gfmd_by_steps": _text(distances), "flops_by_steps": _text(flops)}
        return Scored(columns, {"fewer_steps": scores})


def _text(values: dict[int, float]) -> str:
    return " ".join(f"{steps}:{value:.6g}" for steps, value in values.items())
