"""A finished run -> its record: one row of the table, and what the row is too small for."""

import json
from typing import TYPE_CHECKING, Any

from vistok.engine.run_dir import RunDir, provenance
from vistok.runs.config import GeneratorRun, TokenizerRun

if TYPE_CHECKING:
    from vistok.metrics.protocol import Score
    from vistok.study.run.order import Order


def tokenizer_record(
    order: "Order", config: TokenizerRun, run: RunDir, scores: dict[str, Any], latents: dict[str, float]
) -> dict[str, Any]:
    """Return the record of a tokenizer."""
    row = {**_common(order, config, run), **tokenizer_columns(config), **_reconstruction_columns(scores), **latents}
    return _record(order, config, row, {"scores": scores}, run.path.name, run.read("provenance.json"))


def resized_record(
    order: "Order", trained: dict[str, Any], scores: dict[str, Any], latents: dict[str, float]
) -> dict[str, Any]:
    """Return the record of a tokenizer run at another image size; its cost is that of the `trained` record's run."""
    config = TokenizerRun.from_json(json.dumps(order.config))
    row = {
        **trained["row"],
        "run": order.run,
        "choice": order.choice,
        "image_size": order.image_size,
        **tokenizer_columns(config, order.image_size),
        **_reconstruction_columns(scores),
        **latents,
    }
    record = _record(order, config, row, {"scores": scores}, trained["directory"], provenance())
    return {**record, "weights": order.weights}


def _reconstruction_columns(scores: dict[str, Any]) -> dict[str, Any]:
    codebook = scores["codebook"]
    return {
        "psnr": scores["psnr"]["value"],
        "ssim": scores["ssim"]["value"],
        **_bounds("rfmd", _fidelity(scores, "r")),
        "codebook_usage": codebook["usage"],
        "entropy": codebook["entropy"],
        "position_entropy": scores["position_entropy"]["value"],
        "skewness": codebook["skewness"],
        "by_position": _numbers(codebook["position_entropy"]),
    }


def generator_record(
    order: "Order",
    config: GeneratorRun,
    run: RunDir,
    likelihood: dict[str, Any],
    guidance: dict[str, Any],
    distances: dict[float, "Score"],
    swaps: dict[str, float],
) -> dict[str, Any]:
    """Return the record of a generator; `distances` by guidance scale, 1 among them."""
    scale = guidance["guidance_scale"]
    row = {
        **_common(order, config, run),
        "tokenizer_run": order.tokenizer,
        "tokenizer_choice": order.tokenizer_choice,
        **tokenizer_columns(TokenizerRun.from_json(json.dumps(order.tokenizer_config)), order.image_size),
        "val_nats_per_token": likelihood["ema"]["nats_per_token"]["value"],
        "train_nats_per_token": likelihood["train"]["nats_per_token"]["value"],
        "bits_per_image": likelihood["ema"]["bits_per_image"]["value"],
        **_bounds("gfmd", distances[scale].model_dump(mode="json")),
        "gfmd_val": guidance["scores"][f"{scale:g}"]["value"],
        "guidance_scale": scale,
        "gfmd_unguided": distances[1.0].value,
        **swaps,
        "by_position": _numbers(likelihood["ema"]["position_nats"]),
    }
    scores = {f"{key:g}": score.model_dump(mode="json") for key, score in distances.items()}
    detail = {"guidance": guidance, "gfmd": scores}
    return _record(order, config, row, detail, run.path.name, run.read("provenance.json"))


def tokenizer_columns(config: TokenizerRun, image_size: int | None = None) -> dict[str, Any]:
    """Return what the table says of a tokenizer's config; without a regularizer its weight and layers are 0.

    `image_size`: of the images that it encodes, where not its own.
    """
    crt, network = config.crt, config.tokenizer
    if image_size is not None:
        network = network.replace(image_size=image_size)
    return {
        "codebook_size": network.quantizer.codebook_size,
        "num_tokens": network.num_tokens,
        "crt_weight": crt.full_weight if crt else 0.0,
        "crt_layers": crt.num_layers if crt else 0,
        "crt_variant": crt.variant if crt else "none",
    }


def _common(order: "Order", config: TokenizerRun | GeneratorRun, run: RunDir) -> dict[str, Any]:
    from vistok.runs.health.record import alarms_of

    finished, resolved = run.read("finished.json") or {}, run.read("resolved.json") or {}
    data = order.tokenizer_config["data"]
    return {
        "kind": order.kind,
        "run": order.run,
        "choice": order.choice,
        "data": data["dataset"],
        "image_size": order.image_size or data["image_size"],
        "seed": config.seed,
        "params": sum(resolved["params"].values()),
        "steps": finished["steps"],
        "train_flops": finished["train_flops"],
        "train_flops_paper": resolved["train_flops_paper"],
        "seconds": round(finished["seconds"], 1),
        "alarms": " ".join(alarm.name for alarm in alarms_of(run.path)),
    }


def _fidelity(scores: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the Fréchet score, whichever network's features it has."""
    return next(scores[name] for name in (f"{prefix}fmd", f"{prefix}fid") if name in scores)


def _bounds(name: str, score: dict[str, Any]) -> dict[str, Any]:
    """Return value and interval of a score as columns; Inception's distances stand under the same names."""
    return {name: score["value"], f"{name}_low": score["low"], f"{name}_high": score["high"]}


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _record(
    order: "Order", config: TokenizerRun | GeneratorRun, row: dict[str, Any], detail: dict[str, Any], directory: str,
    made: Any,
) -> dict[str, Any]:  # fmt: skip
    kept = json.loads(config.to_json())
    kept.pop("execution")
    return {
        "run": order.run,
        "row": row,
        "config": kept,
        "directory": directory,
        "provenance": made,
        "detail": detail,
    }
