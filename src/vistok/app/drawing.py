"""Pictures from a generator, drawn exactly as `vistok sample` draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vistok.app.networks import Networks
from vistok.app.parts import download, folded, joined, quiet, said, to_copy
from vistok.app.wish import Wish, class_text, command_of, python_of
from vistok.errors import UserError, printable
from vistok.files import data_uri

MOST = 200  # pictures that a page shows at once


@dataclass(frozen=True)
class Drawn:
    """Pictures, uint8 (count, channels, height, width), their classes, and what else is told of them."""

    wish: Wish
    path: Path
    kind: str
    images: Any
    labels: list[int]
    class_names: Sequence[str]
    cost: str
    warnings: list[str]
    dead: bool

    def sheet(self) -> bytes:
        """Return the PNG that the command would write."""
        import torch

        from vistok.runs.pictures import png_bytes
        from vistok.verbs.sample_sheet import layout_of

        return png_bytes(layout_of(torch.tensor(self.labels), self.class_names).picture(self.images))

    def command(self) -> str:
        """Return the command that draws the same pictures."""
        return command_of(self.wish, self.kind, self.class_names, self.dead)

    def python(self) -> str:
        """Return the program that draws the same pictures."""
        return python_of(self.wish, self.kind, self.class_names, self.path)


def draw(wish: Wish, path: Path, networks: Networks) -> Drawn:
    """Draw what is wished from the generator at a path. Raises UserError where `vistok sample` does."""
    import torch

    from vistok.metrics.variety import Drawn as Seen
    from vistok.metrics.variety import variety
    from vistok.runs.drawing import Clock, cost_of, fitting_batch, make_sampler, sample_batches, usual_sampling
    from vistok.runs.health.sample_warnings import collapse_warnings
    from vistok.verbs.class_choice import chosen_labels

    if not 1 <= wish.count <= MOST:
        raise UserError(f"count {wish.count}: give 1 to {MOST}; vistok sample draws more")
    generator, decoder = networks.generator(path), networks.decoder(path)
    names, kind = generator.info.class_names, generator.config.kind
    if wrong := [number for number in wish.classes if number >= len(names)]:
        raise UserError(f"{wish.run} has no class number {wrong[0]}: it has {len(names)}")
    sampling = usual_sampling(generator, wish.sampling(kind))
    labels = chosen_labels([class_text(number, names) for number in wish.classes], names, wish.count)
    seen, clock = Seen(), Clock()
    batches = sample_batches(
        make_sampler(generator, sampling), decoder, labels, batch_size=fitting_batch(generator, sampling), drawn=seen,
        clock=clock,
    )  # fmt: skip
    images = torch.cat(list(batches))
    warnings = collapse_warnings(variety([seen]), sampling, decoder.info, bool(wish.classes))
    words, dead = health_of(path)
    cost = str(cost_of(generator, decoder, sampling, clock))
    return Drawn(wish, path, kind, images, labels.tolist(), names, cost, [*words, *warnings], dead)


def health_of(path: Path) -> tuple[list[str], bool]:
    """Return what there is to say of the alarms of a generator and its tokenizer, and whether one of them ended dead."""
    from vistok.runs.health.gate import require_alive

    words: list[str] = []
    try:
        require_alive(path, False, words.append)
    except UserError:
        words = []
        require_alive(path, True, words.append)
        return words, True
    return words, False


def pictures(drawn: Drawn, captions: Sequence[str] = ()) -> Markup:
    """Return the pictures, each with its class if there are several, or with captions of the caller's."""
    from vistok.runs.pictures import png_bytes, sheet

    several = len(drawn.class_names) > 1
    cells = []
    for number, label in enumerate(drawn.labels):
        uri = data_uri(png_bytes(sheet(drawn.images[number : number + 1], 1)))
        name = printable(drawn.class_names[label]) if several else ""
        below = captions[number] if captions else name
        cells.append(
            Markup('<figure><img class="pixels" src="{}" alt="{}"><figcaption>{}</figcaption></figure>').format(
                uri, name or f"sample {number}", below
            )
        )
    side = max(84, min(160, drawn.images.shape[-1]))
    return Markup('<div class="pictures" style="--side: {}px">{}</div>').format(side, joined(cells))


def told(drawn: Drawn) -> Markup:
    """Return the pictures with warnings, their cost, a link that saves them, and what draws the same."""
    return joined([
        *(said(line, "warn") for line in drawn.warnings),
        pictures(drawn),
        download(data_uri(drawn.sheet()), "samples.png", "Save the sheet"),
        quiet(drawn.cost),
        folded("The command and the Python that draw the same pictures", to_copy(drawn.command()), to_copy(drawn.python())),
    ])  # fmt: skip
