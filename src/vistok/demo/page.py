"""The demo's page: the answer, samples of both arms and five rows; folded below them everything else."""

import json
from pathlib import Path
from typing import Any

from vistok.data.config import DataConfig
from vistok.demo import pictures
from vistok.demo.figures import COLOURS, NAMES, joined, per_position, position_maps, training_curves
from vistok.demo.scores import score_table, spread_sentence, stage_table, top_table
from vistok.demo.sizes import ARMS, SIZES, shipped_tokenizer
from vistok.page.render import render as render_page
from vistok.runs.config import TokenizerRun
from vistok.runs.load import load_tokenizer
from vistok.tokenizer.interface import Tokenizer


def render(facts: dict[str, Any], runs: Path, data: DataConfig) -> str:
    """Return the page for a demo's numbers; its pictures are drawn from the runs of the first seed."""
    results = facts["results"]
    shipped = SIZES[facts["size"]].tokenizers is None
    tokenizers = {
        arm: load_tokenizer(
            shipped_tokenizer(arm, facts["seeds"][0]) if shipped else runs / results[0][arm]["tokenizer_run"]
        )
        for arm in ARMS
    }
    live = facts["live"]
    return render_page(
        "vistok.demo",
        "demo.html.j2",
        facts=facts,
        arms=ARMS,
        names=NAMES,
        colours=COLOURS,
        top=top_table(facts),
        table=score_table(facts),
        stages=stage_table(facts),
        reconstructions=pictures.reconstructions(tokenizers, data),
        live=pictures.reconstructions({"live": load_tokenizer(runs / live["run"])}, data) if live else None,
        samples={arm: pictures.samples(results[0][arm], tokenizers[arm], runs) for arm in ARMS},
        copies={arm: pictures.copies(results[0][arm], tokenizers[arm], runs, data) for arm in ARMS},
        memory={arm: results[0][arm]["generator"]["scores"]["off"]["memorization"] for arm in ARMS},
        spread=spread_sentence(results),
        tokenizer=results[0]["baseline"]["tokenizer"],
        regularized=results[0]["crt"]["tokenizer"],
        trained=not shipped,
        per_position=per_position(results).figure(),
        position_maps=joined(position_maps(results, _sides(tokenizers["baseline"]))),
        training_curves=joined(training_curves(results)),
        protocol=results[0]["baseline"]["generator"]["scores"]["off"]["gfmd"]["protocol"],
        regularizer=TokenizerRun.from_json(json.dumps(tokenizers["crt"].info.run_config)).regularizer("causal"),
    )


def _sides(tokenizer: Tokenizer) -> tuple[int, int]:
    layout = tokenizer.space.layout
    assert layout.kind == "grid"
    return layout.sides
