"""The model card of a network on the Hugging Face Hub: what it is, its scores and protocols, and how to use it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vistok.config import C
from vistok.errors import UserError
from vistok.metrics.protocol import Score, Treatment
from vistok.runs.headers import GeneratorHeader, RunFacts, check_header
from vistok.scoring.evaluations import SCHEMA, read_evaluation

EVALUATIONS = "evaluations"

NAMES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "rfid": "rFID",
    "rfmd": "rFMD",
    "gfid": "gFID",
    "gfmd": "gFMD",
    "gsfid": "gsFID",
    "rkid": "rKID",
    "rkmd": "rKMD",
    "gkid": "gKID",
    "gkmd": "gKMD",
}


def evaluation_files(run: Path) -> list[Path]:
    """Return the evaluation files of a run; a weights file has none."""
    return sorted(path for path in (run / EVALUATIONS).glob("*.json") if path.is_file())


def current_evaluation(file: Path) -> dict[str, Any] | None:
    """Return an evaluation, or None where it is of another version; raises UserError where it was damaged or edited."""
    evaluation = read_evaluation(file)
    if evaluation.get("schema_version") != SCHEMA:
        return None
    # Fields with defaults may be missing from the file.
    scores = {
        name: Score.read(part) for name, part in evaluation.items() if isinstance(part, dict) and "protocol" in part
    }
    return evaluation | {name: score.model_dump(mode="json") for name, score in scores.items()}


def parsed(kind: type[C], value: Any) -> C:
    """Return a config from values in a file; raises ValueError naming the first problem."""
    try:
        return kind.from_json(json.dumps(value))
    except UserError as error:
        raise ValueError(str(error).splitlines()[0]) from None


def evaluations_in(run: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return a run's evaluations of this version, with their files; raises UserError where one is damaged."""
    pairs = ((file, current_evaluation(file)) for file in evaluation_files(run))
    return [(file, evaluation) for file, evaluation in pairs if evaluation is not None]


def of_network(evaluation: dict[str, Any], header: dict[str, Any]) -> bool:
    """Whether an evaluation scored exactly these weights, not the run's raw (or averaged) ones."""
    kind = header["model"]
    return evaluation.get("kind") == kind and evaluation.get(f"{kind}_digest") == header["digest"]


def scores_of(evaluations: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, score) of every score that has a protocol."""
    for evaluation in evaluations:
        for key, score in evaluation.items():
            if isinstance(score, dict) and "protocol" in score:
                yield NAMES.get(key, key.replace("_", " ")), score


def _family(header: dict[str, Any]) -> str:
    return str(header["config"].get("kind", "autoregressive"))


def card(repo_id: str, header: dict[str, Any], params: int, evaluations: Sequence[dict[str, Any]]) -> str:
    """Return the contents of README.md: metadata for the hub, then text."""
    kind = header["model"]
    return "\n".join([
        "---",
        _metadata(repo_id, header, evaluations).strip(),
        "---",
        "",
        f"# {repo_id.split('/')[-1]}",
        "",
        *_description(header, params),
        "",
        *_score_table(evaluations),
        "",
        "## Use",
        "",
        *_usage(repo_id, kind),
        "",
        f"Weights digest `{header['digest']}`; the config is in `config.json` and inside `model.safetensors`.",
        "",
    ])  # fmt: skip


def _metadata(repo_id: str, header: dict[str, Any], evaluations: Sequence[dict[str, Any]]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    kind = header["model"]
    task = "unconditional-image-generation" if kind == "generator" else "image-feature-extraction"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=header["dataset"],
            dataset_name=score["protocol"]["reference"],
            metric_type=name.lower().replace(" ", "_"),
            metric_name=name,
            metric_value=round(score["value"], 4),
            metric_config=str(score["protocol"]["estimator"]),
        )
        for name, score in scores_of(evaluations)
    ]
    data = ModelCardData(
        library_name="vistok",
        pipeline_tag=task,
        tags=["vistok", "image-tokenizer" if kind == "tokenizer" else f"{_family(header)}-image-generation"],
        model_name=repo_id.split("/")[-1] if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def regularized(run: RunFacts) -> str:
    """Return a phrase that tells how a tokenizer was regularized."""
    causal = [part.variant for part in (*([run.crt] if run.crt else []), *run.regularizers) if part.kind == "causal"]
    others = [part.kind for part in run.regularizers if part.kind != "causal"]
    names = [*(f"the causal regularizer (arXiv 2412.16326, {variant})" for variant in causal), *others]
    return f"with {' and '.join(names)}" if names else "without a regularizer"


def _description(header: dict[str, Any], params: int) -> list[str]:
    checked = check_header(header, Path("this file"))
    if isinstance(checked, GeneratorHeader):
        what = (
            f"A generator of {params:,} parameters ({checked.config.kind}): {checked.space}, {checked.num_classes} classes. "
            "Its tokenizer is in `tokenizer/`."
        )
    else:
        how = regularized(RunFacts.of(checked))
        what = f"An image tokenizer of {params:,} parameters, trained {how}."
    facts = {
        "recipe": header["recipe"],
        "data": header["dataset"],
        "weights": header.get("weights", "ema"),
        **{
            name: header["training"][name] for name in ("steps", "train_flops", "seconds") if name in header["training"]
        },
    }
    return [what, "", *(f"- {name.replace('_', ' ')}: {value}" for name, value in facts.items())]


def _score_table(evaluations: Sequence[dict[str, Any]]) -> list[str]:
    """List each score with its protocol and treatment, since scores of other protocols cannot be compared with it."""
    rows = []
    for name, score in scores_of(evaluations):
        p, treatment = score["protocol"], score["treatment"]
        bounds = "" if score["low"] is None else f" ({score['low']:.4g} to {score['high']:.4g})"
        made = str(Treatment.from_json(json.dumps(treatment)))
        network = "" if p["extractor"] == "none" else f"; features of {p['extractor']} ({p['extractor_digest'][:12]})"
        rows.append(
            f"| {name} | {score['value']:.4g}{bounds} | {p['num_samples']:,} images against {p['num_reference']:,} of "
            f"{p['reference']}{network}; {p['estimator']}; resize {p['resize']}; {p['rounding']} | {made} |"
        )
    if not rows:
        return ["No scores yet: run `vistok evaluate` to get some."]
    return ["## Scores", "", "| score | value (95 %) | protocol | treatment |", "|---|---|---|---|", *rows]


def _usage(repo_id: str, kind: str) -> list[str]:
    verb = "sample RUN --out samples" if kind == "generator" else "reconstruct IMAGE --tokenizer RUN"
    use = (
        "tokens = network.sample(labels)  # class numbers"
        if kind == "generator"
        else "tokens = network.encode(images)  # images in [-1, 1], (batch, channels, height, width)"
    )
    return [
        "```",
        "pip install 'vistok[hub]'",
        f"vistok import hub {repo_id} --out RUN",
        f"vistok {verb}",
        "```",
        "",
        "```python",
        "from vistok import from_pretrained",
        "",
        f'network = from_pretrained("{repo_id}")',
        use,
        "```",
    ]
