"""A study's tables: what settles it in five rows, the tokenizers, and every cell beside the baseline."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from vistok.page.tables import Table, named
from vistok.study.findings.arms import Arms
from vistok.study.findings.claim_data import CELL, by_family, length_in_words, longest
from vistok.study.findings.effects import Effect, change, effect, effects_by_cell, per_seed
from vistok.study.findings.fit import PowerLaw
from vistok.study.findings.headline import GUIDED, headline
from vistok.study.findings.verdict import Claim, mean_of_seeds

# What an image costs its generator.
COSTS = ("calls", "flops_per_image", "ms_per_image")
MOST_ROWS = 5
# Of the tokenizers: column, heading, decimals, factor.
TOKENIZER_COLUMNS = (
    ("psnr", "PSNR (dB)", 2, 1), ("rfmd", "rFMD", 3, 1), ("codebook_usage", "codes used (%)", 1, 100), ("entropy", "entropy (bits)", 2, 1),
    ("position_entropy", "by position", 2, 1), ("skewness", "skewness", 3, 1), ("latent_variance", "latent variance", 4, 1),
    ("quantization_error", "distance to codes", 4, 1), ("seconds", "seconds", 0, 1),
)  # fmt: skip


def number(value: float, digits: int) -> str:
    """Return a number, or nothing for one that is not known."""
    return f"{value:,.{digits}f}" if value == value else ""


def mean(values: pd.Series) -> float:
    """Return the mean of what is known; not a number where nothing is."""
    return float(values.astype("Float64").astype(float).mean())


def top_table(tokenizers: pd.DataFrame, rows: pd.DataFrame, arms: Arms, claims: Sequence[Claim]) -> Table | None:
    """Return at most five rows: the baseline, then the arms that lower gFMD most."""
    effects = {name: effect(rows, arms.baseline, name, "gfmd") for name in arms.main if name != arms.baseline}
    order = sorted((found.found.value, name) for name, found in effects.items() if found)
    names = [name for name in arms.main if name == arms.baseline] + [name for _, name in order]
    if not names:
        return None
    families = [(family, of_family, longest(of_family)) for family, of_family in by_family(rows).items()]
    compute = {claim.claim.partition(" ")[2]: claim for claim in headline(claims, GUIDED)}
    shown = []
    for name in names[:MOST_ROWS]:
        row: list[str | Markup] = [
            named(arms.colour(name), arms[name]),
            plus_minus(tokenizers[tokenizers.choice == name].rfmd),
        ]
        for _, of_family, last in families:
            row += [plus_minus(last[last.tokenizer_choice == name].gfmd), _change_of(of_family, arms, name, "gfmd")]
        shown.append([*row, _change_of(rows, arms, name, "gfmd_unguided"), _saving(compute.get(name))])
    head = ["tokenizer", "rFMD"]
    for family, _, last in families:
        head += [
            f"gFMD ({last.choice.iloc[0]}, {length_in_words(last)})",
            f"to baseline, {family}" if len(families) > 1 else "gFMD to baseline",
        ]
    head += ["without guidance", "times less compute for equal gFMD"]
    kept = [i for i in range(len(head)) if i < 2 or any(row[i] for row in shown)]
    return Table([head[i] for i in kept], [[row[i] for i in kept] for row in shown])


def plus_minus(values: pd.Series) -> str:
    """Return a mean over seeds with half of its 95 % t-interval."""
    found = mean_of_seeds([float(value) for value in values.dropna()])
    if not found.n:
        return ""
    return number(found.value, 2) + (f" ± {found.high - found.value:.2f}" if found.n > 1 else "")


def _change_of(rows: pd.DataFrame, arms: Arms, name: str, column: str) -> str | Markup:
    return "" if name == arms.baseline else _change(effect(rows, arms.baseline, name, column))


def _change(found: Effect | None) -> str | Markup:
    """Return a change with its interval in small print."""
    if found is None:
        return ""
    value, _, interval = change(found).partition(" (")
    return Markup("{}{}").format(
        value, Markup(' <span class="quiet">{}</span>').format(interval.rstrip(")")) if interval else ""
    )


def _saving(claim: Claim | None) -> str:
    if claim is None or claim.effect is None:
        return ""
    ends = f" ({claim.low:.2f} to {claim.high:.2f})" if claim.low and claim.high else ""
    return f"{claim.effect:.2f}{ends}"


def tokenizer_table(rows: pd.DataFrame, arms: Arms) -> Table:
    """Return the tokenizers' scores, means over seeds, with the change of rFMD to the baseline's on the same seeds."""
    columns = [column for column in TOKENIZER_COLUMNS if rows[column[0]].notna().any()]
    shown: list[list[str | Markup]] = []
    for name in arms.all:
        runs = rows[rows.choice == name]
        found = per_seed(rows, arms.baseline, name, "rfmd", True) if name != arms.baseline else None
        values = [number(factor * mean(runs[column]), digits) for column, _, digits, factor in columns]
        at = 1 + [column for column, *_ in columns].index("rfmd") if rows.rfmd.notna().any() else 0
        values.insert(at, _change(found))
        shown.append([_with_choice(arms, name), str(len(runs)), *values])
    head = [label for _, label, *_ in columns]
    if "rFMD" in head:
        head.insert(1 + head.index("rFMD"), "rFMD to baseline")
    else:
        head.insert(0, "rFMD to baseline")
    return Table(["tokenizer", "seeds", *head], shown, dense=True)


def _with_choice(arms: Arms, name: str) -> Markup:
    """Return an arm's name, and how tables and claims call it."""
    own = Markup('<span class="quiet"><code>{}</code></span>').format(name) if arms[name] != name else ""
    return Markup("{}{}").format(named(arms.colour(name), arms[name]), own)


def _cells(rows: pd.DataFrame, arms: Arms) -> list[tuple[str, float, str, pd.DataFrame]]:
    """Return (generator, length, tokenizer choice, runs): small generators first, the baseline first in each cell."""
    order, size = {name: i for i, name in enumerate(arms.main)}, rows.groupby("choice").params.max()
    found = [
        (str(generator), float(length), str(name), runs)  # type: ignore[arg-type]
        for (generator, length, name), runs in rows.groupby([*CELL, "tokenizer_choice"])  # type: ignore[misc]
    ]
    return sorted(found, key=lambda cell: (int(size[cell[0]]), cell[0], cell[1], order.get(cell[2], len(order))))


def _beside(rows: pd.DataFrame, arms: Arms, column: str, ratio: bool = True) -> dict[tuple[str, str, float], Effect]:
    """Return the differences to the baseline by (tokenizer choice, generator, length)."""
    return {
        (name, *cell): found
        for name in arms.main
        if name != arms.baseline and column in rows
        for cell, found in effects_by_cell(rows, arms.baseline, name, column, ratio).items()
    }


def score_table(rows: pd.DataFrame, arms: Arms) -> Table:
    """Return each cell's gFMD with and without guidance, and how it differs from the baseline's."""
    guided, unguided = _beside(rows, arms, "gfmd"), _beside(rows, arms, "gfmd_unguided")
    shown: list[list[str | Markup]] = []
    for generator, length, name, runs in _cells(rows, arms):
        key = (name, generator, length)
        shown.append([
            generator, f"{int(runs.steps.iloc[0]):,}", named(arms.colour(name), arms[name]), str(len(runs)),
            number(mean(runs.gfmd), 2), f"{runs.gfmd.min():.2f} to {runs.gfmd.max():.2f}", _change(guided.get(key)),
            number(mean(runs.gfmd_unguided), 2), _change(unguided.get(key)), number(mean(runs.gfmd_val), 2),
            number(mean(runs.guidance_scale), 2),
        ])  # fmt: skip
    head = ["generator", "steps", "tokenizer", "seeds", "gFMD", "seeds' range", "to baseline", "unguided", "to baseline, unguided", "against held-out train", "guidance"]  # fmt: skip
    return Table(head, shown, words=(0, 2), dense=True)


def likelihood_table(rows: pd.DataFrame, arms: Arms) -> Table:
    """Return each cell's nats, what an image costs, and what a wrong token does."""
    beside = _beside(rows, arms, "val_nats_per_token", ratio=False)
    costs = [name for name in COSTS if name in rows and rows[name].notna().any()]
    shown: list[list[str | Markup]] = []
    for generator, length, name, runs in _cells(rows, arms):
        cost = {"calls": (1, 0), "flops_per_image": (1e-6, 1), "ms_per_image": (1, 2)}
        swap = mean(runs.swap_pixels)
        shown.append([
            generator, f"{int(runs.params.iloc[0]):,}", f"{int(runs.steps.iloc[0]):,}", named(arms.colour(name), arms[name]),
            number(mean(runs.val_nats_per_token), 3), _change(beside.get((name, generator, length))),
            number(mean(runs.val_nats_per_token - runs.train_nats_per_token), 3),
            *(number(cost[column][0] * mean(runs[column]), cost[column][1]) for column in costs),
            f"{swap:.2e}" if swap == swap else "", number(mean(runs.swap_features), 3),
        ])  # fmt: skip
    of_costs = {"calls": "calls an image", "flops_per_image": "MFLOPs an image", "ms_per_image": "ms an image"}
    head = ["generator", "parameters", "steps", "tokenizer", "nats per token", "to baseline", "held-out gap", *(of_costs[name] for name in costs), "wrong token: pixels", "features"]  # fmt: skip
    return Table(head, shown, words=(0, 3), dense=True)


def fit_table(fits: Sequence[Any], arms: Arms) -> Table:
    """Return the laws, with intervals."""
    shown: list[list[str | Markup]] = []
    for fit in fits:
        law: PowerLaw = fit.law
        shown.append([
            named(arms.colour(fit.tokenizer), arms[fit.tokenizer]), fit.value, fit.compute, fit.floor, number(law.alpha, 3),
            f"{law.alpha_low:.2f} to {law.alpha_high:.2f}", number(law.b, 2), number(law.l_min, 3),
            f"{law.l_min_low:.2f} to {law.l_min_high:.2f}", number(law.r2, 3), str(law.n),
        ])  # fmt: skip
    head = ["tokenizer", "value", "compute", "floor", "alpha", "alpha, 95 %", "b", "L_min", "L_min, 95 %", "R²", "n"]
    return Table(head, shown, words=(0, 1, 2, 3), dense=True)
