"""A finished run -> its record: a row of the table, plus details that do not fit into a row."""

import json
from typing import TYPE_CHECKING, Any

from vistok.engine.run_dir import RunDir, provenance
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.space import Layout
from vistok.study.run.record import OTHERS
from vistok.tokenizer.regularizers.config import RegularizerConfig

if TYPE_CHECKING:
    from vistok.study.run.order import Order


def tokenizer_record(
    order: "Order", config: TokenizerRun, run: RunDir, scores: dict[str, Any], detail: dict[str, Any]
) -> dict[str, Any]:
    """Return the record of a tokenizer; `scores` become columns of its row."""
    row = {**_common(order, config, run), **tokenizer_columns(config), **scores}
    return _record(order, config, row, detail, run.path.name, run.read("provenance.json"))


def resized_record(
    order: "Order", trained: dict[str, Any], scores: dict[str, Any], detail: dict[str, Any]
) -> dict[str, Any]:
    """Return the record of a tokenizer used at another image size; its cost is that of the run in the record `trained`."""
    config = TokenizerRun.from_json(json.dumps(order.config))
    row = {
        **trained["row"],
        "run": order.run,
        "choice": order.choice,
        "image_size": order.image_size,
        **tokenizer_columns(config, order.image_size),
        **scores,
    }
    record = _record(order, config, row, detail, trained["directory"], provenance())
    return {**record, "weights": order.weights}


def generator_record(
    order: "Order", config: GeneratorRun, run: RunDir, scores: dict[str, Any], detail: dict[str, Any]
) -> dict[str, Any]:
    """Return the record of a generator; `scores` become columns of its row."""
    row = {
        **_common(order, config, run),
        "tokenizer_run": order.tokenizer,
        "tokenizer_choice": order.tokenizer_choice,
        **tokenizer_columns(TokenizerRun.from_json(json.dumps(order.tokenizer_config)), order.image_size),
        "by_position": "",
        **scores,
    }
    return _record(order, config, row, detail, run.path.name, run.read("provenance.json"))


def tokenizer_columns(config: TokenizerRun, image_size: int | None = None) -> dict[str, Any]:
    """Return the columns that describe a tokenizer's config; without a causal regularizer, its weight and layers are 0.

    `image_size`: size of the images to encode, if it differs from the tokenizer's. `other_regularizers` is there where there are any.
    """
    crt, network = config.regularizer("causal"), config.tokenizer
    if image_size is not None:
        network = network.at(image_size)
    return {
        "codebook_size": network.space.codebook_size if network.space.kind == "tokens" else None,
        "num_tokens": network.num_tokens,
        "layout": _in_words(network.layout),
        "crt_weight": crt.full_weight if crt else 0.0,
        "crt_layers": crt.num_layers if crt else 0,
        "crt_variant": crt.variant if crt else "none",
        **({OTHERS: others} if (others := other_regularizers(config)) else {}),
    }


def other_regularizers(config: TokenizerRun) -> str:
    """Return the regularizers besides the causal one, each with what differs from its defaults."""
    return ", ".join(_told(part) for part in config.regularizers if part.kind != "causal")


def _told(part: RegularizerConfig) -> str:
    fields = type(part).model_fields
    changed = {
        name: getattr(part, name) for name in fields if getattr(part, name) != fields[name].default and name != "kind"
    }
    more = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in changed.items()
    )
    return f"{part.kind} ({more})" if more else part.kind


def _in_words(layout: Layout) -> str:
    """Return how latents lie: "7x7" (height of all frames x width) for a grid, "line" for a line."""
    return f"{layout.frames * layout.height}x{layout.width}" if layout.kind == "grid" else layout.kind


def _common(order: "Order", config: TokenizerRun | GeneratorRun, run: RunDir) -> dict[str, Any]:
    from vistok.runs.health.gate import alarms_of

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
