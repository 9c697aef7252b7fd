"""A comparison of runs: rows of scores that may be compared, as text, JSON and CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from string import ascii_uppercase
from typing import Any

from vistok.metrics.protocol import Protocol, Score, Treatment

# Metrics, by how their names end, of which more or less is better; of others neither is.
HIGHER = ("psnr (db)", "ssim", "accuracy", "precision", "recall", "inception score")
LOWER = ("fmd", "fid", "kmd", "kid", "nats per token", "bits per image")
BETTER = (
    "* better: its paired difference from every other score in its line excludes 0 (95 %). That is the noise of the images "
    "alone; another seed of training may turn it"
)


@dataclass(frozen=True)
class Difference:
    """A run's score minus that of the run it is compared with, with the 95 % interval of the paired difference."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, score: Score, other: Score) -> "Difference":
        """Return score - other, of one protocol."""
        found = score.minus(other)
        bounds = found.interval
        return cls(found.value) if bounds is None else cls(found.value, bounds.low, bounds.high)

    @property
    def settled(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Row:
    """Scores of one metric and protocol: one for each run, or None.

    `differences` are from the first run that has the score, whose own is None. `better` is the index of the run whose score
    is better than every other one, judged by the intervals of the differences; None where that is not settled.
    """

    protocol: Protocol
    scores: tuple[Score | None, ...]
    differences: tuple[Difference | None, ...]
    better: int | None

    @property
    def metric(self) -> str:
        """The metric's name, as in "PSNR (dB)"."""
        return self.protocol.metric

    @property
    def treatments(self) -> tuple[Treatment | None, ...]:
        """How each run's images were made."""
        return tuple(None if score is None else score.treatment for score in self.scores)

    @property
    def treatment(self) -> str:
        """How the images were made, in words; where the runs differ, by their letters."""
        ways: dict[str, list[str]] = {}
        for letter, way in zip(letters(len(self.scores)), self.treatments, strict=True):
            if way is not None:
                ways.setdefault(str(way), []).append(letter)
        if len(ways) == 1:
            return next(iter(ways))
        return "; ".join(f"{', '.join(runs)}: {way}" for way, runs in ways.items())

    @property
    def images(self) -> str:
        """What was scored against what, in words."""
        protocol, count = self.protocol, f"{self.protocol.num_samples:,}"
        if protocol.reference == "none":
            return f"{count} samples"
        if not protocol.metric.startswith("g") and protocol.num_reference == protocol.num_samples:
            return f"{count} images of {protocol.reference}"
        against = f"{protocol.num_reference:,} of " if protocol.num_reference else "the statistics in "
        return f"{count} images against {against}{protocol.reference}"

    @property
    def label(self) -> str:
        """The metric, with the network whose features it is measured in."""
        return self.metric if self.protocol.extractor == "none" else f"{self.metric} ({self.protocol.extractor})"

    @property
    def digits(self) -> int:
        """Decimals that are worth printing."""
        largest = max(abs(score.value) for score in self.scores if score is not None)
        return 4 if largest < 10 else 3 if largest < 100 else 2


@dataclass(frozen=True)
class Comparison:
    """Runs (as they were named) with the rows that they can be compared by, and notes.

    `notes`: what was not compared and why, what an image costs, and the alarms that runs ended with.
    """

    runs: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def lines(self, width: int | None = None) -> list[str]:
        """Return the comparison as text, with a legend instead of long names.

        Runs are columns where that fits into so many characters (None: any number), else lines.
        """
        names = letters(len(self.runs))
        text = [f"{letter} = {run}" for letter, run in zip(names, self.runs, strict=True)]
        wide = [line for group in self._groups() for line in ("", group[0], *_table(group[1], names))]
        fits = width is None or max(map(len, wide)) <= width
        narrow = [line for group in self._groups() for line in ("", group[0], *_blocks(group[1], names))]
        text += wide if fits else narrow
        if any(row.better is not None for row in self.rows):
            text += ["", BETTER]
        return [*text, *(["", *self.notes] if self.notes else [])]

    def _groups(self) -> list[tuple[str, list[Row]]]:
        """Return the rows by what was scored and how its images were made, each group with a heading."""

        def heading(row: Row) -> str:
            return f"{row.images}; {row.treatment}"

        order = list(dict.fromkeys(map(heading, self.rows)))
        rows = sorted(self.rows, key=lambda row: order.index(heading(row)))
        return [(words, list(group)) for words, group in groupby(rows, heading)]

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {"runs": list(self.runs), "rows": [_row_json(row) for row in self.rows], "notes": list(self.notes)}

    def as_csv(self) -> str:
        """Return the comparison as CSV: a line for each score of each run."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([
            "run", "metric", "value", "low", "high", "difference", "difference_low", "difference_high", "better", "treatment",
            "evaluator", "reference", "num_reference", "num_samples",
        ])  # fmt: skip
        for row in self.rows:
            protocol = row.protocol
            of_all = (protocol.extractor, protocol.reference, protocol.num_reference, protocol.num_samples)
            for number, (run, score, difference) in enumerate(zip(self.runs, row.scores, row.differences, strict=True)):
                if score is None:
                    continue
                parts = (difference.value, difference.low, difference.high) if difference else (None, None, None)
                numbers = (score.value, score.low, score.high, *parts)
                writer.writerow([run, row.metric, *numbers, int(number == row.better), score.treatment, *of_all])
        return text.getvalue()


def letters(count: int) -> list[str]:
    """Return a short name for each run: A, B, ... Z, A2, B2, ..."""
    return [f"{ascii_uppercase[i % 26]}{i // 26 + 1 if i >= 26 else ''}" for i in range(count)]


def direction(metric: str) -> int:
    """Return 1 if more of a metric is better, -1 if less is, 0 if neither is."""
    name = metric.lower()
    return 1 if name.endswith(HIGHER) else -1 if name.endswith(LOWER) else 0


def _row_json(row: Row) -> dict[str, Any]:
    scores = [score and {"value": score.value, "low": score.low, "high": score.high} for score in row.scores]
    return {
        "metric": row.metric,
        "protocol": row.protocol.model_dump(mode="json"),
        "treatments": [way and way.model_dump(mode="json") for way in row.treatments],
        "scores": scores,
        "differences": [difference and vars(difference) for difference in row.differences],
        "better": row.better,
    }


def _table(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return rows as lines of a table: the metric, a column for each run, and one for each difference."""
    first = [next(i for i, score in enumerate(row.scores) if score is not None) for row in rows]
    against = names[first[0]] if len(set(first)) == 1 else "first"
    others = [i for i in range(len(names)) if any(row.differences[i] is not None for row in rows)]
    head = ["", *names, *(f"{names[i]} - {against} (95 %)" for i in others)]
    cells = [
        [f"  {row.label}", *(_cell(row, i) for i in range(len(names))), *(_difference(row, i) for i in others)]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *cells]) for column in range(len(head))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *cells]
    ]


def _blocks(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return rows as blocks of lines, one line for each run."""
    lines = []
    for row in rows:
        lines.append(f"  {row.label}")
        for i, name in enumerate(names):
            if row.scores[i] is not None:
                lines.append(f"    {name:<3} {_cell(row, i):<20} {_difference(row, i)}".rstrip())
    return lines


def _cell(row: Row, number: int) -> str:
    score = row.scores[number]
    if score is None:
        return "  -"
    mark, as_text = "*" if row.better == number else " ", f"z.{row.digits}f"
    half = "" if score.low is None or score.high is None else f" ± {format((score.high - score.low) / 2, as_text)}"
    return f"{mark} {format(score.value, as_text)}{half}"


def _difference(row: Row, number: int) -> str:
    difference = row.differences[number]
    if difference is None:
        return ""
    as_text = f"+z.{row.digits}f"
    value = format(difference.value, as_text)
    if difference.low is None or difference.high is None:
        return value
    return f"{value} ({format(difference.low, as_text)} to {format(difference.high, as_text)})"
