"""Shards, parquet files, ImageNet's layout: the same images in the same order as from a folder."""

import functools
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from vistok.data.config import DataConfig
from vistok.data.images.open import kind_of, open_split
from vistok.data.images.webdataset import brace_expand
from vistok.data.loader import train_images
from vistok.errors import UserError

SIZE = 8


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(number):
    return np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def png(number):
    buffer = io.BytesIO()
    Image.fromarray(picture(number)).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path, numbers, label=lambda number: number % 3, suffix="cls"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            value = label(number)
            members = {f"{number:05d}.png": png(number)}
            if value is not None:
                text = str(value) if suffix == "cls" else json.dumps({"label": value, "caption": "a thing"})
                members[f"{number:05d}.{suffix}"] = text.encode()
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def config(root, dataset="webdataset", **changes):
    return DataConfig(dataset=dataset, root=str(root), image_size=SIZE, channels=3, **changes)


def pixels(source):
    return [source.read(i) for i in range(len(source))]


@pytest.mark.parametrize("suffix", ["cls", "json"])
def test_shards_give_their_images_in_order(tmp_path, suffix):
    write_shard(tmp_path / "train-000001.tar", range(5, 9), suffix=suffix)
    write_shard(tmp_path / "train-000000.tar", range(5), suffix=suffix)
    write_shard(tmp_path / "val-000000.tar", range(9, 11), suffix=suffix)
    write_shard(tmp_path / "test-000000.tar", range(11, 13), suffix=suffix)
    train = open_split(config(tmp_path), "train")
    assert train.class_names == ("0", "1", "2")
    assert train.labels.tolist() == [i % 3 for i in range(9)]
    for number, found in enumerate(pixels(train)):
        np.testing.assert_array_equal(found, picture(number))
    np.testing.assert_array_equal(open_split(config(tmp_path), "val").read(1), picture(10))
    # Nothing is listed twice, and a shard that changed is listed anew.
    before = train.digest
    assert open_split(config(tmp_path), "train").digest == before
    # As another with its size and its time is, as programs that copy set both.
    shard = tmp_path / "train-000001.tar"
    stamp = shard.stat()
    write_shard(shard, range(6, 10), suffix=suffix)
    os.utime(shard, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert shard.stat().st_size == stamp.st_size
    assert open_split(config(tmp_path), "train").labels.tolist() == [i % 3 for i in (*range(5), *range(6, 10))]
    write_shard(shard, range(5, 10), suffix=suffix)
    assert len(open_split(config(tmp_path), "train")) == 10


def test_a_range_of_shards_and_what_is_held_out_of_them(tmp_path):
    for number in range(3):
        write_shard(tmp_path / f"s-{number:02d}.tar", range(10 * number, 10 * number + 10), label=lambda n: None)
    root = f"{tmp_path}/s-{{00..01}}.tar::{tmp_path}/s-02.tar"
    splits = {name: open_split(config(root), name) for name in ("train", "val", "test")}
    assert {name: len(source) for name, source in splits.items()} == {"train": 24, "val": 3, "test": 3}
    assert all(source.class_names == ("all",) for source in splits.values())
    found = sorted(image.tobytes() for source in splits.values() for image in pixels(source))
    assert found == sorted(picture(number).tobytes() for number in range(30))


def test_brace_ranges():
    assert brace_expand("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert brace_expand("{x,y}-{0..1}") == ["x-0", "x-1", "y-0", "y-1"]
    assert brace_expand("plain.tar") == ["plain.tar"]


def test_shards_by_url_are_downloaded_once(tmp_path):
    served = tmp_path / "served"
    write_shard(served / "train-0.tar", range(20))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for _ in range(2):
            train = open_split(config(f"{url}/train-{{0..0}}.tar"), "train")
        assert len(asked) == 1
        with pytest.raises(UserError, match="cannot be downloaded .*404"):
            open_split(config(f"{url}/train-1.tar"), "train")
        server.shutdown()
    assert len(train) == 16


def test_batches_from_shards_do_not_depend_on_workers(tmp_path):
    write_shard(tmp_path / "train-0.tar", range(12))
    write_shard(tmp_path / "train-1.tar", range(12, 30))
    chosen = config(tmp_path, crop_scale=0.8, horizontal_flip=True)
    source = open_split(chosen, "train")
    alone, shared = (list(train_images(source, chosen, 0, 4, range(3), workers)) for workers in (0, 2))
    for a, b in zip(alone, shared, strict=True):
        assert torch.equal(a["images"], b["images"]) and torch.equal(a["labels"], b["labels"])
    # Two processes see the halves of the same batches.
    parts = [list(train_images(source, chosen, 0, 4, range(3), 0, (rank, 2))) for rank in range(2)]
    for a, first, second in zip(alone, *parts, strict=True):
        assert torch.equal(a["images"], torch.cat([first["images"], second["images"]]))


def damaged(path, left=700):
    path.write_bytes(path.read_bytes()[:left])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "no .tar file in this folder"),
        (lambda root: damaged(root / "train-0.tar"), "train-0.tar: damaged, or not what its name says"),
        (lambda root: write_shard(root / "train-0.tar", range(5), lambda n: "cat"), "must be a class number"),
        (lambda root: write_shard(root / "train-0.tar", range(5), lambda n: 1 if n else None), "1 of 5 images has no"),
        (lambda root: write_shard(root / "val-0.tar", range(5)), "no image of split 'train'"),
    ],
)
def test_bad_shards_say_what_is_wrong(tmp_path, make, words):
    root = tmp_path / "shards"
    root.mkdir()
    if "damaged" in make.__code__.co_names:
        write_shard(root / "train-0.tar", range(5))
    make(root)
    with pytest.raises(UserError, match=words):
        open_split(config(root), "train")


def test_an_image_that_is_none_is_named(tmp_path):
    write_shard(tmp_path / "train-0.tar", range(30))
    path = tmp_path / "train-0.tar"
    data = bytearray(path.read_bytes())
    data[512:600] = bytes(88)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"1 of 30 images cannot be read: .*train-0.tar: 00000.png \("):
        open_split(config(path), "train")
    train = open_split(config(path, unreadable_images="skip"), "train")
    report = train.report.record()
    assert (report["found"], report["used"], report["num_skipped"]) == (30, 29, 1)
    # Who is held out does not depend on what is skipped; here it was an image of train.
    assert len(train) == 23 and len(open_split(config(path, unreadable_images="skip"), "val")) == 3
    data[512:520] = b"\x89PNG\r\n\x1a\n"
    path.write_bytes(data)
    with pytest.raises(UserError, match="image .*train-0.tar: 00001.png: cannot be read .*write the file again"):
        damaged(path, 1024)
        pixels(train)


def write_parquet(path, numbers, names=("cat", "dog", "fox"), label=None):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(
        {
            "image": [{"bytes": png(number), "path": f"{number}.png"} for number in numbers],
            "label": [number % 3 if label is None else label for number in numbers],
        }
    )
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    parquet.write_table(table.replace_schema_metadata(metadata if names else None), path, row_group_size=3)


def test_parquet_files_with_the_names_of_their_classes(tmp_path):
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", range(7))
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", range(7, 20))
    write_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet", range(20, 24))
    for _ in range(2):  # from the files, and from what was kept of them
        train, val, test = (open_split(config(tmp_path, "parquet"), name) for name in ("train", "val", "test"))
    assert train.class_names == ("cat", "dog", "fox")
    # One kind of held-out files: what others score against. A tenth of train is held out for choices.
    assert (len(train), len(val), len(test)) == (18, 2, 4)
    np.testing.assert_array_equal(test.read(3), picture(23))
    together = sorted(image.tobytes() for source in (train, val) for image in pixels(source))
    assert together == sorted(picture(number).tobytes() for number in range(20))


def test_test_files_without_labels_are_not_the_test_set(tmp_path):
    """As Hugging Face has ImageNet: labels of its test files are -1."""
    write_parquet(tmp_path / "train-0.parquet", range(20))
    write_parquet(tmp_path / "validation-0.parquet", range(20, 24))
    write_parquet(tmp_path / "test-0.parquet", range(24, 30), label=-1)
    train, val, test = (open_split(config(tmp_path, "parquet"), name) for name in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (18, 2, 4)
    np.testing.assert_array_equal(test.read(0), picture(20))
    write_parquet(tmp_path / "test-0.parquet", range(24, 30))
    assert [len(open_split(config(tmp_path, "parquet"), name)) for name in ("train", "val", "test")] == [20, 4, 6]


OPEN = """
import sys
from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
source = open_split(DataConfig(dataset=sys.argv[1], root=sys.argv[2], image_size=8, channels=3), "train")
print(source.digest, source.read(3).sum())
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["url", "parquet"])
def test_several_processes_open_new_files_at_once(kind, tmp_path):
    """As torchrun's do: one lists and downloads, the others wait and find it."""
    for number in range(3):
        name = f"train-{number}"
        if kind == "parquet":
            write_parquet(tmp_path / "files" / f"{name}.parquet", range(40))
        else:
            write_shard(tmp_path / "files" / f"{name}.tar", range(40))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "files"))
    handler.func.log_message = lambda *arguments: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/train-{{0..2}}.tar"
        root = url if kind == "url" else str(tmp_path / "files")
        command = [sys.executable, "-c", OPEN, "webdataset" if kind == "url" else kind, root]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        found = {process.communicate()[0] for process in processes}
        server.shutdown()
    assert all(process.returncode == 0 for process in processes) and len(found) == 1


def test_an_unpacking_of_imagenet_that_was_killed_begins_anew(tmp_path, monkeypatch):
    """torchvision makes the folder first and fills it: half of it must not pass for all."""
    import torchvision.datasets

    calls = []

    def unpack(root, split):
        calls.append(split)
        (tmp_path / split).mkdir()
        if len(calls) == 1:
            (tmp_path / split / "n01440764").mkdir()
            raise KeyboardInterrupt
        shutil.rmtree(tmp_path / split)
        shutil.copytree(tmp_path / "whole" / split, tmp_path / split)

    write_imagenet(tmp_path / "whole")
    monkeypatch.setattr(torchvision.datasets, "ImageNet", unpack)
    with pytest.raises(KeyboardInterrupt):
        open_split(config(tmp_path, "imagenet"), "train")
    for _ in range(2):
        assert open_split(config(tmp_path, "imagenet"), "train").class_names == ("n01440764", "n01443537")
    assert calls == ["train", "train"]


def test_a_parquet_file_without_images_names_its_columns(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match="no column of images.*it has text"):
        open_split(config(tmp_path, "parquet"), "train")


def write_imagenet(root, per_class=20):
    for folder, start in (("train", 0), ("val", 1000)):
        for label, wnid in enumerate(("n01440764", "n01443537")):
            (root / folder / wnid).mkdir(parents=True)
            for number in range(per_class):
                image = Image.fromarray(picture(start + 100 * label + number))
                image.save(root / folder / wnid / f"{wnid}_{number:03d}.JPEG", quality=95)


def test_imagenet_in_torchvisions_layout(tmp_path):
    write_imagenet(tmp_path)
    train, val, test = (open_split(config(tmp_path, "imagenet"), name) for name in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (36, 4, 40)
    assert train.class_names == ("n01440764", "n01443537")
    assert test.labels.tolist() == [0] * 20 + [1] * 20
    files = {*train.files, *val.files}
    assert len(files) == 40 and all(name.startswith("train/") for name in files)
    assert test.read(0).shape == (SIZE, SIZE, 3)


def test_what_lies_at_a_place_is_told_by_its_files(tmp_path):
    write_imagenet(tmp_path / "imagenet")
    write_shard(tmp_path / "shards" / "train-0.tar", range(3))
    write_parquet(tmp_path / "parquet" / "data" / "train-0.parquet", range(3))
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "ILSVRC2012_img_val.tar").touch()
    (tmp_path / "folder" / "cats").mkdir(parents=True)
    names = {
        "imagenet": "imagenet",
        "shards": "webdataset",
        "parquet": "parquet",
        "archives": "imagenet",
        "folder": "folder",
    }
    assert {name: kind_of(str(tmp_path / name)) for name in names} == names
    assert kind_of("https://example.org/train-{000..146}.tar") == "webdataset"


def test_imagenet_that_is_not_there_says_what_to_put_where(tmp_path):
    with pytest.raises(UserError, match="ILSVRC2012_devkit_t12.tar.gz.*name the folder with --data"):
        open_split(config(tmp_path, "imagenet"), "train")
