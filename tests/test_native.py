"""The decode step in C++: the logits and tokens of torch's, on any sizes, and what happens where it cannot be compiled."""

import ctypes
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vistok.generator.autoregressive import frozen as frozen_module
from vistok.generator.autoregressive import native, native_cache
from vistok.generator.autoregressive.config import AutoregressiveConfig, AutoregressiveSampling
from vistok.generator.autoregressive.frozen import FrozenTransformer
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.generator.autoregressive.kv_cache import KVCache
from vistok.generator.autoregressive.sampling import sample_tokens
from vistok.generator.autoregressive.speculative import SpeculativeSampler
from vistok.nn import native_library
from vistok.nn.keyed_noise import gumbel_noise
from vistok.nn.linear_kernels import PlainLinear
from vistok.rng import gumbel_grid
from vistok.space import token_grid

# The process that loaded a library keeps it.
MAKE = "from vistok.generator.autoregressive import native; native.library() or exit(1)"


def has_compiler() -> bool:
    """Whether the machine compiles OpenMP at all: where it does, a step that does not compile is a failure."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if sys.platform != "linux" or compiler is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, "-fopenmp", "-shared", "-fPIC", "-x", "c++", "-", "-o", f"{folder}/a.so"]
        return subprocess.run(command, input=b"#include <omp.h>\n", capture_output=True).returncode == 0


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler with OpenMP here")
# Widths, head sizes and codes that no vector of the CPU divides, too.
SIZES = [
    {"width": 64, "depth": 2, "num_heads": 4, "ffn_multiple": 32},
    {"width": 36, "depth": 1, "num_heads": 3, "ffn_multiple": 1},
    {"width": 20, "depth": 3, "num_heads": 1, "ffn_multiple": 7},
    {"width": 200, "depth": 1, "num_heads": 2, "ffn_multiple": 256},
]


ROUNDINGS = ("none", "int8", "bfloat16")


def make(codes: int = 41, **config) -> AutoregressiveGenerator:
    torch.manual_seed(0)
    sizes = {**SIZES[0], **config}
    model = AutoregressiveGenerator(AutoregressiveConfig(**sizes), token_grid(4, 5, codes), 6).eval()
    for parameter in model.parameters():  # the norms and the head do not start where an error in them would show
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def both(model: AutoregressiveGenerator, rounding: str = "none") -> tuple[FrozenTransformer, FrozenTransformer]:
    """Return a decoder in C++ and one by torch."""
    compiled, plain = FrozenTransformer(model, rounding), FrozenTransformer(model, rounding)
    plain.native = None
    assert compiled.native is not None
    return compiled, plain


def fed(decoder: FrozenTransformer, x: Tensor, spare: int = 0) -> tuple[KVCache, Tensor]:
    """Feed (rows positions width) as one, two, three... at a time; return cache and logits."""
    cache, found, start = decoder.new_cache(len(x), spare), [], 0
    while start < x.shape[1]:
        found.append(decoder.logits(x[:, start : start + len(found) + 1], cache))
        start += len(found)
    return cache, torch.cat(found, 1)


@needs_compiler
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", [{}, {"qk_norm": False}, {"class_token_rotary": "zero"}])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_logits_and_cache_are_torchs(sizes, options, rounding):
    model = make(**sizes, **options)
    x = torch.randn(3, 15, sizes["width"])
    (cache, logits), (plain_cache, expected) = (fed(decoder, x) for decoder in both(model, rounding))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    torch.testing.assert_close(cache.buffers, plain_cache.buffers, rtol=1e-4, atol=1e-4)
    assert cache.length == plain_cache.length == 15


@needs_compiler
def test_rows_may_be_at_different_places_also_past_the_end():
    compiled, plain = both(make())
    x = torch.randn(3, 15, 64)
    found = []
    for decoder in (compiled, plain):
        cache, _ = fed(decoder, x, spare=4)
        cache.move(torch.tensor([2, 18, 9]))
        found.append(decoder.logits(x[:, :4], cache))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_logits_are_the_same_bits_whatever_the_rows_and_threads(sizes, rounding):
    decoder, threads = FrozenTransformer(make(**sizes), rounding), torch.get_num_threads()
    x = torch.randn(10, 6, sizes["width"])
    _, together = fed(decoder, x)
    apart = [fed(decoder, x[first : first + size])[1] for first, size in ((0, 1), (1, 2), (3, 3), (6, 4))]
    torch.set_num_threads(3)
    try:
        _, by_three = fed(decoder, x)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(together, torch.cat(apart)) and torch.equal(together, by_three)


@needs_compiler
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_logits_are_the_same_bits_through_every_cache(rounding):
    decoder = FrozenTransformer(make(**SIZES[3]), rounding)
    x, found = torch.randn(3, 6, SIZES[3]["width"]), []
    for level in (native_cache.FIRST, native_cache.SECOND):
        decoder.native.cache = level
        found.append(fed(decoder, x)[1])
    assert torch.equal(*found)


@needs_compiler
def test_the_quickest_cache_is_measured_once_for_large_weights(tmp_path, monkeypatch):
    class Library(ctypes.CDLL):
        def __init__(self, file: Path) -> None:  # nothing is loaded
            self._name = str(file)

    def of(file: Path, weight_bytes: int = 2**30) -> int:
        native_cache._quickest.cache_clear()
        return native_cache.cache_for(Library(file), weight_bytes)

    assert native_cache._measured(native.library()) in (native_cache.FIRST, native_cache.SECOND)
    asked = []
    monkeypatch.setattr(native_cache, "_measured", lambda compiled: asked.append(1) or native_cache.SECOND)
    library, note = tmp_path / "step.so", tmp_path / "step.so.cache"
    assert of(library, 2**20) == native_cache.FIRST and not asked
    assert of(library) == native_cache.SECOND and not note.exists()  # a library that is gone leaves no note
    library.touch()
    assert of(library) == of(library) == native_cache.SECOND and len(asked) == 2 and note.read_text() == "2"
    for damage in ("", "7", "two"):
        note.write_text(damage)
        assert of(library) == native_cache.SECOND and note.read_text() == "2"
    assert len(asked) == 5
    native_cache._quickest.cache_clear()


@needs_compiler
def test_small_inputs_show_the_epsilon_of_the_norms():
    model = make()
    with torch.no_grad():
        for block in model.blocks:
            block.attention.qkv.weight.mul_(1e-2)
    x = torch.randn(3, 6, 64) * 1e-3
    (_, logits), (_, expected) = (fed(decoder, x) for decoder in both(model))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@needs_compiler
def test_one_cache_serves_few_rows_and_many():
    """More positions than C++ takes are torch's, and the next ones C++'s again."""
    model = make()
    x = torch.randn(native.MOST // 2, 4, 64)
    found = []
    for decoder in both(model):
        cache = decoder.new_cache(len(x))
        found.append(
            torch.cat([decoder.logits(x[:, start:stop], cache) for start, stop in ((0, 1), (1, 3), (3, 4))], 1)
        )
        assert ("layers" in vars(decoder)) == (decoder.native is None)
        many = decoder.new_cache(len(x))
        found.append(torch.cat([decoder.logits(x[:, start:stop], many) for start, stop in ((0, 3), (3, 4))], 1))
        assert "layers" in vars(decoder)
    for logits in found[1:]:
        torch.testing.assert_close(logits, found[0], rtol=1e-4, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_the_same_tokens_compiled_packed_plain_and_by_a_draft(monkeypatch, rounding):
    model, draft = make(), make(depth=1)
    labels, ids = torch.arange(4) + 1, torch.arange(4)
    how = {"int8": {"int8": True}, "bfloat16": {"precision": "bfloat16-weights"}}.get(rounding, {})
    plain = AutoregressiveSampling(guidance_scale=2.0)
    sampling = plain.replace(**how)
    compiled, packed = both(model, rounding)
    _, unpacked = both(model, rounding)
    monkeypatch.setattr(
        frozen_module, "frozen_linear", lambda *a, kind=frozen_module.frozen_linear: PlainLinear(kind(*a).weight)
    )
    expected = sample_tokens(compiled, labels, ids, sampling)
    assert torch.equal(sample_tokens(unpacked, labels, ids, sampling), expected)
    monkeypatch.undo()
    assert torch.equal(sample_tokens(packed, labels, ids, sampling), expected)
    assert torch.equal(SpeculativeSampler(compiled, FrozenTransformer(draft), sampling, 2)(labels, ids), expected)
    assert torch.equal(model.sample(labels, ids, sampling), expected)
    assert torch.equal(model.sample(labels, ids, plain), expected) == (rounding == "none")


@needs_compiler
def test_what_does_not_fit_is_refused_before_anything_is_written():
    decoder = FrozenTransformer(make())
    cache, x = decoder.new_cache(1), torch.zeros(1, 1, 64)
    cache.length = 20
    with pytest.raises(IndexError, match=r"\[\[20\]\] in a cache of 20"):
        decoder.logits(x, cache)
    cache.length = 0
    for inputs, other in (
        (x, FrozenTransformer(make(depth=1)).new_cache(1)),
        (x.double(), cache),
        (torch.zeros(2, 1, 64), cache),
        (torch.zeros(1, 1, 32), cache),
    ):
        with pytest.raises(ValueError, match=r"the cache must be \(2, 2, \d, 4, 20, 16\), all float32"):
            decoder.logits(inputs, other)
    assert not cache.buffers.any()


@needs_compiler
def test_weights_live_as_long_as_what_points_to_them():
    model = make()
    decoder, x = FrozenTransformer(model), torch.randn(2, 1, 64)
    expected = decoder.logits(x, decoder.new_cache(2))
    for parameter in model.parameters():
        parameter.data = torch.full_like(parameter, torch.nan)
    again = torch.randn(10_000, 64)  # where freed memory would be used anew
    assert torch.equal(decoder.logits(x, decoder.new_cache(2)), expected) and again.isfinite().all()


def test_weights_that_are_not_plain_float32_are_left_to_torch():
    model = make().to(torch.bfloat16)
    assert FrozenTransformer(model).native is None
    assert model.sample(torch.arange(2)).shape == (2, 20)
    model = make()
    model.head.weight.data = model.head.weight.data.t().contiguous().t()
    assert FrozenTransformer(model).native is None


def test_no_images_are_no_error():
    none = torch.arange(0)
    assert make().sample(none, none).shape == (0, 20)


@pytest.mark.parametrize("count", [7, 1000])
def test_noise_is_the_same_bits_by_either_way(count):
    for images in (1, 5, 40):
        ids = torch.arange(images) * 7919 - 3
        for position in (0, 255, torch.arange(images) * 3):
            for seed in (0, 2**40):
                expected = gumbel_grid(seed, ids, position, count)
                assert torch.equal(gumbel_noise(seed, ids, position, count), expected)


def test_libraries_are_tried_out_with_the_openmp_that_torch_loaded():
    found = [Path(file) for file in native_library._openmp()]
    assert found and all(file.is_file() for file in found)


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false", "true", "c++ 'unbalanced"])
def test_without_a_compiler_torch_draws(monkeypatch, request, compiler):
    model, labels = make(), torch.arange(3)
    expected = model.sample(labels)
    fresh = request.getfixturevalue("fresh_libraries")
    monkeypatch.setenv("CXX", compiler)
    assert FrozenTransformer(model).native is None
    assert torch.equal(model.sample(labels), expected)
    assert {path.name for path in fresh.rglob("*")} <= {"making.lock"}


@pytest.mark.slow
@needs_compiler
def test_a_spoilt_library_is_made_again_and_a_good_one_is_not(fresh_libraries):
    subprocess.run([sys.executable, "-c", f"import os; os.umask(0o002); {MAKE}"], check=True)
    (file,) = fresh_libraries.glob("*.so")
    good = file.read_bytes()
    half = len(good) // 2
    file.write_bytes(good[:half] + bytes([good[half] ^ 1]) + good[half + 1 :])  # loads, and computes something else
    assert not native_library._as_written(file)
    assert native.library() is not None and native_library._as_written(file)
    made = file.stat().st_mtime_ns
    native_library.compiled_library.cache_clear()
    assert native.library() is not None and file.stat().st_mtime_ns == made
    assert sorted(path.suffix for path in fresh_libraries.iterdir()) == [".lock", ".sha256", ".so"]


def test_a_library_in_a_folder_that_others_may_write_is_not_loaded(fresh_libraries, monkeypatch):
    fresh_libraries.mkdir(parents=True)
    fresh_libraries.chmod(0o777)
    loaded, plain = [], ctypes.CDLL
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(native_library, "_make", lambda command, made: made)  # compiled and tried
    monkeypatch.setattr(native_library.ctypes, "CDLL", lambda path: loaded.append(path) or plain(None))
    assert native.library() is not None
    (path,) = loaded
    assert fresh_libraries not in Path(path).parents and not list(fresh_libraries.iterdir())


def test_what_another_user_could_have_written_is_not_ours(tmp_path, monkeypatch):
    file = tmp_path / "decode_step-1.so"
    file.write_bytes(b"library")
    file.chmod(0o700)
    checksum = tmp_path / "decode_step-1.so.sha256"
    checksum.write_text(hashlib.sha256(b"library").hexdigest())
    checksum.chmod(0o600)
    assert native_library._as_written(file)
    for path in (file, checksum):
        for mode in (0o720, 0o702):
            path.chmod(mode)
            assert not native_library._as_written(file)
        path.chmod(0o700)
    (tmp_path / "link.so").symlink_to(file)
    (tmp_path / "link.so.sha256").write_text(checksum.read_text())
    assert not native_library._as_written(tmp_path / "link.so")
    with monkeypatch.context() as patch:
        patch.setattr(native_library.os, "getuid", lambda: 12345)
        assert not native_library._as_written(file)
    checksum.unlink()
    assert not native_library._as_written(file)


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, fresh_libraries):
    fresh_libraries.parent.parent.joinpath("vistok").write_text("a file where the folder should be")
    assert native.library() is None
    assert make().sample(torch.arange(2)).shape == (2, 20)


@needs_compiler
@pytest.mark.parametrize("how", [{}, {"int8": True}, {"precision": "bfloat16"}, {"precision": "bfloat16-weights"}])
def test_the_way_that_is_told_is_the_way_that_is_taken(how, monkeypatch):
    """And it is told without making the step, which rounds all weights."""
    model, sampling = make(), AutoregressiveSampling(**how)
    taken = "C++ step" if model._frozen(sampling).native is not None else "torch's step"
    monkeypatch.setattr(type(model), "_frozen", lambda *given: pytest.fail("made"))
    assert model.way_of(sampling, 1) == taken and model.way_of(sampling, 10**6) == "torch's step"
