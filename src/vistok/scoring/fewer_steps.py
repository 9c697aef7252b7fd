"""Fréchet distances of samples in fewer steps, for families whose samples take a number of steps: what a cheaper image is worth."""

from vistok.runs.drawing import cost_of
from vistok.scoring.evaluate_generator import Drawing, sample_distance
from vistok.scoring.scorer import Finished, Scored, Scorer, pairs


class FewerSteps(Scorer):
    """Samples at the chosen guidance in fewer steps than usual; each column holds `steps:value ...`."""

    of = "generator"

    def applies(self, run: Finished) -> bool:
        """Whether the study asks for it and the family takes steps."""
        return bool(run.asked.fewer_steps) and hasattr(run.stage2.sampling(), "steps")

    def score(self, run: Finished) -> Scored:
        """Draw once for each number of steps, and compare with the test images."""
        plain = run.stage2.sampling(guidance_scale=run.guidance["guidance_scale"])
        distances: dict[float, float] = {}
        flops: dict[float, float] = {}
        scores = {}
        for steps in run.asked.fewer_steps:
            drawing = Drawing(plain.replace(steps=steps), run.asked.samples)
            score = sample_distance(run.stage2, run.extractor, drawing, run.progress)
            distances[steps] = score.value
            flops[steps] = cost_of(run.generator, run.tokenizer, drawing.sampling, drawing.clock).flops_per_image
            scores[f"{steps}"] = score.model_dump(mode="json")
        columns = {"gfmd_by_steps": pairs(distances), "flops_by_steps": pairs(flops)}
        return Scored(columns, {"fewer_steps": scores})
