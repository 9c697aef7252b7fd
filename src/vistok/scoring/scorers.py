"""What a study measures on every run: the one place that lists its scores."""

from typing import Any

from vistok.generator.interface import HasNats
from vistok.runs.drawing import Clock, cost_of
from vistok.scoring.evaluate_generator import Drawing, sample_distance
from vistok.scoring.evaluate_likelihood import evaluate_likelihood
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.every_scale import EveryScaleFidelity
from vistok.scoring.fewer_steps import FewerSteps
from vistok.scoring.probe import LinearProbe
from vistok.scoring.scorer import Finished, Scored, Scorer, bounds, costs, numbers
from vistok.scoring.stability import Stability
from vistok.scoring.study_scores import HasLogits, latent_statistics, swap_cost


class Reconstruction(Scorer):
    """The quality of reconstructions, and the use of codes."""

    of = "tokenizer"

    def score(self, run: Finished) -> Scored:
        """Score the test images' reconstructions. Inception's distance goes under the same name as other networks'."""
        scores = evaluate_tokenizer(run.path, run.extractor, run.progress, root=run.root, image_size=run.image_size)
        columns = {
            "psnr": scores["psnr"]["value"],
            "ssim": scores["ssim"]["value"],
            **bounds("rfmd", next(scores[name] for name in ("rfmd", "rfid") if name in scores)),
            "by_position": "",
        }
        if "codebook" in scores:
            codebook = scores["codebook"]
            columns |= {
                "codebook_usage": codebook["usage"],
                "entropy": codebook["entropy"],
                "position_entropy": scores["position_entropy"]["value"],
                "skewness": codebook["skewness"],
                "by_position": numbers(codebook["position_entropy"]),
            }
        return Scored(columns, {"scores": scores})


class LatentSpread(Scorer):
    """How far latents lie from each other, and from what the decoder receives for them."""

    of = "tokenizer"

    def score(self, run: Finished) -> Scored:
        """Measure held-out train images."""
        return Scored({**latent_statistics(run.path, run.root, run.image_size)})


class HeldOutNats(Scorer):
    """The likelihood of held-out latents, for families that have one."""

    of = "generator"

    def applies(self, run: Finished) -> bool:
        """Whether the family has a likelihood."""
        return isinstance(run.generator, HasNats)

    def score(self, run: Finished) -> Scored:
        """Score both caches."""
        scores = evaluate_likelihood(run.path, run.caches["train"], run.caches["val"], run.progress, run.generator)
        return Scored(
            {
                "val_nats_per_token": scores["ema"]["nats_per_token"]["value"],
                "train_nats_per_token": scores["train"]["nats_per_token"]["value"],
                "bits_per_image": scores["ema"]["bits_per_image"]["value"],
                "by_position": numbers(scores["ema"]["position_nats"]),
            }
        )


class Fidelity(Scorer):
    """The Fréchet distance of samples: unguided, and at the guidance scale that is best on held-out train images."""

    of = "generator"

    def applies(self, run: Finished) -> bool:
        """Whether the study asks for the chosen scale alone."""
        return not run.asked.every_scale

    def score(self, run: Finished) -> Scored:
        """Choose the guidance scale, then draw samples, compare them with the test images, and measure their cost."""
        asked, clock, stage2, guidance = run.asked, Clock(), run.stage2, run.guidance
        plain = stage2.sampling()
        chosen = plain.replace(guidance_scale=guidance["guidance_scale"])
        distances = {
            sampling.guidance_scale: sample_distance(
                stage2, run.extractor, Drawing(sampling, asked.samples, clock=clock), run.progress
            )
            for sampling in (plain, chosen)
        }
        scores = {f"{scale:g}": score.model_dump(mode="json") for scale, score in distances.items()}
        scale = chosen.guidance_scale
        columns = {
            **bounds("gfmd", scores[f"{scale:g}"]),
            "gfmd_val": guidance["scores"][f"{scale:g}"]["value"],
            "guidance_scale": scale,
            "gfmd_unguided": distances[1.0].value,
            **costs(cost := cost_of(run.generator, run.tokenizer, chosen, clock)),
        }
        return Scored(columns, {"guidance": guidance, "gfmd": scores, "cost": cost.to_json()})


class SwapCost(Scorer):
    """What one wrong token costs, for families that predict logits over tokens."""

    of = "generator"

    def applies(self, run: Finished) -> bool:
        """Whether the family has logits over tokens."""
        return isinstance(run.generator, HasLogits)

    def score(self, run: Finished) -> Scored:
        """Swap one token in each of a sample of images."""
        return Scored({**swap_cost(run.path, run.extractor, run.root)})


SCORERS: list[Scorer] = [
    Reconstruction(), LatentSpread(), Stability(), HeldOutNats(), Fidelity(), EveryScaleFidelity(), FewerSteps(), SwapCost(),
    LinearProbe(),
]  # fmt: skip


def score_all(kind: str, run: Finished) -> Scored:
    """Return all scores for a kind of run, in the list's order."""
    columns: dict[str, Any] = {}
    detail: dict[str, Any] = {}
    for scorer in SCORERS:
        if scorer.of == kind and scorer.applies(run):
            scored = scorer.score(run)
            columns |= scored.columns
            detail |= scored.detail
    return Scored(columns, detail)
