"""vistok import, vistok export: checkpoints from and for other projects."""

from pathlib import Path
from typing import Annotated

import typer

from vistok.cli.commands import App
from vistok.cli.options import (
    A_TOKENIZER,
    Anyway,
    TokenizerPath,
    Weights,
    checked_weights,
    path,
    place,
    require_alive,
    run_of,
    say,
)

import_app = App(help="Turn other projects' checkpoints into run directories, without running any code in them.")
export_app = App(help="Write networks for use in other projects.")

Checkpoint = Annotated[Path, typer.Argument(parser=path, help="The checkpoint: .pt, .ckpt or .safetensors.")]
Out = Annotated[Path, typer.Option(parser=path, help="Run directory to write.")]
ImageSize = Annotated[
    int | None, typer.Option(help="Pixels per side; default: as stated in the file or its name, else 256.")
]

Heads = Annotated[int | None, typer.Option(min=1, help="Attention heads, for other widths than S, B, L, XL.")]
Classes = Annotated[
    int | None,
    typer.Option(
        "--classes",
        min=1,
        help="Number of classes; default: the rows of the file's table, less one for no class unless there are 1,000.",
    ),
]


@import_app.command("llamagen")
def import_llamagen(
    file: Checkpoint,
    out: Out,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            parser=run_of("tokenizer"),
            metavar="RUN",
            help="For a generator: its tokenizer, already imported or trained.",
        ),
    ] = None,
    image_size: ImageSize = None,
) -> None:
    """Import LlamaGen's VQ-16, VQ-8, or one of its class-conditional generators GPT-B ... GPT-3B."""
    from vistok.interop.llamagen import import_llamagen as run

    say(f"{run(file, out, tokenizer, image_size)}, in {out}")


@import_app.command("taming")
def import_taming(
    file: Checkpoint, config: Annotated[Path, typer.Option(parser=path, help="The autoencoder's .yaml.")], out: Out
) -> None:
    """Import a VQGAN or KL autoencoder of taming, latent-diffusion or VA-VAE, even from inside a larger checkpoint."""
    from vistok.interop.taming import import_taming as run

    say(f"{run(file, config, out)}, in {out}")


@import_app.command("diffusers")
def import_diffusers(
    folder: Annotated[
        Path,
        typer.Argument(parser=path, help="Folder of a VQModel or AutoencoderKL, or of a pipeline that contains one."),
    ],
    out: Out,
    image_size: Annotated[int | None, typer.Option(help="Pixels per side; default: the config's sample_size.")] = None,
) -> None:
    """Import a VQModel or AutoencoderKL from diffusers."""
    from vistok.interop.diffusers import import_diffusers as run

    say(f"{run(folder, out, image_size)}, in {out}")


@import_app.command("lightningdit")
def import_lightningdit(
    file: Checkpoint,
    out: Out,
    tokenizer: Annotated[
        Path, typer.Option(parser=run_of("tokenizer"), metavar="RUN", help="Its VA-VAE, already imported.")
    ],
    statistics: Annotated[Path, typer.Option(parser=path, help="latents_stats.pt: each channel's mean and deviation.")],
    num_heads: Heads = None,
    multiplier: Annotated[float, typer.Option(help="latent_multiplier in its config.")] = 1.0,
    classes: Classes = None,
) -> None:
    """Import a generator of LightningDiT."""
    from vistok.interop.lightningdit import import_lightningdit as run

    say(f"{run(file, out, tokenizer, statistics, num_heads, multiplier, classes)}, in {out}")


@import_app.command("dit")
def import_dit(
    file: Checkpoint,
    out: Out,
    tokenizer: Annotated[
        Path,
        typer.Option(parser=run_of("tokenizer"), metavar="RUN", help="Its autoencoder (SD-VAE), already imported."),
    ],
    num_heads: Heads = None,
    scale: Annotated[float, typer.Option(help="What the autoencoder's vectors are multiplied by.")] = 0.18215,
    classes: Classes = None,
) -> None:
    """Import a generator of DiT, such as DiT-XL/2."""
    from vistok.interop.dit import import_dit as run

    say(f"{run(file, out, tokenizer, num_heads, scale, classes)}, in {out}")


@import_app.command("titok")
def import_titok(
    file: Checkpoint,
    out: Out,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            parser=run_of("tokenizer"), metavar="RUN", help="For a generator: its tokenizer, already imported."
        ),
    ] = None,
    num_heads: Annotated[
        int | None, typer.Option(min=1, help="Attention heads, for widths other than the published ones.")
    ] = None,
) -> None:
    """Import a tokenizer of TiTok, or one of its generators."""
    if tokenizer is None:
        from vistok.interop.titok import import_titok as run

        say(f"{run(file, out, num_heads)}, in {out}")
        return
    from vistok.interop.titok_generator import import_titok_generator

    say(f"{import_titok_generator(file, out, tokenizer, num_heads)}, in {out}")


@import_app.command("maskgit")
def import_maskgit(
    file: Checkpoint, out: Out, image_size: Annotated[int, typer.Option(help="Pixels per side.")] = 256
) -> None:
    """Import MaskGIT's VQGAN, which TiTok's tokenizers learn from."""
    from vistok.interop.maskgit import import_maskgit as run

    say(f"{run(file, out, image_size)}, in {out}")


@import_app.command("hub")
def import_hub(
    name: Annotated[
        str, typer.Argument(parser=place, help="owner/name on the Hugging Face Hub, or a folder with the same layout.")
    ],
    out: Out,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Import a tokenizer, or a generator with its tokenizer, from the Hugging Face Hub."""
    from vistok.interop.hub import import_hub as run

    say(f"{run(name, out, revision)}, in {out}")


@export_app.command("hub")
def export_hub(
    run: Annotated[Path, typer.Argument(parser=run_of(), metavar="RUN", help="A run of a tokenizer or generator.")],
    repo: Annotated[str, typer.Option(help="owner/name on the hub; it also appears in the model card.")],
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path, help="Write a folder here instead of uploading, for example to check the card first."
        ),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    tokenizer: TokenizerPath = None,
    anyway: Anyway = False,
) -> None:
    """Upload a run to the Hugging Face Hub, with a model card that lists its scores and their protocols."""
    from vistok.interop.hub import push_to_hub, write_folder

    require_alive(run, anyway, tokenizer)
    place = Path(tokenizer) if tokenizer else None
    if out is not None:
        say(f"folder: {write_folder(run, out, repo, place)}")
    else:
        say(f"uploaded: {push_to_hub(run, repo, private, tokenizer=place)}")


@export_app.command("llamagen")
def export_llamagen(
    network: Annotated[
        Path, typer.Argument(parser=run_of(), metavar="RUN", help="A run or exported file of a tokenizer or generator.")
    ],
    out: Annotated[Path, typer.Option(parser=path, help="File to write: .pt or .safetensors.")],
    weights: Weights = "ema",
    anyway: Anyway = False,
) -> None:
    """Write a tokenizer or generator in the format of LlamaGen's code."""
    from vistok.interop.llamagen import export_llamagen as run

    require_alive(network, anyway)
    say(f"{run(network, out, checked_weights(weights))} in {out}")


@export_app.command("diffusers")
def export_diffusers(
    network: Annotated[Path, typer.Argument(parser=run_of("tokenizer"), metavar="RUN", help=A_TOKENIZER)],
    out: Annotated[Path, typer.Option(parser=path, help="Folder to write.")],
    weights: Weights = "ema",
    anyway: Anyway = False,
) -> None:
    """Write a tokenizer as diffusers' AutoencoderKL or VQModel."""
    from vistok.interop.diffusers_export import export_diffusers as run

    require_alive(network, anyway)
    say(run(network, out, checked_weights(weights)))
