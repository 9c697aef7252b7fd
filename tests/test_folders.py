"""What of a folder is used: hidden things, splits, classes; all of it said, nothing left out without a word."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.images import folder as folder_module
from vistok.data.images import inspection, inspection_index
from vistok.data.images.folder import load_folder
from vistok.data.images.open import kind_of, open_split
from vistok.errors import Stopped, UserError
from vistok.origin import Origin
from vistok.recipes import find_recipe
from vistok.scoring.changed_images import changed_images_warnings
from vistok.scoring.image_batch import open_batch
from vistok.verbs import train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

RNG = np.random.default_rng(0)


def config(root, **changes):
    return DataConfig(**{"dataset": "folder", "root": str(root), "image_size": 8, "channels": 3, **changes})


def draw(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)


def fill(root, **counts):
    """Draw so many images in each folder: `fill(root, **{"train/cats": 3})`."""
    for name, count in counts.items():
        draw(*(root / name / f"{i}.png" for i in range(count)))


def parts(root, **changes):
    return {split: open_split(config(root, **changes), split) for split in ("train", "val", "test")}


HIDDEN = (".ipynb_checkpoints", ".thumbnails", ".Trash", "__MACOSX", "$RECYCLE.BIN", "@eaDir")


def hide_things(root):
    draw(*(root / name / "x.png" for name in HIDDEN), *(root / "cats" / name / "x.png" for name in HIDDEN))
    (root / "cats" / "._0.png").write_bytes(b"resource fork")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / "cats" / name).write_bytes(b"?")


def test_hidden_files_and_folders_are_no_images_and_no_classes(tmp_path):
    fill(tmp_path, cats=10, dogs=10)
    before = parts(tmp_path)["train"]
    hide_things(tmp_path)
    found = parts(tmp_path)
    assert sum(map(len, found.values())) == 20 and found["train"].digest == before.digest
    assert found["train"].class_names == ("cats", "dogs")
    report = found["train"].report
    assert report.record()["hidden"] == 16 and report.record()["ignored"] == {}
    assert report.warnings() == []


def test_hidden_files_and_folders_are_no_samples_and_no_archives(tmp_path):
    fill(tmp_path, cats=4)
    hide_things(tmp_path)
    assert open_batch(tmp_path).count == 4
    (tmp_path / "__MACOSX" / "._train.tar").write_bytes(b"")
    (tmp_path / "cats" / "._train.parquet").write_bytes(b"")
    assert kind_of(str(tmp_path)) == "folder"
    (tmp_path / "cats" / "train.parquet").write_bytes(b"")
    assert kind_of(str(tmp_path)) == "parquet"


def test_what_is_ignored_is_counted_by_suffix(tmp_path):
    fill(tmp_path, cats=10)
    for name in ("a.txt", "B.TXT", "c.csv", "README"):
        (tmp_path / "cats" / name).write_text("?")
    report = load_folder(config(tmp_path), "train").report
    assert report.record()["ignored"] == {".txt": 2, ".csv": 1, "without a suffix": 1}
    assert report.warnings() == ["ignored 4 files: 2 .txt, 1 .csv, 1 without a suffix"]


@pytest.mark.parametrize("suffix", ["jfif", "JPE", "avif", "jp2", "pbm"])
def test_all_that_pillow_reads_counts(suffix, tmp_path):
    fill(tmp_path, cats=9)
    try:
        draw(tmp_path / "cats" / f"photo.{suffix}")
    except (OSError, KeyError):
        pytest.skip("this Pillow does not write it")
    assert load_folder(config(tmp_path), "train").report.found == 10


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "valid", "test"),
        ("Train", "dev", "Test"),
        ("Training", "validation", "Testing"),
        ("TRAIN", "Val", "TEST"),
    ],
)
def test_folders_of_splits_by_any_of_their_names(train, val, test, tmp_path):
    fill(tmp_path, **{f"{train}/cats": 3, f"{train}/dogs": 3, f"{val}/cats": 2, f"{test}/dogs": 1})
    found = parts(tmp_path)
    assert {name: len(source) for name, source in found.items()} == {"train": 6, "val": 2, "test": 1}
    assert all(source.class_names == ("cats", "dogs") for source in found.values())
    assert found["test"].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (
            {"train/a": 3, "extra/a": 2, "more": 1},
            "2 images in 'extra', 1 image in 'more' are in no split, although there is a folder 'train'",
        ),
        ({"train/a": 3, ".": 1}, "1 image beside the folders .such as '0.png'. is in no split"),
        ({"train/a": 3, "valid/a": 1, "val/a": 1}, "both 'val' and 'valid' mean val"),
        ({"train/a": 3, "Train/a": 1}, "both 'Train' and 'train' mean train"),
        (
            {"train/a": 3, "train/b": 3, "test": 4},
            "4 images of split 'test' are not in class folders .such as 'test/0.png'",
        ),
        ({"train/a": 3, "train/b": 3, "val/c": 4}, "split 'val' has classes that train does not have: c"),
        ({"train/a": 3, "val": 0}, "split 'val' is empty, as no image in 'val' can be used"),
        ({"a": 3, "b": 3, "dev/c": 1}, "split 'val' has classes that train does not have: c"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_what_is_wrong_with_any_split_shows_whichever_is_opened(counts, words, split, tmp_path):
    fill(tmp_path, **counts)
    for name in counts:
        (tmp_path / name).mkdir(exist_ok=True)
    with pytest.raises(UserError, match=words):
        load_folder(config(tmp_path), split)


def test_a_split_that_skipping_leaves_empty(tmp_path):
    fill(tmp_path, **{"train/a": 12, "val/a": 1})
    (tmp_path / "val" / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="split 'val' is empty, as no image in 'val' can be used"):
        load_folder(config(tmp_path, unreadable_images="skip"), "train")


def test_used_counts_what_is_in_a_split_and_can_be_used(tmp_path):
    fill(tmp_path, **{"train/a": 12, "valid/a": 3})
    (tmp_path / "valid" / "a" / "0.png").write_bytes(b"no image")
    report = load_folder(config(tmp_path, unreadable_images="skip"), "train").report
    assert (report.found, report.used, len(report.skipped)) == (15, 14, 1)


def test_names_of_any_bytes(tmp_path):
    fill(tmp_path, cats=10)
    odd = os.fsdecode(b"b\xff\xfe")
    try:
        shutil.move(tmp_path / "cats" / "0.png", tmp_path / "cats" / f"{odd}.png")
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    first, again = (parts(tmp_path) for _ in range(2))  # the second from the index
    assert sum(map(len, first.values())) == 10
    assert [source.digest for source in first.values()] == [source.digest for source in again.values()]


def test_a_folder_whose_name_is_not_utf8_has_one_sentence():
    root = os.fsdecode(b"bilder-\xe4")
    for assignment in (f"data.root={root}", f"data.root={json.dumps(root)}"):
        with pytest.raises(UserError, match="not UTF-8.*another name, or a link"):
            override(find_recipe("images64_vq", "tokenizer"), [assignment])


def test_runs_among_the_pictures_are_no_class(tmp_path):
    """Whoever works inside a folder of pictures has its runs there, with sheets of pictures that were made."""
    fill(tmp_path, cats=5, dogs=5)
    run = tmp_path / "runs" / "images64-vq-1"
    draw(run / "samples" / "reconstructions-00000300.png")
    for name in ("config.json", "resolved.json", "provenance.json"):
        (run / name).write_text("{}")
    train = load_folder(config(tmp_path), "train")
    assert train.class_names == ("cats", "dogs") and train.report.found == 10
    assert [line for line in train.report.warnings() if "runs" in line] == [
        "left out runs: vistok's runs are there, whose sheets are not pictures to learn from"
    ]
    shutil.rmtree(run)
    (tmp_path / "runs" / "start-photos-1m").mkdir()
    (tmp_path / "runs" / "start-photos-1m" / "plan.json").write_text("{}")
    assert load_folder(config(tmp_path), "train").class_names == ("cats", "dogs")
    draw(tmp_path / "runs" / "athletes.png")  # of no vistok: pictures of runs are a class as any other
    shutil.rmtree(tmp_path / "runs" / "start-photos-1m")
    assert load_folder(config(tmp_path), "train").class_names == ("cats", "dogs", "runs")


def test_scores_of_pictures_that_may_have_been_learned_say_so(tmp_path):
    fill(tmp_path, cats=20, dogs=20)
    train, data = load_folder(config(tmp_path), "train"), config(tmp_path)
    trained = Origin(data_digest=train.digest)
    assert changed_images_warnings(data, trained) == [] == changed_images_warnings(data, Origin())
    (tmp_path / "cats").rename(tmp_path / "kittens")
    (warning,) = changed_images_warnings(data, trained)
    assert "are not those of the training" in warning and "--data" in warning


def test_a_cache_of_pictures_that_were_not_learned_says_so(tmp_path, monkeypatch, quiet):
    """Called from a folder that has another "photos", it took those without a word."""
    lines = []
    monkeypatch.setattr(quiet, "say", lines.append)
    for place, count in (("one", 12), ("two", 14)):
        fill(tmp_path / place / "photos", cats=count, dogs=count)
    monkeypatch.chdir(tmp_path / "one")
    small = ["data.dataset=folder", "data.root=photos", "data.image_size=28", "data.channels=1", "length=2 steps"]
    run = train_tokenizer.prepare(override(find_recipe("debug_vq"), small), tmp_path / "runs").train(quiet)
    monkeypatch.chdir(tmp_path / "two")
    cache_tokens(run.path, "train", quiet, tmp_path / "other")
    assert any("the pictures in photos are not those of the training" in line for line in lines)
    lines.clear()
    cache_tokens(run.path, "train", quiet, tmp_path / "asked", root="photos")  # by name: somebody wants these
    monkeypatch.chdir(tmp_path / "one")
    cache_tokens(run.path, "train", quiet)
    assert not [line for line in lines if "not those" in line]


def test_a_run_of_a_folder_that_has_changed_says_that_it_begins_anew(tmp_path, monkeypatch, quiet):
    lines = []
    monkeypatch.setattr(quiet, "say", lines.append)
    fill(tmp_path / "photos", cats=12, dogs=12)
    small = [
        "data.dataset=folder",
        f"data.root={tmp_path}/photos",
        "data.image_size=28",
        "data.channels=1",
        "length=2 steps",
    ]
    config = override(find_recipe("debug_vq"), small)
    run = train_tokenizer.prepare(config, tmp_path / "runs").train(quiet)
    next((tmp_path / "photos" / "cats").iterdir()).unlink()
    train_tokenizer.prepare(config, tmp_path / "runs").train(quiet)
    assert any(f"{run.path} has the same settings and was made of other pictures" in line for line in lines)


def test_a_class_of_few_pictures_is_learned(tmp_path):
    fill(tmp_path, **{f"rare{i}": 1 for i in range(8)}, usual=20)
    splits = parts(tmp_path)
    assert set(splits["train"].labels) == set(range(9))
    assert all(len(splits[name]) for name in ("val", "test")) and sum(map(len, splits.values())) == 28


def test_another_file_of_the_same_size_and_time_is_noticed(tmp_path):
    for number in range(6):
        Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / f"{number}.bmp")
        os.utime(tmp_path / f"{number}.bmp", ns=(0, 0))
    before = load_folder(config(tmp_path), "train").digest
    for number in range(6):
        file = tmp_path / f"{number}.bmp"
        file.unlink()
        Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(file)
        os.utime(file, ns=(0, 0))
    assert load_folder(config(tmp_path), "train").digest != before


def test_links_that_lead_to_each_other(tmp_path):
    fill(tmp_path, a=5, b=5)
    (tmp_path / "a" / "more").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "more").symlink_to(tmp_path / "a")
    with pytest.raises(UserError, match="a/more/more .a symbolic link that leads in a circle"):
        load_folder(config(tmp_path), "train")
    assert load_folder(config(tmp_path, unreadable_images="skip"), "train").report.used == 20


def test_a_failing_disk_is_not_a_damaged_image(tmp_path, monkeypatch):
    fill(tmp_path, cats=10)
    read = inspection.file_bytes

    def failing(path):
        if path.name == "3.png":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(path)

    monkeypatch.setattr(inspection, "file_bytes", failing)
    monkeypatch.setattr("vistok.data.images.image_file.file_bytes", failing)
    for choice in ("refuse", "skip"):
        with pytest.raises(
            UserError, match="image .*cats/3.png: cannot be read .Input/output error.. This says nothing"
        ):
            load_folder(config(tmp_path, unreadable_images=choice), "train")
    monkeypatch.undo()
    source = load_folder(config(tmp_path), "train")
    assert source.report.found == 10
    monkeypatch.setattr("vistok.data.images.image_file.file_bytes", failing)
    with pytest.raises(UserError, match="image .*cats/3.png: cannot be read .Input/output error.. This says nothing"):
        [part.read(i) for part in parts(tmp_path).values() for i in range(len(part))]


def test_a_failing_disk_is_not_an_empty_folder(tmp_path, monkeypatch):
    fill(tmp_path, cats=10, dogs=10)
    scan = os.scandir

    def failing(path):
        if str(path).endswith("dogs"):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(UserError, match="^folder .*/dogs: cannot be read .Input/output error.. This says nothing"):
        load_folder(config(tmp_path, unreadable_images="skip"), "train")


def test_what_could_not_be_read_is_tried_again(tmp_path, monkeypatch):
    fill(tmp_path, cats=10)
    read = inspection.file_bytes

    def closed(path):
        if path.name == "3.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(inspection, "file_bytes", closed)
    with pytest.raises(UserError, match="1 of 10 images cannot be read: cats/3.png .Permission denied"):
        load_folder(config(tmp_path), "train")
    monkeypatch.undo()  # its owner opened it: its time of change is what it was
    assert load_folder(config(tmp_path), "train").report.used == 10


def test_a_look_that_is_stopped_goes_on(tmp_path, monkeypatch):
    fill(tmp_path, cats=10)
    looked = []
    decode = inspection.decode

    def counted(data, channels, size):
        looked.append(data)
        if len(looked) == 6:
            raise Stopped
        return decode(data, channels, size)

    monkeypatch.setattr(inspection.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(inspection, "decode", counted)
    with pytest.raises(Stopped):
        load_folder(config(tmp_path), "train")
    del looked[:]
    looked.extend([None] * 10)
    assert load_folder(config(tmp_path), "train").report.used == 10
    assert len(looked) == 10 + 5  # five of them were done


def test_the_index_holds_what_was_put_in_and_forgets_what_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection_index, "SAVE_EVERY", 3)
    facts = {
        f"n/{i}.png": inspection_index.FileFacts(f"{i:064x}", ("CMYK",) if i % 2 else (), None, i) for i in range(8)
    }
    stamps = np.array([[i, 100 + i] for i in range(8)])
    for chosen in (range(5), range(3, 8)):
        with inspection_index.open_index(tmp_path, 3, 8) as index:
            for i in chosen:
                index.add(f"n/{i}.png", stamps[i].tolist(), facts[f"n/{i}.png"])
    with inspection_index.open_index(tmp_path, 3, 8) as index:
        assert index.known([*facts, "n/9.png"], np.concatenate([stamps, [[9, 109]]])) == facts
        stamps[2, 1] += 1
        assert "n/2.png" not in index.known(list(facts), stamps)


class CountedName(str):
    lowered = 0

    def lower(self):
        CountedName.lowered += 1
        return super().lower()


def test_classes_are_compared_once_each():
    """Of 10,000 classes every opening took a minute."""
    names = [CountedName(f"class{i}") for i in range(500)]
    assert folder_module._alike([*names, CountedName("Class7")]) == ["Class7", "class7"]
    assert CountedName.lowered == 501


def test_labels_of_many_classes(tmp_path):
    fill(tmp_path, **{f"{i:03d}": 2 for i in range(60)})
    source = load_folder(config(tmp_path), "train")
    assert [source.class_names[label] for label in source.labels] == [name.split("/")[0] for name in source.files]


def imagenet(root, per_class=20):
    for split in ("train", "val"):
        for wnid in ("n01440764", "n01443537"):
            draw(*(root / split / wnid / f"{wnid}_{i}.JPEG" for i in range(per_class)))


def test_images_of_imagenet_are_looked_at(tmp_path):
    imagenet(tmp_path)
    hide_things(tmp_path / "train")
    shutil.rmtree(tmp_path / "train" / "cats")
    (tmp_path / "train" / "n01440764" / "notes.txt").write_text("?")
    bad = tmp_path / "val" / "n01440764" / "n01440764_3.JPEG"
    bad.write_bytes(b"no image")
    with pytest.raises(UserError, match=f"ImageNet .*: 1 of 80 images cannot be read: {bad.relative_to(tmp_path)} "):
        open_split(config(tmp_path, dataset="imagenet"), "train")
    found = parts(tmp_path, dataset="imagenet", unreadable_images="skip")
    assert {name: len(source) for name, source in found.items()} == {"train": 36, "val": 4, "test": 39}
    record = found["train"].report.record()
    assert (record["found"], record["used"], record["num_skipped"]) == (80, 79, 1)
    assert record["ignored"] == {".txt": 1} and record["hidden"] == len(HIDDEN)
    Image.new("CMYK", (9, 9)).save(bad)
    with pytest.raises(UserError, match="images (is|are) unusual: .*_3.JPEG .CMYK"):
        open_split(config(tmp_path, dataset="imagenet", unusual_images="refuse"), "test")


def test_imagenet_beside_its_class_folders(tmp_path):
    imagenet(tmp_path, per_class=2)
    draw(tmp_path / "train" / "loose.JPEG")
    with pytest.raises(UserError, match="1 image is beside the class folders, such as 'loose.JPEG'"):
        open_split(config(tmp_path, dataset="imagenet"), "train")
