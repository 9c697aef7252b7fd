"""vistok import, vistok export: checkpoints of other projects."""

from pathlib import Path
from typing import Annotated

import typer

from vistok.cli.options import Weights, checked_weights, say

import_app = typer.Typer(
    help="Turn checkpoints of other projects into run directories. No code in them is run.", no_args_is_help=True
)
export_app = typer.Typer(help="Write networks for other projects.", no_args_is_help=True)

Checkpoint = Annotated[Path, typer.Argument(help="The checkpoint: .pt, .ckpt or .safetensors.")]
Out = Annotated[Path, typer.Option(help="Run directory to write.")]


@import_app.command("llamagen")
def import_llamagen(
    file: Checkpoint,
    out: Out,
    tokenizer: Annotated[
        Path | None, typer.Option(help="For a generator: its tokenizer, imported or trained before.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side; default: what the file says, else 256.")
    ] = None,
) -> None:
    """Import VQ-16, VQ-8, or a class-conditional GPT-B ... GPT-3B of LlamaGen."""
    from vistok.interop.llamagen import import_llamagen as run

    say(f"{run(file, out, tokenizer, image_size)}, in {out}")


@import_app.command("taming")
def import_taming(file: Checkpoint, config: Annotated[Path, typer.Option(help="The VQGAN's .yaml.")], out: Out) -> None:
    """Import a VQGAN of taming-transformers."""
    from vistok.interop.taming import import_taming as run

    say(f"{run(file, config, out)}, in {out}")


@export_app.command("llamagen")
def export_llamagen(
    network: Annotated[Path, typer.Argument(help="Run directory (or exported file) of a tokenizer or generator.")],
    out: Annotated[Path, typer.Option(help="File to write: .pt or .safetensors.")],
    weights: Weights = "ema",
) -> None:
    """Write a tokenizer or a generator for LlamaGen's code."""
    from vistok.interop.llamagen import export_llamagen as run

    say(f"{run(network, out, checked_weights(weights))} in {out}")
