"""Weights files: what is damaged, of another kind or another program's is refused by name, before it counts."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tiny_networks
import vistok
from vistok.engine.weights import load_weights, save_weights
from vistok.errors import UserError
from vistok.interop.hub import import_hub, write_folder
from vistok.interop.llamagen import export_llamagen
from vistok.recipes import find_recipe
from vistok.runs.frozen_networks import load_classifier_file
from vistok.runs.initial import Initial, load_initial, with_network_of
from vistok.runs.load import load_generator, load_tokenizer, load_tokenizer_of
from vistok.scoring.evaluators import choose_evaluator

SHIPPED = Path(vistok.__file__).parent / "weights"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return tiny_networks.write_pair(tmp_path_factory.mktemp("pair"))


def rewritten(file: Path, out: Path, state=None, sums=True, **changes) -> Path:
    """Write a weights file with other weights or header fields; without `sums` as earlier versions' trained ones are."""
    with safe_open(str(file), framework="pt") as found:
        header = json.loads(found.metadata()["vistok"])
    header |= changes
    out.parent.mkdir(parents=True, exist_ok=True)
    if sums:
        save_weights(out, load_file(file) if state is None else state, header)
        return out
    header = {name: value for name, value in header.items() if name not in ("header_sha256", "imported")}
    save_file(load_file(file) if state is None else state, out, metadata={"vistok": json.dumps(header)})
    return out


def test_shipped_weights_are_those_of_the_list():
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=SHIPPED, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listed = {line.split()[1] for line in (SHIPPED / "SHA256SUMS").read_text().splitlines()}
    assert listed == {str(file.relative_to(SHIPPED)) for file in SHIPPED.rglob("*.safetensors")}


def test_a_digit_of_the_name_of_the_sum_counts(tmp_path):
    """Without it the file would pass for one of an earlier version, which has no sum."""
    file = tmp_path / "w.safetensors"
    save_weights(file, {"a": torch.ones(2)}, {"model": "x"})
    file.write_bytes(file.read_bytes().replace(b"header_sha256", b"header_sha257"))
    with pytest.raises(UserError, match=r"w\.safetensors: the header does not match its stored checksum"):
        load_weights(file)


def test_a_digit_of_the_header_counts(pair, tmp_path):
    """It decides what the weights mean: the grid is in no tensor."""
    data = (pair[1] / "export" / "model.safetensors").read_bytes()
    assert data.count(b'\\"grid\\": [4, 4]') == 1
    (tmp_path / "g.safetensors").write_bytes(data.replace(b'\\"grid\\": [4, 4]', b'\\"grid\\": [4, 5]'))
    with pytest.raises(UserError, match=r"g\.safetensors: the header does not match its stored checksum"):
        load_generator(tmp_path / "g.safetensors")


def test_files_of_earlier_versions_have_no_sum_of_the_header(pair, tmp_path):
    """They are read, and what lies in a header twice is compared."""
    file, old = pair[1] / "export" / "model.safetensors", tmp_path / "old.safetensors"
    assert load_generator(rewritten(file, old, sums=False)).info.digest == load_generator(file).info.digest
    config = {**load_weights(file)[1]["config"], "num_heads": 1}
    with pytest.raises(
        UserError, match=r"old\.safetensors: damaged header \(config differs from the one in run_config"
    ):
        load_generator(rewritten(file, old, sums=False, config=config))
    generator = load_generator(rewritten(file, old, sums=False, grid=[6, 6]))
    with pytest.raises(
        UserError, match=r"6x6 tokens of \d+ codes, but its tokenizer turns images of 8 pixels into 4x4 tokens"
    ):
        load_tokenizer_of(generator)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_everywhere(pair, tmp_path, value):
    state, header = load_weights(pair[0] / "export" / "model.safetensors")
    state["decoder.conv_out.bias"] = torch.full_like(state["decoder.conv_out.bias"], value)
    with pytest.raises(UserError, match="are not written: 1 of [0-9]+ tensors contain NaN or infinity"):
        save_weights(tmp_path / "w.safetensors", state, header)
    from vistok.engine.weights import weights_digest

    file = rewritten(
        pair[0] / "export" / "model.safetensors", tmp_path / "hub" / "model.safetensors", state, False,
        digest=weights_digest(state),
    )  # fmt: skip
    for read in (
        load_tokenizer,
        lambda path: with_network_of(find_recipe("debug_vq"), str(path)),
        lambda path: import_hub(str(path.parent), tmp_path / "run"),
        lambda path: write_folder(path, tmp_path / "folder", "a/b"),
        lambda path: export_llamagen(path, tmp_path / "theirs.safetensors"),
    ):
        with pytest.raises(UserError, match=r"tensors contain NaN or infinity \(first: decoder.conv_out.bias\)"):
            read(file)
    assert not any((tmp_path / name).exists() for name in ("run", "folder", "theirs.safetensors"))


def test_integers_in_place_of_floats_are_refused(pair, tmp_path):
    file = pair[0] / "export" / "model.safetensors"
    state = {name: value.to(torch.int64) for name, value in load_file(file).items()}
    whole = rewritten(file, tmp_path / "hub" / "model.safetensors", state)
    for read in (load_tokenizer, lambda path: import_hub(str(path.parent), tmp_path / "run")):
        with pytest.raises(UserError, match="do not fit their own config: .* torch.int64 instead of torch.float32"):
            read(whole)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (1, {"grid": [10**9, 10**9]}, "grid.height"),
        (1, {"grid": None}, "grid.height"),
        (1, {"class_names": []}, "0 class_names for 2 classes"),
        (1, {"codebook_size": 2**40}, "cannot be built"),
        (0, {"training": []}, "training"),
        (0, {"model": "painter"}, "model 'painter', not one of tokenizer, generator, classifier"),
    ],
)
def test_damaged_headers_are_named(pair, tmp_path, kind, changes, words):
    file = rewritten(pair[kind] / "export" / "model.safetensors", tmp_path / "w.safetensors", sums=False, **changes)
    with pytest.raises(UserError, match=rf"w\.safetensors: .*{words}.*copy it again"):
        (load_tokenizer, load_generator)[kind](file)


def test_a_config_of_absurd_sizes_takes_no_memory(pair, tmp_path, monkeypatch):
    """The tensors say how large a network is: building stops at the first that is much larger."""
    made = []
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda layer: made.append(layer.weight.numel()))
    file = pair[1] / "export" / "model.safetensors"
    header = load_weights(file)[1]
    for change in ({"width": 8_000}, {"depth": 900}, {"width": 2**40}):
        config = {**header["config"], **change}
        changes = {"config": config, "run_config": {**header["run_config"], "generator": config}}
        with pytest.raises(UserError, match=r"cannot be built: .*copy it again"):
            load_generator(rewritten(file, tmp_path / "w.safetensors", sums=False, **changes))
    assert sum(made) < 10_000


def test_raw_weights_are_those_that_are_used(pair):
    tokenizer, generator = pair
    raw = tokenizer / "export" / "raw.safetensors"
    assert load_tokenizer(raw, "raw").info.weights == load_tokenizer(tokenizer, "raw").info.weights == "raw"
    assert load_tokenizer(raw).info.weights == "raw"  # a file holds what it holds
    with pytest.raises(UserError, match="holds raw weights, but ema weights were asked for"):
        load_tokenizer(raw, "ema")
    with pytest.raises(UserError, match=r"model\.safetensors holds ema weights, but raw weights were asked for"):
        load_tokenizer(tokenizer / "export" / "model.safetensors", "raw")
    # Imports have averaged weights alone.
    with pytest.raises(UserError, match=r"has no raw weights \(no export/raw.safetensors\); it has ema weights"):
        load_generator(generator, "raw")


def test_another_file_is_named_and_pointed_to_the_verb_that_takes_it(pair, tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "x.pt")
    (tmp_path / "hub").mkdir()
    for name, key, command in (
        ("vq", "encoder.conv_blocks.0.res.0.norm1.weight", "vistok import llamagen .*vq.safetensors --out RUN"),
        ("gpt", "tok_embeddings.weight", "vistok import llamagen .* --tokenizer RUN --out RUN"),
        ("ldm", "encoder.down_blocks.0.resnets.0.norm1.weight", "vistok import diffusers"),
        ("gan", "encoder.down.0.block.0.norm1.weight", "vistok import taming .* --config YAML"),
        ("hub/model", "anything", "with the verb for the project that wrote it: vistok import llamagen"),
    ):
        weights = {key: torch.ones(1), "quantize.embedding.weight": torch.ones(1)}
        save_file(weights, tmp_path / f"{name}.safetensors")
        with pytest.raises(UserError, match=rf"not written by vistok.*{command}"):
            load_tokenizer(tmp_path / f"{name}.safetensors")
    save_file({"encoder.down_blocks.0.resnets.0.norm1.weight": torch.ones(1)}, tmp_path / "kl.safetensors")
    with pytest.raises(UserError, match="an AutoencoderKL of diffusers.*vistok import diffusers"):
        load_tokenizer(tmp_path / "kl.safetensors")
    with pytest.raises(UserError, match=r"x\.pt: a file of torch.save.*vistok import llamagen .*x\.pt --out RUN; "):
        with_network_of(find_recipe("debug_vq"), str(tmp_path / "x.pt"))
    with pytest.raises(UserError, match=r"x\.pt: a file of torch.save.*Inception's weights are given with --inception"):
        choose_evaluator(tiny_networks.DATA, str(tmp_path / "x.pt"))
    with pytest.raises(UserError, match="holds a tokenizer, not a generator; vistok cache, vistok reconstruct"):
        load_generator(pair[0])
    with pytest.raises(UserError, match="holds a generator, not a classifier; vistok sample"):
        load_classifier_file(pair[1])
    with pytest.raises(UserError, match="is a folder for the hub; make a run directory of it: vistok import hub"):
        load_tokenizer(tmp_path / "hub")
    (tmp_path / "noise.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"noise\.safetensors: damaged, or not what its name says"):
        load_tokenizer(tmp_path / "noise.safetensors")


def test_raw_weights_go_to_the_hub_and_back_as_raw(pair, tmp_path):
    write_folder(pair[0] / "export" / "raw.safetensors", tmp_path / "folder", "a/b")
    import_hub(str(tmp_path / "folder"), tmp_path / "run")
    raw, back = (load_tokenizer(run, "raw") for run in (pair[0], tmp_path / "run"))
    assert all(torch.equal(a, b) for a, b in zip(raw.parameters(), back.parameters(), strict=True))
    with pytest.raises(UserError, match="has no ema weights .*it has raw weights"):
        load_tokenizer(tmp_path / "run")


def test_training_does_not_begin_with_integers():
    network = torch.nn.Linear(2, 2)
    whole = {name: value.to(torch.int64) for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match="weight torch.int64 instead of torch.float32"):
        load_initial(network, Initial("start.safetensors", whole, "digest", None))
