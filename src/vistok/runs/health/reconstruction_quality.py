"""What a validation measures on reconstructions, in one pass: fidelity, dependence on the image, codes, colours."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vistok.data.config import DataConfig
from vistok.data.images.sources import ImageSource
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.metrics.codebook import perplexity_share
from vistok.metrics.color import lab_errors
from vistok.metrics.reconstruction import IDENTICAL_DB
from vistok.metrics.spread import Spread
from vistok.nn.evaluation import in_evaluation
from vistok.tokenizer.interface import Tokenizer

EVAL_BATCH = 250


@dataclass(frozen=True)
class Baseline:
    """Facts about the images that reconstructions are compared with: mean picture, and variance (pixels in 0...1)."""

    mean_picture: UInt8[Tensor, "1 channels height width"]
    variance: float


def baseline_of(source: ImageSource, data: DataConfig) -> Baseline:
    """Compute the baseline in one pass over the images."""
    images = Spread()
    for batch in eval_images(source, data, EVAL_BATCH):
        images.add(to_uint8(batch["images"]))
    return Baseline(images.mean_picture(), images.variance())


@torch.inference_mode()
def reconstruction_quality(
    model: Tokenizer, source: ImageSource, data: DataConfig, device: torch.device, baseline: Baseline
) -> dict[str, float]:
    """Return measurements over the images; NaN where identical images, or a single one, leave them undefined.

    psnr: on uint8, per image, then averaged. psnr_over_mean: psnr minus the mean picture's. dependence: the
    reconstructions' variance over images, divided by that of the images. codebook_usage, code_perplexity: as shares of
    the codebook. lab_error, chroma_error: distances in Lab, for colour images.
    """
    with in_evaluation(model):
        mean_picture = baseline.mean_picture.to(device)
        psnr, gain, lab = [], [], []
        reconstructions = Spread()
        codes = model.space.codebook_size if model.space.kind == "tokens" else 0
        counts = torch.zeros(codes, dtype=torch.int64, device=device)
        for batch in eval_images(source, data, EVAL_BATCH):
            images = batch["images"].to(device)
            output = model(images)
            if codes:
                counts += torch.bincount(output.bottleneck.stored.flatten(), minlength=codes)
            fake, real = to_uint8(output.reconstruction), to_uint8(images)
            reconstructions.add(fake)
            psnr.append(_psnr(fake, real))
            gain.append(psnr[-1] - _psnr(mean_picture, real))
            if data.channels == 3:
                lab.append(torch.stack(lab_errors(fake, real)))
    varied = baseline.variance > 0
    values = {
        "psnr": float(torch.cat(psnr).mean()),
        "psnr_over_mean": float(torch.cat(gain).mean()) if varied else float("nan"),
        "dependence": reconstructions.variance() / baseline.variance if varied else float("nan"),
    }
    if codes:
        values["codebook_usage"] = float((counts > 0).float().mean())
        values["code_perplexity"] = perplexity_share(counts.cpu().numpy())
    if lab:
        values["lab_error"], values["chroma_error"] = torch.cat(lab, dim=1).mean(dim=1).tolist()
    return values


def _psnr(
    a: UInt8[Tensor, "_ channels height width"], b: UInt8[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch"]:
    error = a.float() - b.float()
    ratio = -10 * torch.log10(error.square().mean(dim=(1, 2, 3)).clamp(min=1e-10) / 255**2)
    return ratio.clamp(max=IDENTICAL_DB)
