"""Files of strangers: nothing in them runs, damage is a sentence, and what wrappers did to names is undone."""

import argparse
import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from vistok.engine.weights import save_weights
from vistok.errors import UserError
from vistok.interop.foreign_file import read_foreign, weights_of
from vistok.metrics.features import InceptionFeatures
from vistok.runs.load import read_model
from vistok.tokenizer.perceptual import VGG
from vistok.torch_files import refuse_program


class Program(nn.Module):
    """TorchScript that overwrites the first bytes of a file when it is loaded."""

    def __init__(self, victim: str) -> None:
        super().__init__()
        self.victim = victim
        self.written = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.victim, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.victim = state[0]
        self.training = state[1]
        self.written = torch.from_file(state[0], shared=True, size=4, dtype=torch.uint8).fill_(120)

    def forward(self) -> str:
        return self.victim


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_archive_is_refused_everywhere_and_its_program_does_not_run(tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "vgg.pt"
    victim.write_bytes(b"mine")
    torch.jit.save(torch.jit.script(Program(str(victim))), str(file))
    for read in (read_foreign, lambda file: VGG.load(str(file)), InceptionFeatures):
        with pytest.raises(UserError, match="TorchScript archive"):
            read(file)  # type: ignore[operator]
        assert victim.read_bytes() == b"mine"
    # It does where it is loaded as it asks.
    torch.jit.load(str(file))
    assert victim.read_bytes() == b"xxxx"


def _stream(pickled: bytes) -> bytes:
    """Return a file in torch's older format around a pickle."""
    header = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    return header + pickled + pickle.dumps([], protocol=2)


@pytest.mark.parametrize(
    "target", [b"argparse\nNamespace", b"collections\nOrderedDict", b"torch._utils\n_rebuild_tensor_v2"]
)
def test_a_pickle_sets_no_attribute_of_a_class_or_a_function(tmp_path: Path, target: bytes) -> None:
    """With dump_patches and __name__ set so, torch.load itself wrote a file of the pickle's choice."""
    state = b"}(X\x0c\x00\x00\x00dump_patches\x88X\x08\x00\x00\x00__name__X\x04\x00\x00\x00evilu"
    for pair in (b"N" + state + b"\x86b", state + b"b"):
        (tmp_path / "x.pt").write_bytes(_stream(b"\x80\x02}X\x01\x00\x00\x00ac" + target + b"\n" + pair + b"s."))
        read_foreign(tmp_path / "x.pt")
    for touched in (argparse.Namespace, collections.OrderedDict, torch._utils._rebuild_tensor_v2):
        assert touched.__name__ != "evil" and not hasattr(touched, "dump_patches")


def _everything() -> dict[str, Any]:
    flat = torch.arange(12.0)
    tensors = {
        "view": flat[2:8].view(2, 3), "transposed": flat.view(3, 4).T, "flat": flat, "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4), "bool": torch.tensor([True, False]), "long": torch.arange(3),
    }  # fmt: skip
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.float8_e4m3fn):
        tensors[str(dtype)] = torch.tensor([1.0, 2.0, 3.0]).to(dtype)
    parameter = nn.Parameter(torch.ones(2, 2))
    parameter.added = "by someone"  # type: ignore[attr-defined]
    return tensors | {"parameter": parameter, "complex": torch.ones(2, dtype=torch.complex64)}


@pytest.mark.parametrize("legacy", [False, True])
def test_every_kind_of_tensor_is_read_as_torch_reads_it(tmp_path: Path, legacy: bool) -> None:
    saved = _everything()
    if legacy:
        saved.pop("complex")
    torch.save(saved, tmp_path / "code.pt", _use_new_zipfile_serialization=not legacy)
    found = read_foreign(tmp_path / "code.pt")
    for name in set(saved) - {"complex"}:
        assert found[name].dtype == saved[name].dtype and torch.equal(found[name], saved[name]), name
    # Those that share their numbers share them still.
    assert found["view"].untyped_storage().data_ptr() == found["flat"].untyped_storage().data_ptr()


@pytest.mark.filterwarnings("ignore")
def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    class Beyond:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (torch.ones(4).storage(), 0, (1000, 1000), (1000, 1), False, {})

    torch.save({"w": Beyond()}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="beyond its storage"):
        read_foreign(tmp_path / "x.pt")


W = {"a.weight": torch.arange(4.0).view(2, 2), "b.bias": torch.ones(2)}


def _named(form: str) -> dict[str, Tensor]:
    return {form.format(*name.split(".")): value for name, value in W.items()}


@pytest.mark.parametrize(
    "content",
    [
        W,
        {"module": W},
        {"model": {"module": W}, "optimizer": {"state": {}}},
        {"ema": {}, "model": W},
        {"ema": {"decay": torch.tensor(0.9)}, "model": W},
        {"state_dict": _named("module._orig_mod.{}.{}")},
        {"model": _named("_orig_mod.module.{}.{}")},
        {"model": _named("module.module.{}.{}")},
        {"model": _named("{}._orig_mod.{}")},
        {"model": _named("_fsdp_wrapped_module.{}._checkpoint_wrapped_module.{}")},
    ],
)
def test_weights_are_found_under_what_wrappers_made_of_them(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "x.pt")
    found = weights_of(tmp_path / "x.pt", read_foreign(tmp_path / "x.pt"), ("ema", "model", "state_dict"))
    assert set(found) == set(W) and all(torch.equal(found[name], W[name]) for name in W)


def test_what_cannot_be_weights_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    torch.save({"model": {"a.weight": torch.ones(1), "module.a.weight": torch.zeros(1)}}, file)
    with pytest.raises(UserError, match="twice"):
        weights_of(file, read_foreign(file), ("model",))
    torch.save(nn.Linear(2, 2), file)
    with pytest.raises(UserError, match=r"whole pickled model \(torch.nn.modules.linear.Linear\).*state_dict"):
        read_foreign(file)
    torch.save({"model": nn.Linear(2, 2)}, file)
    with pytest.raises(UserError, match="'model' is a whole pickled model"):
        weights_of(file, read_foreign(file), ("model",))
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="git lfs pull"):
        read_foreign(file)
    save_weights(tmp_path / "own.safetensors", W, {"model": "tokenizer", "config": {}})
    with pytest.raises(UserError, match="needs no import"):
        read_foreign(tmp_path / "own.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_another_projects_file_where_a_run_was_wanted_points_to_import(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"vq{suffix}"
    file.write_bytes(save(W) if suffix == ".safetensors" else _saved({"model": W}))
    with pytest.raises(UserError, match="vistok import"):
        read_model(file)


def _saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


_CONTENT = {"model": W, "args": argparse.Namespace(a=1), "rest": [Path("x"), {"x": 1}]}
_FILES = (
    _saved(_CONTENT), _saved(_CONTENT, _use_new_zipfile_serialization=False), save(W), pickle.dumps(W["b.bias"].tolist()),
    _stream(pickle.dumps(_CONTENT["args"], protocol=4)), _saved(nn.Linear(2, 2)),
)  # fmt: skip


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(_FILES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        data[at] ^= 1 << draw(st.integers(0, 7))
    end = draw(st.none() | st.integers(0, len(data)))
    return draw(st.just(bytes(data[:end])) | st.binary(max_size=40).map(lambda tail: bytes(data[:4]) + tail))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None)
@given(data=_damaged() | st.binary(max_size=80))
def test_a_damaged_file_is_read_or_refused_with_a_sentence(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "damaged.pt"
    file.write_bytes(data)
    try:
        weights_of(file, read_foreign(file), ("model",))
    except UserError as error:
        assert "damaged.pt" in str(error)


def test_a_program_is_told_in_any_capitals_and_an_unreadable_list_is_refused(tmp_path: Path) -> None:
    """torch finds the parts of an archive whatever their capitals."""
    for name in ("m/CONSTANTS.PKL", "m/Code/__torch__.Py"):
        with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
            archive.writestr(name, b"x")
        with pytest.raises(UserError, match="a TorchScript archive, which holds a program"):
            refuse_program(tmp_path / "x.pt", "weights")
    (tmp_path / "y.pt").write_bytes(b"PK\x03\x04" + b"x" * 50)
    with pytest.raises(UserError, match="an archive whose list of contents cannot be read"):
        refuse_program(tmp_path / "y.pt", "weights")
