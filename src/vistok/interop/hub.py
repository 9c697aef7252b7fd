"""Networks on the Hugging Face Hub: `from_pretrained`, `push_to_hub`, and the same folders without a network.

A repository holds `model.safetensors` (weights, their config inside), `config.json`, `README.md` (the card), the run's
evaluations, and for a generator its tokenizer in `tokenizer/`. Nothing in it is run.
"""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vistok.engine.weights import load_weights
from vistok.errors import UserError
from vistok.files import write_atomic, write_json
from vistok.generator.autoregressive import AutoregressiveGenerator
from vistok.interop.hub_card import card, read_evaluations
from vistok.interop.imported import TOKENIZER, require_free, write_finished
from vistok.tasks.config import GeneratorRun, TokenizerRun
from vistok.tasks.load import load_generator, load_tokenizer, read_model, weights_file
from vistok.tokenizer.model import ConvTokenizer

WEIGHTS = "model.safetensors"
EXTRA = "vistok[hub]"
SCHEMA = 1


def from_pretrained(
    name: str | Path, revision: str | None = None, token: str | None = None
) -> ConvTokenizer | AutoregressiveGenerator:
    """Return the network of a repository ("owner/name"), or of a folder that is laid out like one.

    In evaluation mode, on the best device. A generator's tokenizer: `load_tokenizer_of(generator)`. Raises UserError
    where there is none, or no way to it.
    """
    folder = fetch(str(name), revision, token)
    _, header = load_weights(folder / WEIGHTS)
    if header["model"] == "tokenizer":
        return load_tokenizer(folder / WEIGHTS)
    generator = load_generator(folder / WEIGHTS)
    generator.info["tokenizer"]["path"] = str((folder / TOKENIZER / WEIGHTS).resolve())
    return generator


def import_hub(name: str, out: Path, revision: str | None = None, token: str | None = None) -> str:
    """Write the finished run directory `out` from a repository or folder; return a line that says what it is.

    A generator's tokenizer comes into `out`/tokenizer. Raises UserError where `out` holds something else.
    """
    folder = fetch(name, revision, token)
    _, header = load_weights(folder / WEIGHTS)
    require_free(out, _imported(name, header))
    tokenizer = None
    if header["model"] == "generator":
        tokenizer = out / TOKENIZER
        _write_run(folder / TOKENIZER, tokenizer, name)
    _write_run(folder, out, name, tokenizer)
    return f"{header['recipe']}: {header['model']} of {name}"


def push_to_hub(
    run: str | Path,
    repo_id: str,
    private: bool = False,
    token: str | None = None,
    tokenizer: str | Path | None = None,
) -> str:
    """Upload a run with its card, scores and, for a generator, its tokenizer; return the repository's address.

    The repository is made where there is none. `tokenizer`: where it lies, if it moved.
    """
    _require_hub()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} is no name of a repository ({_first_line(error)}); give owner/name") from None
    api = HfApi(token=token)
    with TemporaryDirectory() as scratch:
        folder = write_folder(Path(run), Path(scratch) / "repository", repo_id, tokenizer)
        try:
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload by vistok")
        except Exception as error:  # those of the hub and of whichever HTTP client it uses
            raise UserError(
                f"{repo_id} could not be uploaded: {_first_line(error)}. Check the name and your rights to it (hf auth "
                "login), or write the folder with --out FOLDER and upload it yourself"
            ) from None
    return str(address)


def write_folder(run: Path, out: Path, repo_id: str, tokenizer: str | Path | None = None) -> Path:
    """Write what a repository holds to a new folder; raises UserError where something lies there."""
    _require_hub()
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} holds something already; give an empty or a new folder with --out")
    state, header = load_weights(weights_file(run))
    if header["model"] == "generator":
        wanted = header["tokenizer"]
        place = weights_file(tokenizer or wanted["path"], wanted.get("weights", "ema"))
        _, own = read_model(place, "tokenizer")
        if own["digest"] != wanted["digest"]:
            raise UserError(f"tokenizer {place} is not the one whose tokens this generator learned; name the right one")
        _copy(place, own, out / TOKENIZER)
    _copy(weights_file(run), header, out)
    evaluations = run / "evaluations"
    if run.is_dir() and evaluations.is_dir():
        shutil.copytree(evaluations, out / "evaluations")
    scores = read_evaluations(run) if run.is_dir() else []
    params = sum(value.numel() for value in state.values())
    write_atomic(out / "README.md", card(repo_id, header, params, scores).encode())
    return out


def fetch(name: str, revision: str | None = None, token: str | None = None) -> Path:
    """Return the folder of a repository, from the hub's cache or the network, or the folder `name` itself."""
    if (Path(name) / WEIGHTS).is_file():
        return Path(name)
    if Path(name).exists():
        raise UserError(f"{name} has no {WEIGHTS}; give a folder that vistok export hub wrote, or owner/name")
    _require_hub()
    from huggingface_hub import snapshot_download

    try:
        patterns = [WEIGHTS, "config.json", "evaluations/*.json", f"{TOKENIZER}/*"]
        folder = Path(snapshot_download(name, revision=revision, token=token, allow_patterns=patterns))
    except Exception as error:  # those of the hub and of whichever HTTP client it uses
        raise UserError(
            f"{name} could not be had from the hub: {_first_line(error)}. It is neither in the hub's cache nor a folder "
            "here; check the name and the network, or get the files by other means and give their folder"
        ) from None
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{name} has no {WEIGHTS}: it was not written by vistok")
    return folder


def _copy(file: Path, header: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, out / WEIGHTS)
    write_json(out / "config.json", {"schema_version": SCHEMA, **header})


def _write_run(folder: Path, out: Path, name: str, tokenizer: Path | None = None) -> None:
    """Write a run directory; the tokenizer's place in a generator's file becomes the one here."""
    state, header = load_weights(folder / WEIGHTS)
    kept = {key: value for key, value in header.items() if key not in ("digest", "schema_version")}
    if tokenizer is not None:
        kept["tokenizer"] = {**header["tokenizer"], "path": str(tokenizer.resolve()), "weights": "ema"}
    kind = TokenizerRun if header["model"] == "tokenizer" else GeneratorRun
    run = kind.from_json(json.dumps(header["run_config"]))
    write_finished(out, run, state, _imported(name, header), kept)
    if (folder / "evaluations").is_dir():
        shutil.copytree(folder / "evaluations", out / "evaluations", dirs_exist_ok=True)


def _imported(name: str, header: dict[str, Any]) -> dict[str, str]:
    return {"hub": name, "digest": str(header["digest"])}


def _require_hub() -> None:
    if find_spec("huggingface_hub") is None:
        raise UserError(f"the Hugging Face Hub needs a package that is not installed: pip install '{EXTRA}'")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
