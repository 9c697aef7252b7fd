"""What counts in shards and parquet files: samples, labels, classes, bad images; and what their digests cover."""

import errno
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from test_packed import config, own_cache, picture, pixels, png, write_parquet, write_shard  # noqa: F401
from vistok.data.images import packed_facts, webdataset
from vistok.data.images.open import open_split
from vistok.errors import UserError


def write_tar(path, members, links=()):
    """Members as (name, bytes), in order; names may come twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.LNKTYPE, target
            tar.addfile(info)
    return path


def ten(suffix="cls", label=lambda n: b"0", start=0):
    """Members of ten labelled samples."""
    return [m for n in range(start, start + 10) for m in ((f"{n}.png", png(n)), (f"{n}.{suffix}", label(n)))]


def train(root, dataset="webdataset", **changes):
    return open_split(config(root, dataset, **changes), "train")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("photo.001.png", "photo.002.png"),
            r"'photo.001.png' and 'photo.002.png' are two images of sample 'photo'.*rename",
        ),
        (("a/1.png", "a/1.seg.png"), r"'a/1.png' and 'a/1.seg.png' .* of sample 'a/1'.*--set data.image_key=png"),
        (("1.png", "1.jpg"), r"'1.png' and '1.jpg' are two images .*image_key=jpg"),
        (("1.png", "1.png"), "member '1.png' occurs twice"),
        (("1.cls", "1.cls"), "member '1.cls' occurs twice"),
    ],
)
def test_a_second_image_of_a_sample_is_refused_by_name(tmp_path, names, words):
    """They overwrote each other: of 30 images 3 were left, without a word."""
    data = [(name, b"0" if name.endswith("cls") else png(number)) for number, name in enumerate(names)]
    with pytest.raises(UserError, match=words):
        train(write_tar(tmp_path / "s.tar", data))


def test_image_key_chooses_among_the_images_of_a_sample(tmp_path):
    members = [(f"{n}.{kind}", png(n + more)) for n in range(20) for kind, more in (("seg.png", 100), ("PNG", 0))]
    path = write_tar(tmp_path / "s.tar", members)
    for key, more in ((".png", 0), ("seg.png", 100)):
        parts = [open_split(config(path, image_key=key), split) for split in ("train", "val", "test")]
        found = sorted(image.tobytes() for part in parts for image in pixels(part))
        assert found == sorted(picture(n + more).tobytes() for n in range(20))
    assert parts[0].report.record()["ignored"] == {".png": 20}
    with pytest.raises(UserError, match="image_key chooses among the members of webdataset"):
        type(config(path)).from_json(json.dumps({"dataset": "folder", "image_key": "jpg"}))
    with pytest.raises(UserError, match="no image of split 'train'.*40 .png"):
        train(path, image_key="webp")


def test_samples_need_not_lie_together_and_what_is_left_out_is_counted(tmp_path):
    images = [(f"{n}.png", png(n)) for n in range(20)]
    labels = [(f"{n}.cls", str(n % 2).encode()) for n in range(22)]
    others = [("1.txt", b"a cat"), ("2.txt", b"a dog"), ("readme", b""), ("._1.png", b"x"), ("__MACOSX/2.png", b"x")]
    write_tar(tmp_path / "train.tar", [*images, *labels, *others], links=[("9a.png", "9.png"), ("9a.cls", "9.cls")])
    write_shard(tmp_path / "val.tar", range(30, 32))
    write_shard(tmp_path / "test.tar", [40, 42])
    for hidden in ("._train.tar", ".Trash/train.tar", "__MACOSX/train.tar"):
        write_shard(tmp_path / hidden, range(50, 60))
    found = train(tmp_path)
    assert found.labels.tolist() == [n % 2 for n in range(20)] + [1]
    for i in range(20):
        np.testing.assert_array_equal(found.read(i), picture(i))
    np.testing.assert_array_equal(found.read(20), picture(9))
    assert found.report.ignored == {".txt": 2, "without a suffix": 1, "labels without an image": 2}
    assert found.report.hidden == 2 and json.loads(json.dumps(found.report.record()))["ignored"][".txt"] == 2
    assert any("2 .txt" in line and "2 labels without an image" in line for line in found.report.warnings())
    assert found.report.duplicates == 1


def test_an_archive_that_goes_on_behind_its_end_is_no_whole_one(tmp_path):
    """tarfile stops there without a word, and the images behind were left out."""
    path = write_tar(tmp_path / "s.tar", ten())
    whole = path.read_bytes()
    header = whole.index(b"5.png\0")
    path.write_bytes(whole[:header] + b"\xff" * 100 + whole[header + 100 :])
    with pytest.raises(UserError, match="s.tar: damaged.*header.*copy it again"):
        train(path)
    path.write_bytes(whole + whole)
    with pytest.raises(UserError, match="several archives"):
        train(path)


@pytest.mark.parametrize("key", ["label", "class_id", "cls", "class"])
def test_labels_in_json_under_their_usual_names(tmp_path, key):
    write_tar(tmp_path / "train.tar", ten("json", lambda n: json.dumps({"caption": "x", key: n % 3}).encode()))
    write_shard(tmp_path / "val.tar", range(3))
    write_shard(tmp_path / "test.tar", range(3))
    assert train(tmp_path).labels.tolist() == [n % 3 for n in range(10)]


def test_json_without_a_label_is_said_with_its_keys(tmp_path):
    captions = lambda n: json.dumps({"caption": "x", "width": 3}).encode()  # noqa: E731
    path = write_tar(tmp_path / "s.tar", ten("json", captions))
    found = train(path)
    assert found.class_names == ("all",)
    assert any("one class" in line and "they have 'caption', 'width'" in line for line in found.report.warnings())
    write_tar(path, [*ten("json", captions), *ten(start=10)])
    with pytest.raises(
        UserError, match="10 of 20 images have no label, such as '0.png', whose .json has 'caption', 'width'"
    ):
        train(path)
    write_tar(tmp_path / "more" / "train-0.tar", ten(label=lambda n: b"1"))
    write_tar(tmp_path / "more" / "train-1.tar", ten("txt"))
    with pytest.raises(UserError, match="10 of 10 images in .*train-1.tar have no label"):
        train(tmp_path / "more")


@pytest.mark.parametrize(
    ("suffix", "label"),
    [
        ("cls", b"9" * 30),
        ("cls", b"9" * 1000),
        ("cls", b"9" * 10**6),
        ("cls", b"999999999"),
        ("cls", b"1.5"),
        ("cls", b"\xff\xfe"),
        ("cls", b""),
        ("json", b'{"label": 1e999}'),
        ("json", b'{"label": NaN}'),
        ("json", b'{"label": 2.5}'),
        ("json", b'{"label": true}'),
        ("json", b'{"label": "cat"}'),
        ("json", b'{"label": ' + b"9" * 5000 + b"}"),
        ("json", b"[" * 100_000),
        ("json", b'{"label"'),
    ],
)
def test_labels_that_are_none_are_refused_with_their_member(tmp_path, suffix, label):
    path = write_tar(
        tmp_path / "s.tar", ten(suffix, lambda n: label if n == 3 else b'{"label": 0}' if suffix == "json" else b"0")
    )
    with pytest.raises(UserError, match=rf"s.tar: ('3.{suffix}'|3.png)|label.* '3.{suffix}'|label of .*s.tar: 3.png"):
        train(path)


def write_table(path, numbers, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(number), "path": None} for number in numbers]
    parquet.write_table(pyarrow.table({"image": images, **columns}), path, row_group_size=3)
    return path


@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("column", ["label", "class", "Category"])
def test_labels_that_are_names(tmp_path, column, dictionary):
    """Their classes are those of all train files, sorted, and the same name has one number in all files."""
    pyarrow = pytest.importorskip("pyarrow")

    def write(name, labels, start):
        values = pyarrow.array(labels)
        numbers = range(start, start + len(labels))
        return write_table(tmp_path / name, numbers, **{column: values.dictionary_encode() if dictionary else values})

    write("train-0.parquet", ["fox", "cat", "fox", "cat"], 0)
    write("train-1.parquet", ["dog", "cat"], 10)
    write("val-0.parquet", ["dog", "fox"], 20)
    write("test-0.parquet", ["fox"], 30)
    for _ in range(2):
        found = [open_split(config(tmp_path, "parquet"), split) for split in ("train", "val", "test")]
        assert all(part.class_names == ("cat", "dog", "fox") for part in found)
        assert [part.labels.tolist() for part in found] == [[2, 0, 2, 0, 1, 0], [1, 2], [2]]
    write("val-0.parquet", ["dog", "wolf"], 20)
    with pytest.raises(UserError, match="split 'val' has classes that train does not have: wolf .*val-0.parquet"):
        train(tmp_path, "parquet")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 1, None, 0], r"row 2 of column 'label' is empty"),
        (["a", None, "b", None], r"row 1 of column 'label' is empty, one of 2 empty rows of 4"),
        ([[0], [1], [2], [0]], r"row 0 of column 'label' holds \[0\] \(list"),
        ([0.0, 0.5, 1.0, 1.0], r"row 0 of column 'label' holds 0.0 \(double\)"),
        ([0, 1, 2, 999_999_999], r"the label of .*train.parquet: row 3 is 999999999"),
        ([0, -1, 0, 0], r"1 of 4 images in .*train.parquet has no label, such as .*row 1"),
    ],
)
def test_labels_of_rows_that_are_none_name_file_row_and_column(tmp_path, values, words):
    write_table(tmp_path / "train.parquet", range(4), label=values)
    with pytest.raises(UserError, match=words) as caught:
        train(tmp_path, "parquet")
    assert "train.parquet" in str(caught.value)


def test_which_column_holds_the_labels_is_said_where_it_could_be_another(tmp_path):
    write_table(tmp_path / "train.parquet", range(10), target=[0] * 10, fine_label=[1] * 10)
    found = train(tmp_path, "parquet")
    assert set(found.labels.tolist()) == {1}
    assert any("column 'fine_label'; target could be labels too" in line for line in found.report.warnings())
    write_table(tmp_path / "train.parquet", range(10), kind=[0] * 10)
    found = train(tmp_path, "parquet")
    assert found.class_names == ("all",)
    assert any("no column of labels" in line and "image, kind" in line for line in found.report.warnings())
    write_table(tmp_path / "train.parquet", range(10))
    assert train(tmp_path, "parquet").report.warnings() == []


def test_bad_images_of_parquet_files_are_named_by_row(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    grey = io.BytesIO()
    Image.new("L", (8, 8)).save(grey, "PNG")
    images = [png(n) for n in range(10)] + [b"no image", grey.getvalue()]
    for name in ("train", "val", "test"):
        chosen = images if name == "val" else images[:3]
        parquet.write_table(pyarrow.table({"image": chosen}), tmp_path / f"{name}.parquet")
    with pytest.raises(UserError, match=r"1 of 18 images cannot be read: \S*/val.parquet: row 10 \("):
        train(tmp_path, "parquet")
    with pytest.raises(UserError, match=r"1 of 18 images is unusual: \S*/val.parquet: row 11 \(1-channel\)"):
        train(tmp_path, "parquet", unreadable_images="skip", unusual_images="refuse")
    val = open_split(config(tmp_path, "parquet", unreadable_images="skip"), "val")
    report = val.report.record()
    assert len(val) == 11 and (report["used"], report["num_skipped"]) == (17, 1)
    assert report["unusual"]["1-channel"] == {"count": 1, "first": [f"{tmp_path}/val.parquet: row 11"]}
    val = open_split(config(tmp_path, "parquet", unreadable_images="skip", unusual_images="skip"), "val")
    assert len(val) == 10 and val.former_digests == ()
    # All of train and test are copies of images in val.
    assert val.report.duplicates == 6 and len(val.report.leaked) == 6


def test_images_are_looked_at_once_and_bad_ones_again(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "s.tar", [*((f"{n}.png", png(n)) for n in range(9)), ("x.png", b"no image")])
    seen = []
    real = packed_facts.decode
    monkeypatch.setattr(
        packed_facts, "decode", lambda data, *more: (seen.append(len(data.getvalue())), real(data, *more))[1]
    )
    for _ in range(2):
        seen.clear()
        with pytest.raises(UserError, match="s.tar: x.png"):
            train(path)
        assert len(seen) in (10, 1)
    assert seen == [len(b"no image")]
    # Another Pillow reads it.
    monkeypatch.setattr(packed_facts, "decode", lambda data, *more: (None, ()))
    assert train(path).report.used == 10


def test_an_error_of_the_disk_is_not_a_bad_image(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "s.tar", ten())

    def broken(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"Input/output error: '.*s.tar'"):
        patch.setattr(packed_facts.os, "pread", broken)
        write_tar(path, [(f"{n}.png", png(n)) for n in range(10)])
        train(path, unreadable_images="skip")
    assert train(path, unreadable_images="skip").report.used == 10


@pytest.mark.parametrize("checksums", [False, True])
def test_a_damaged_page_names_the_users_file_and_leaves_nothing(tmp_path, checksums):
    write_parquet(tmp_path / "in" / "train.parquet", range(30))
    from pyarrow import parquet

    path = tmp_path / "in" / "train.parquet"
    table = parquet.read_table(path)
    parquet.write_table(
        table, path, write_page_checksum=checksums, row_group_size=10, compression="none", use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    place = (
        data.index(png(25)) + 20
        if checksums
        else parquet.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    )
    data[place : place + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"parquet file .*in/train.parquet: damaged.*copy it again"):
        train(path.parent, "parquet")
    kept = [found.name for found in (tmp_path / "cache").rglob("*") if found.is_file() and found.suffix != ".lock"]
    assert kept == []


@pytest.mark.parametrize("kind", ["tar", "parquet"])
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_are_read_or_refused_in_a_sentence(tmp_path, kind, data):
    path = tmp_path / kind / f"train.{kind}"
    if kind == "tar":
        write_tar(path, ten("json", lambda n: b'{"label": 1}'))
    else:
        write_parquet(path, range(10))
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(len(whole) // 2, 2 * len(whole)))])
    try:
        train(path.parent, "webdataset" if kind == "tar" else kind, unreadable_images="skip")
    except UserError as error:
        assert str(path) in str(error) or str(path.parent) in str(error)


def test_a_download_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    class Answer(io.BytesIO):
        headers = {"Content-Length": "99"}

    monkeypatch.setattr(webdataset.urllib.request, "urlopen", lambda *_, **__: Answer(b"short"))
    with pytest.raises(UserError, match="only 5 of 99 bytes arrived; repeat the command"):
        train("https://example.org/train.tar")
    assert [found.suffix for found in (tmp_path / "cache").rglob("*") if found.is_file()] == [".lock"]


def test_unlabelled_test_files_beside_labelled_ones_are_told_before_training(tmp_path):
    write_shard(tmp_path / "train.tar", range(20))
    write_shard(tmp_path / "test.tar", range(20, 24), label=lambda n: None)
    source = train(tmp_path)
    assert any("test.tar) has no labels" in line for line in source.report.warnings())
    with pytest.raises(UserError, match="split 'test' .*test.tar. has no labels, unlike train"):
        open_split(config(tmp_path), "test")
    # val stays what it is: only labels of -1 tell a test set that is kept secret, whose place val then takes.
    write_shard(tmp_path / "val.tar", range(24, 27))
    assert len(train(tmp_path)) == 20 and len(open_split(config(tmp_path), "val")) == 3
    write_shard(tmp_path / "test.tar", range(20, 24), label=lambda n: -1)
    assert len(train(tmp_path)) == 18 and len(open_split(config(tmp_path), "test")) == 3


def test_splits_by_every_usual_word(tmp_path):
    for number, name in enumerate(("Training/a", "dev/b", "x-testing-0")):
        write_shard(tmp_path / f"{name}.tar", range(10 * number, 10 * number + 10))
    for number, split in enumerate(("train", "val", "test")):
        source = open_split(config(tmp_path), split)
        assert [image.tobytes() for image in pixels(source)] == [picture(10 * number + i).tobytes() for i in range(10)]


def test_what_earlier_versions_called_packed_images(tmp_path):
    """Their digest covered sizes and labels of the train files, and the name of what was held out."""
    write_shard(tmp_path / "train-0.tar", range(20))
    old = hashlib.sha256()
    for array in ([len(png(n)) for n in range(20)], [n % 3 for n in range(20)]):
        old.update(np.array(array, dtype=np.int64).tobytes())
    assert train(tmp_path).former_digests == (f"packed-{old.hexdigest()}/train",)
    assert train(tmp_path, max_images=5).former_digests == (f"packed-{old.hexdigest()}/train/5 images",)
    write_shard(tmp_path / "val-0.tar", range(20, 22))
    write_shard(tmp_path / "test-0.tar", range(22, 24))
    assert train(tmp_path).former_digests == (f"packed-{old.hexdigest()}",)
    assert Path(tmp_path / "cache").is_dir()


@pytest.mark.parametrize("suffix", ["cls", "json"])
def test_a_label_may_have_the_middle_of_its_images_name(tmp_path, suffix):
    """`cat0.v1.png` beside `cat0.v1.cls`: the labels were ignored, and all images were of one class."""
    members = []
    for n in range(10):
        label = str(n % 2) if suffix == "cls" else json.dumps({"label": n % 2})
        members += [(f"cat{n}.v1.png", png(n)), (f"cat{n}.v1.{suffix}", label.encode()), (f"cat{n}.v2.json", b"{}")]
    write_tar(tmp_path / "train.tar", members)
    source = train(tmp_path)
    assert source.class_names == ("0", "1")
    assert sorted(source.labels.tolist())[-1] == 1


def test_a_folder_that_holds_everything_may_have_any_name(tmp_path):
    (tmp_path / "dev").mkdir()
    write_shard(tmp_path / "dev" / "a.tar", range(20))
    assert len(train(tmp_path / "dev")) + 2 * 2 == 20
