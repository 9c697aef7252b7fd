"""A run's rows as charts: what is worth watching in the training of each kind of network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vistok.engine.log import Row, last_validation
from vistok.page.charts import Chart, Series


@dataclass(frozen=True)
class _Measured:
    """A held-out loss of a family without a likelihood, in all and along an axis ("NAME_at_0.25"): its names on charts."""

    name: str
    title: str
    unit: str
    along: str
    axis: str


_MATCHING = _Measured("matching_loss", "Matching loss", "squared error", "time", "time (0 noise, 1 data)")
_MASKED = _Measured("masked_loss", "Nats per masked token", "nats", "share masked", "share of tokens masked")


def charts_of(rows: Sequence[Row], kind: str) -> list[Chart]:
    """Return the charts that these rows of a kind of run fill, the most telling ones first."""
    train = [row for row in rows if row["kind"] == "train"]
    held_out = [row for row in rows if row["kind"] == "validation"]
    made = (build(train, held_out) for build in (*_FIRST.get(kind, ()), _losses, _gradients, _rate))
    return [chart for chart in made if not chart.empty]


def headline(rows: Sequence[Row], kind: str) -> str:
    """Return the last validation in a few figures: "PSNR 18.2 dB, 54 % of codes in use"; "" before the first.

    The one at step 0, of a network that has learned nothing yet, does not count.
    """
    last = last_validation([row for row in rows if row["step"] > 0])
    found = [words.format(last[name]) for name, words in _FIGURES.get(kind, ()) if name in last]
    if "codebook_usage" in last and (most := last.get("tokens_per_code", 1.0)) < 1:  # too few held-out tokens for all
        found.append(f"{most:.0%} at most, by so few images")
    return ", ".join(found)


def _series(
    rows: Sequence[Row], name: str, label: str, colour: int = 0, scale: float = 1.0, faint: bool = False
) -> Series:
    points = [(row["step"], scale * row[name]) for row in rows if name in row]
    return Series(label, [x for x, _ in points], [y for _, y in points], colour, faint=faint)


def _psnr(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    averaged, raw = _series(held_out, "psnr", "averaged weights"), _series(held_out, "psnr_raw", "raw weights", 1)
    return Chart("PSNR of held-out images (dB)", [averaged, raw], y_label="dB")


def _codes(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    used = _series(held_out, "codebook_usage", "codes in use", 0, 100)
    even = _series(held_out, "code_perplexity", "perplexity", 1, 100)
    return Chart("Codes of held-out images (% of the codebook)", [used, even], y_label="%")


def _proxy(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    right = _series(train, "autoencoder/proxy_accuracy", "most likely token is right", 0, 100)
    return Chart("Proxy's tokens (% of the places in training images)", [right], y_label="%")


def _variance(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    return Chart(
        "Variance of the latents", [_series(train, "autoencoder/latent_variance", "latents")], y_label="variance"
    )


def _colour(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    whole, hue = _series(held_out, "lab_error", "Lab"), _series(held_out, "chroma_error", "a and b alone", 1)
    return Chart("Colour error of held-out images (Lab units)", [whole, hue], y_label="Lab units")


def _regularizer(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    weight = _series(train, "autoencoder/crt_weight", "weight in force")
    explained = _series(train, "autoencoder/explained_share", "share explained by reconstructions", 1)
    return Chart("Causal regularizer", [weight, explained])


def _nats(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    lines = [
        _series(train, "generator/nats_per_token", "training images", 1),
        _series(held_out, "nats_per_token", "held-out images"),
    ]
    return Chart("Nats per token", [*lines, *_beside(lines, held_out)], y_label="nats")


def _beside(lines: Sequence[Series], held_out: Sequence[Row]) -> list[Series]:
    """Return what code frequencies alone give, beside lines of nats that are there."""
    alone = _series(held_out, "unigram_nats_per_token", "token frequencies alone", 7)
    return [alone] if any(line.xs for line in lines) else []


def _in_all(loss: _Measured) -> "_Build":
    def build(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
        lines = [
            _series(train, f"generator/{loss.name}", "training", 1),
            _series(held_out, loss.name, "held-out images"),
        ]
        beside = _beside(lines, held_out) if loss.unit == "nats" else []
        return Chart(loss.title, [*lines, *beside], y_label=loss.unit)

    return build


def _along(loss: _Measured) -> "_Build":
    """The last validation's loss along its axis, and the one at half of the training."""
    prefix = f"{loss.name}_at_"

    def build(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
        shown = [row for row in (held_out[len(held_out) // 2 :: max(1, len(held_out) // 2)])[-2:] if row["step"]]
        series = []
        for colour, row in enumerate(reversed(shown)):
            found = [name for name in row if name.startswith(prefix) and not name.endswith("_raw")]
            xs = sorted(float(name.removeprefix(prefix)) for name in found)
            series.append(Series(f"step {row['step']:,}", xs, [row[f"{prefix}{x:.2f}"] for x in xs], colour))
        title = f"Held-out {loss.title[0].lower()}{loss.title[1:]} by {loss.along}"
        return Chart(title, series, x_label=loss.axis, y_label=loss.unit)

    return build


def _drift(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    lines = [
        _series(held_out, "sample_spread", "deviation, of held-out latents"),
        _series(held_out, "sample_shift", "distance of means, in deviations", 1),
    ]
    return Chart("Samples against held-out latents", lines, y_label="ratio")


def _accuracy(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    return Chart("Accuracy on held-out images (%)", [_series(held_out, "accuracy", "held out", 0, 100)], y_label="%")


def _losses(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    names = dict.fromkeys(name for row in train for name in row if name.endswith("loss"))
    phases = {name.split("/")[0] for name in names}
    series = []
    for colour, name in enumerate(sorted(names, key=lambda name: not name.endswith("/loss"))):
        phase, _, term = name.partition("/")
        label = "total" if term == "loss" else term.removesuffix("_loss").replace("_", " ")
        series.append(_series(train, name, f"{phase}: {label}" if len(phases) > 1 else label, colour))
    positive = all(y > 0 for line in series for y in line.ys)
    return Chart("Training losses", series, y_label="loss", y_log=positive)


def _gradients(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    names = dict.fromkeys(name for row in train for name in row if "/grad_norm_" in name)
    series = [
        _series(train, name, name.partition("/grad_norm_")[2].replace("crt", "regularizer"), colour)
        for colour, name in enumerate(names)
    ]
    return Chart("Gradient norms", series, y_label="norm", y_log=all(y > 0 for line in series for y in line.ys))


def _rate(train: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    return Chart("Learning rate", [_series(train, "lr", "learning rate")])


_FIGURES: dict[str, tuple[tuple[str, str], ...]] = {
    "tokenizer": (("psnr", "PSNR {:.2f} dB"), ("codebook_usage", "{:.0%} of codes in use")),
    "generator": (
        ("nats_per_token", "{:.3f} nats per token held out"),
        ("matching_loss", "matching loss {:.4f} held out"),
        ("masked_loss", "{:.3f} nats per masked token held out"),
        ("sample_spread", "samples {:.3g} times as varied as held-out images"),
    ),
    "classifier": (("accuracy", "{:.1%} right on held-out images"),),
}
_Build = Callable[[Sequence[Row], Sequence[Row]], Chart]
_FIRST: dict[str, tuple[_Build, ...]] = {
    "tokenizer": (_psnr, _codes, _proxy, _variance, _colour, _regularizer),
    "generator": (_nats, _drift, *(build(loss) for loss in (_MATCHING, _MASKED) for build in (_in_all, _along))),
    "classifier": (_accuracy,),
}
