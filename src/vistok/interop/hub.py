"""Networks on the Hugging Face Hub: `from_pretrained`, `push_to_hub`, and the same for local folders, offline.

A repository holds `model.safetensors` (weights with their config inside), `config.json`, `README.md` (the model card), the
run's evaluations and, for a generator, its tokenizer in `tokenizer/`. No code from a repository is run.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import read_json, write_atomic, write_json
from vistok.generator.interface import Generator
from vistok.interop.aside import Marks, built_aside, copy_synced, entries
from vistok.interop.hub_card import (
    EVALUATIONS,
    card,
    current_evaluation,
    evaluation_files,
    evaluations_in,
    of_network,
    parsed,
)
from vistok.interop.imported import RUNS, TOKENIZER, require_free, run_written_aside, write_finished
from vistok.nn.classifier import Classifier
from vistok.runs.load import Stored, check_network, network_of, read_model, weights_file
from vistok.tokenizer.interface import Tokenizer

WEIGHTS = "model.safetensors"
EXTRA = "vistok[hub]"
SCHEMA = 1
_MARKS = Marks(first="config.json", last=WEIGHTS)


def from_pretrained(name: str | Path, revision: str | None = None, token: str | None = None) -> Tokenizer | Generator:
    """Return the network from a repository ("owner/name"), or from a folder with the same layout.

    It comes in evaluation mode, on the best device. To get a generator's tokenizer, call `load_tokenizer_of(generator)`.
    Raises UserError where there is no such network, or where it cannot be reached.
    """
    folder = fetch(str(name), revision, token)
    stored = _read(folder / WEIGHTS)
    if stored[1]["model"] == "generator":
        stored[1]["tokenizer"]["path"] = str((folder / TOKENIZER / WEIGHTS).resolve())
    network = network_of(stored, folder / WEIGHTS)
    assert not isinstance(network, Classifier)
    return network


def import_hub(name: str, out: Path, revision: str | None = None, token: str | None = None) -> str:
    """Write the finished run directory `out` from a repository or folder; return a line that describes the network.

    A generator's tokenizer is written to `out`/tokenizer. Raises UserError where `out` holds something else, or where the
    repository is damaged; `out` is then left unchanged.
    """
    folder = fetch(name, revision, token)
    network = _checked(folder / WEIGHTS)
    header = network[1]
    if header["model"] == "generator":
        inner = _checked(folder / TOKENIZER / WEIGHTS, "tokenizer")
        _require_digest(folder / TOKENIZER, inner[1], header)
        header["tokenizer"] |= {"path": str((out / TOKENIZER).resolve()), "weights": inner[1].get("weights", "ema")}
        require_free(out / TOKENIZER, _imported(name, inner[1]))
    left_out: list[str] = []
    with run_written_aside(out, _imported(name, header)) as new:
        if header["model"] == "generator":
            left_out += _write_run(folder / TOKENIZER, new / TOKENIZER, name, *inner)
        left_out += _write_run(folder, new, name, *network)
    missing = (
        f" (left out evaluations that are damaged or of another version: {', '.join(left_out)})" if left_out else ""
    )
    return f"{header['recipe']}: {header['model']} of {name}{missing}"


def push_to_hub(
    run: str | Path,
    repo_id: str,
    private: bool = False,
    token: str | None = None,
    tokenizer: str | Path | None = None,
) -> str:
    """Upload a run with its model card, scores and, for a generator, its tokenizer; return the repository's URL.

    The repository is created if it does not exist. `tokenizer`: where the tokenizer is now, if it was moved. Raises UserError
    for a run that is not finished, and where the Hub cannot be reached or refuses.
    """
    _require_hub()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} is not a valid repository name ({_first_line(error)}); give owner/name") from None
    api = HfApi(token=token)
    with TemporaryDirectory() as scratch:
        folder = write_folder(Path(run), Path(scratch) / "repository", repo_id, tokenizer)
        try:
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload by vistok")
        except Exception as error:  # raised by the hub or by whichever HTTP client it uses
            raise UserError(
                f"{repo_id} could not be uploaded: {_first_line(error)}. Check the name and your access rights (hf auth "
                "login), or write the folder with --out FOLDER and upload it yourself"
            ) from None
    return str(address)


def write_folder(run: Path, out: Path, repo_id: str, tokenizer: str | Path | None = None) -> Path:
    """Write a repository's files to a folder that is new, empty, or from an earlier export of this network.

    Raises UserError where the folder holds something else, or where the run is damaged.
    """
    _require_hub()
    file = weights_file(run)
    state, header = _checked(file)
    _require_export(out, header)
    inner = None
    if header["model"] == "generator":
        wanted = header["tokenizer"]
        place = weights_file(tokenizer or wanted["path"], wanted.get("weights"))
        inner = place, _checked(place, "tokenizer")[1]
        _require_digest(place, inner[1], header)
    evaluations = evaluations_in(run)
    scores = [scores for _, scores in evaluations if of_network(scores, header)]
    params = sum(value.numel() for value in state.values())
    readme = card(repo_id, header, params, scores).encode()
    with built_aside(out, _MARKS) as folder:
        _require_export(out, header)  # checked again, now that no other process writes it
        if inner is not None:
            _copy(*inner, folder / TOKENIZER)
        _copy(file, header, folder)
        for source, _ in evaluations:
            copy_synced(source, folder / EVALUATIONS / source.name)
        write_atomic(folder / "README.md", readme)
    return out


def _require_export(out: Path, header: dict[str, Any]) -> None:
    """Raise UserError where a folder holds anything but an earlier export of this network."""
    if not entries(out):
        return
    try:
        there = read_json(out / _MARKS.first, "", "")
    except (OSError, UserError):
        there = {}
    if there.get("digest") != header["digest"]:
        raise UserError(f"{out} already holds something else; give a new or empty folder with --out")


def fetch(name: str, revision: str | None = None, token: str | None = None) -> Path:
    """Return a repository's folder, from the hub's cache or downloaded, or `name` itself where it is a folder."""
    if (Path(name) / WEIGHTS).is_file():
        return Path(name)
    if (Path(name) / "finished.json").is_file():
        raise UserError(f"{name} is already a run directory; pass it to any command as it is")
    if Path(name).exists():
        raise UserError(f"{name} has no {WEIGHTS}; give a folder written by vistok export hub, or owner/name")
    _require_hub()
    from huggingface_hub import snapshot_download

    try:
        patterns = [WEIGHTS, "config.json", "evaluations/*.json", f"{TOKENIZER}/*"]
        folder = Path(snapshot_download(name, revision=revision, token=token, allow_patterns=patterns))
    except Exception as error:  # raised by the hub or by whichever HTTP client it uses
        raise UserError(
            f"{name} could not be downloaded from the hub: {_first_line(error)}. It is neither in the hub's cache nor a local "
            "folder; check the name and the network, or get the files by other means and give their folder"
        ) from None
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{name} has no {WEIGHTS}, so it was not uploaded by vistok; give a repository that was")
    return folder


def _read(file: Path, kind: str | None = None) -> Stored:
    stored = read_model(file, kind)
    if stored[1]["model"] not in RUNS:
        raise UserError(f"{file} holds a {stored[1]['model']}; only tokenizers and generators can be shared on the hub")
    return stored


def _checked(file: Path, kind: str | None = None) -> Stored:
    """Return weights and header, checked to fit each other."""
    stored = _read(file, kind)
    check_network(stored, file)
    return stored


def _require_digest(place: Path, tokenizer: dict[str, Any], generator: dict[str, Any]) -> None:
    if tokenizer["digest"] != generator["tokenizer"]["digest"]:
        raise UserError(
            f"tokenizer {place} is not the one this generator was trained on; give the right one with --tokenizer"
        )


def _copy(file: Path, header: dict[str, Any], out: Path) -> None:
    copy_synced(file, out / WEIGHTS)
    write_json(out / _MARKS.first, {**header, "schema_version": SCHEMA})


def _write_run(folder: Path, out: Path, name: str, state: dict[str, Tensor], header: dict[str, Any]) -> list[str]:
    """Write a run directory; return the names of the evaluations that were left out."""
    with damage_is_a_mistake(
        f"weights {folder / WEIGHTS}: run_config in its header", "copy it again, or export it again"
    ):
        run = parsed(RUNS[header["model"]], header["run_config"])
    write_finished(out, run, state, _imported(name, header), header)
    left_out = []
    for file in evaluation_files(folder):
        if _is_whole(file):
            copy_synced(file, out / EVALUATIONS / file.name)
        else:
            left_out.append(file.name)
    return left_out


def _is_whole(evaluation: Path) -> bool:
    try:
        return current_evaluation(evaluation) is not None
    except UserError:
        return False


def _imported(name: str, header: dict[str, Any]) -> dict[str, str]:
    """Return where a network comes from, keeping its earlier origin: for other projects' networks, the original file."""
    return {**header.get("imported", {}), "hub": name, "digest": str(header["digest"])}


def _require_hub() -> None:
    if find_spec("huggingface_hub") is None:
        raise UserError(f"the Hugging Face Hub needs a package that is not installed; run pip install '{EXTRA}'")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
