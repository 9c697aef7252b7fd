"""Sources, splits, order, token caches."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vistok.data.config import DataConfig
from vistok.data.images.folder import load_folder
from vistok.data.images.image_file import read_image
from vistok.data.images.open import open_split
from vistok.data.images.transforms import prepare, to_float, to_uint8
from vistok.data.latents.cache import LatentCache, LatentManifest, token_dtype
from vistok.data.latents.writer import LatentCacheWriter
from vistok.data.loader import eval_images, train_images, train_latents
from vistok.data.sampler import ShuffledStream
from vistok.errors import UserError
from vistok.space import Vectors, grid


def test_fashion_mnist_splits(fashion_root):
    config = DataConfig(root=str(fashion_root))
    splits = {name: open_split(config, name) for name in ("train", "val", "test")}
    assert {name: len(source) for name, source in splits.items()} == {"train": 50_000, "val": 10_000, "test": 10_000}
    assert np.bincount(splits["val"].labels).tolist() == [1000] * 10
    assert splits["train"].class_names[9] == "Ankle boot"
    assert len({source.digest for source in splits.values()}) == 3
    # No image of val is in train: first pixels as a cheap key, then the whole.
    train = {image.tobytes() for image in splits["train"].images}
    shared = sum(image.tobytes() in train for image in splits["val"].images)
    assert shared < 10  # the data set itself has a few doubles


def test_fashion_mnist_says_both_ways_when_neither_works(tmp_path, monkeypatch):
    from vistok.data.images import fashion_mnist

    def fail(scratch):
        raise OSError("no network here")

    monkeypatch.setattr(fashion_mnist, "_from_torchvision", fail)
    monkeypatch.setattr(fashion_mnist, "_from_debian", fail)
    with pytest.raises(UserError) as error:
        fashion_mnist.prepare(tmp_path)
    for word in ("torchvision's download", "dataset-fashion-mnist", "no network here", str(tmp_path)):
        assert word in str(error.value)


def test_fashion_mnist_takes_packed_files_put_there_by_hand(tmp_path, fashion_root, monkeypatch):
    import gzip

    from vistok.data.images import fashion_mnist

    monkeypatch.setattr(fashion_mnist, "_from_torchvision", lambda scratch: pytest.fail("asked the network"))
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for name in fashion_mnist.DIGESTS:
        data = (fashion_root / "fashion-mnist" / name).read_bytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(data, compresslevel=1))
    assert len(fashion_mnist.load(tmp_path, "test")) == 10_000


def test_fashion_mnist_refuses_altered_files(tmp_path, fashion_root):
    from vistok.data.images import fashion_mnist

    copy = tmp_path / "found"
    shutil.copytree(fashion_root / "fashion-mnist", copy)
    file = copy / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))
    with pytest.raises(OSError, match="t10k-labels-idx1-ubyte differs"):
        fashion_mnist._install(copy, tmp_path / "out")
    shutil.move(copy, tmp_path / "fashion-mnist")
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte differs from the published file; delete it"):
        fashion_mnist.load(tmp_path, "test")


def photos(root, **changes):
    return DataConfig(dataset="folder", root=str(root), image_size=16, channels=3, **changes)


def test_folder_with_classes_is_split_the_same_way_every_time(photo_folder):
    parts = {name: load_folder(photos(photo_folder), name) for name in ("train", "val", "test")}
    assert parts["train"].class_names == ("circles", "stripes", "waves")
    assert [len(parts[name]) for name in ("train", "val", "test")] == [72, 9, 9]
    names = [set(part.files) for part in parts.values()]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    assert parts["train"].files == load_folder(photos(photo_folder), "train").files
    for part in parts.values():
        assert all(
            part.class_names[label] == file.split("/")[0] for label, file in zip(part.labels, part.files, strict=True)
        )


def test_flat_folder_and_given_splits(photo_folder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, file in enumerate(sorted((photo_folder / "waves").iterdir())):
        shutil.copy(file, flat / f"{i}{file.suffix}")
    source = load_folder(photos(flat), "train")
    assert source.class_names == ("all",) and set(source.labels) == {0}

    given = tmp_path / "given"
    shutil.copytree(photo_folder, given / "train")
    shutil.copytree(photo_folder / "waves", given / "test" / "waves")
    assert len(load_folder(photos(given), "test")) == 30
    assert set(load_folder(photos(given), "test").labels) == {2}
    train, val = load_folder(photos(given), "train"), load_folder(photos(given), "val")
    assert len(train) + len(val) == 90 and not set(train.files) & set(val.files)


def test_given_test_images_without_a_train_folder_stay_out_of_train(photo_folder, tmp_path):
    shutil.copytree(photo_folder, tmp_path / "x")
    shutil.copytree(photo_folder / "waves", tmp_path / "x" / "test" / "waves")
    train, test = (load_folder(photos(tmp_path / "x"), split) for split in ("train", "test"))
    assert train.class_names == ("circles", "stripes", "waves") == test.class_names
    assert not any(name.startswith("test") for name in train.files)
    assert len(test) == 30


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named_in_one_sentence(workers, photo_folder, tmp_path):
    shutil.copytree(photo_folder / "waves", tmp_path / "x")
    for file in (tmp_path / "x").iterdir():
        file.write_bytes(b"broken")
    config = DataConfig(dataset="folder", root=str(tmp_path / "x"), image_size=16, channels=3)
    with pytest.raises(UserError) as error:
        next(train_images(open_split(config, "train"), config, 0, 4, range(2), workers=workers))
    assert "cannot be read" in str(error.value) and "Traceback" not in str(error.value)


@pytest.mark.parametrize("case", ["missing", "empty", "mixed", "broken"])
def test_bad_folders(case, tmp_path, photo_folder):
    root = tmp_path / "x"
    if case != "missing":
        root.mkdir()
    if case == "mixed":
        shutil.copytree(photo_folder / "waves", root / "waves")
        shutil.copy(next((photo_folder / "waves").iterdir()), root / "loose.png")
    if case == "broken":
        for i in range(4):
            (root / f"{i}.png").write_bytes(b"not an image")
    words = {
        "missing": "not found",
        "empty": "no images found",
        "mixed": "beside the class folders",
        "broken": "cannot be read",
    }
    with pytest.raises(UserError, match=words[case]):
        load_folder(photos(root), "train").read(0)


def test_image_modes(tmp_path):
    base = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"):
        image = (
            Image.fromarray((np.arange(48).reshape(6, 8) * 1300).astype(np.uint16))
            if mode == "I;16"
            else base.convert(mode)
        )
        path = tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}"
        image.save(path)
        for channels in (1, 3):
            assert read_image(path, channels, 4).shape == (6, 8, channels), mode
            assert read_image(path, channels, 4).dtype == np.uint8
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate
    base.convert("RGB").save(turned, exif=exif)
    assert read_image(turned, 3, 4).shape == (8, 6, 3)


def test_large_jpegs_are_decoded_small_but_not_too_small(tmp_path):
    y, x = np.mgrid[:1600, :2400]
    Image.fromarray(np.stack([x // 10, y // 7, (x + y) // 16], -1).astype(np.uint8)).save(tmp_path / "big.jpg")
    image = read_image(tmp_path / "big.jpg", 3, 64)
    assert 128 <= min(image.shape[:2]) < 400
    config = DataConfig(dataset="folder", image_size=64, channels=3)
    whole = prepare(read_image(tmp_path / "big.jpg", 3, 1600), config, None)
    difference = np.abs(whole.astype(int) - prepare(image, config, None).astype(int))
    assert difference.mean() < 1


def test_dark_16_bit_images_stay_dark(tmp_path):
    Image.fromarray(np.full((4, 4), 6_553, dtype=np.uint16)).save(tmp_path / "dark.png")
    assert read_image(tmp_path / "dark.png", 1, 4).max() == 25


def test_uint8_round_trip():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(images)), images)
    assert to_float(images).min() == -1 and to_float(images).max() == 1
    assert to_uint8(torch.tensor([[[-3.0, 3.0]]])).flatten().tolist() == [0, 255]


def test_prepare_crops_the_centre_and_augments_by_generator():
    config = DataConfig(dataset="folder", image_size=16, channels=3, crop_scale=0.5, horizontal_flip=True)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    still = prepare(image, config, None)
    assert still.shape == (16, 16, 3)
    cropped = np.asarray(Image.fromarray(image[:, 10:50]).resize((16, 16), Image.Resampling.BICUBIC))
    # Next to the cut the resize sees the pixels beyond it, which a crop before it would not.
    np.testing.assert_array_equal(still[:, 2:-2], cropped[:, 2:-2])
    draws = [prepare(image, config, np.random.default_rng(s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_stream_starts_anywhere_and_each_pass_is_a_permutation():
    stream = ShuffledStream(13, seed=5)
    walked = [stream[p] for p in range(40)]
    assert sorted(walked[:13]) == sorted(walked[13:26]) == list(range(13))
    assert walked[:13] != walked[13:26]
    assert [ShuffledStream(13, seed=5)[p] for p in (39, 3, 20)] == [walked[39], walked[3], walked[20]]


def test_batches_do_not_depend_on_workers_or_start(photo_folder):
    config = DataConfig(
        dataset="folder", root=str(photo_folder), image_size=16, channels=3, crop_scale=0.7, horizontal_flip=True
    )
    source = open_split(config, "train")
    plain = list(train_images(source, config, 3, 10, range(12)))
    workers = list(train_images(source, config, 3, 10, range(12), workers=2))
    later = list(train_images(source, config, 3, 10, range(9, 12)))
    for a, b in zip(plain, workers, strict=True):
        assert torch.equal(a["images"], b["images"]) and torch.equal(a["labels"], b["labels"])
    for a, b in zip(plain[9:], later, strict=True):
        assert torch.equal(a["images"], b["images"])
    assert sum(len(batch["labels"]) for batch in eval_images(source, config, 50)) == len(source)


def test_loading_does_not_touch_the_global_generator(photo_folder):
    config = DataConfig(dataset="folder", root=str(photo_folder), image_size=16, channels=3)
    source = open_split(config, "train")
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    next(train_images(source, config, 0, 4, range(2)))
    assert torch.equal(torch.rand(2), expected)


def manifest(**changes):
    values = {"tokenizer_digest": "t", "grid": (2, 3), "codebook_size": 70_000, "dataset": "d", "data_digest": "x",
              "split": "train", "num_images": 7, "class_names": ("a", "b")}  # fmt: skip
    return LatentManifest(**(values | changes))


def write_cache(folder, tokens, stop_after=None, **changes):
    writer = LatentCacheWriter(folder, manifest(**changes), 3)
    writer.prepare(np.arange(7) % 2)
    for number in writer.missing():
        if stop_after is not None and number * 3 >= stop_after:
            return writer.close()
        writer.write(number, tokens[number * 3 : number * 3 + 3], 0.5)
    return writer.finish()


def test_token_cache_round_trip_with_views(tmp_path):
    tokens = torch.randint(70_000, (14, 6), generator=torch.Generator().manual_seed(0))
    cache = write_cache(tmp_path / "c", tokens, views=("center", "flip"))
    assert cache.latents.dtype == np.uint32 and token_dtype(65_536) is np.uint16
    batch = cache.batch([0, 13, 5])
    assert torch.equal(batch["latents"], tokens[[0, 13, 5]])
    assert batch["labels"].tolist() == [0, 0, 0]
    drawn = list(train_latents(cache, 0, 7, range(30)))
    rows = {tuple(row) for batch in drawn for row in batch["latents"].tolist()}
    assert len(rows) == 14  # every view turns up
    again = list(train_latents(cache, 0, 7, range(25, 30)))
    assert torch.equal(again[0]["latents"], drawn[25]["latents"])


def test_vectors_that_a_cache_cannot_hold_are_refused(tmp_path):
    of_vectors = manifest().model_copy(update={"space": Vectors(layout=grid(2, 3), dim=1)})
    writer = LatentCacheWriter(tmp_path / "c", of_vectors, 3)
    writer.prepare(np.arange(7) % 2)
    writer.write(0, torch.full((3, 6, 2), 65_504.0), 0.1)
    for value in (1e18, float("nan")):
        with pytest.raises(UserError, match=r"numbers up to (1e\+18|nan), and caches \(float16\) up to 65504"):
            writer.write(1, torch.full((3, 6, 2), value), 0.1)
    assert writer.missing() == [1, 2]


def test_stopped_cache_goes_on_and_is_not_taken_for_whole(tmp_path):
    tokens = torch.randint(70_000, (7, 6), generator=torch.Generator().manual_seed(0))
    write_cache(tmp_path / "c", tokens, stop_after=3)
    with pytest.raises(UserError, match="no manifest"):
        LatentCache(tmp_path / "c")
    writer = LatentCacheWriter(tmp_path / "c", manifest(), 3)
    assert writer.missing() == [1, 2]
    cache = write_cache(tmp_path / "c", tokens)
    assert torch.equal(cache.batch(range(7))["latents"], tokens) and cache.seconds == 1.5
    assert sorted(file.name for file in (tmp_path / "c").iterdir()) == [
        "labels.npy", "manifest.json", "tokens.npy", "written.json"
    ]  # fmt: skip
    write_cache(tmp_path / "d", tokens, stop_after=3)
    other = LatentCacheWriter(tmp_path / "d", manifest(tokenizer_digest="other"), 3)
    other.prepare(np.arange(7) % 2)
    assert other.missing() == [0, 1, 2]


def test_pieces_may_come_in_any_order_and_damaged_ones_are_made_again(tmp_path):
    tokens = torch.randint(70_000, (7, 6), generator=torch.Generator().manual_seed(0))
    writer = LatentCacheWriter(tmp_path / "c", manifest(), 3)
    writer.prepare(np.arange(7) % 2)
    for number in (2, 0, 1):
        writer.write(number, tokens[number * 3 : number * 3 + 3], 0.1)
    piece = tmp_path / "c.partial" / "pieces" / "00000001.npy"
    piece.write_bytes(piece.read_bytes()[:-5])
    assert writer.missing() == [1]
    with pytest.raises(ValueError, match="piece 1 has shape"):
        writer.write(1, tokens[:2], 0.1)
    writer.write(1, tokens[3:6], 0.1)
    assert torch.equal(writer.finish().batch(range(7))["latents"], tokens)


def test_two_writers_of_one_cache(tmp_path):
    first, second = (LatentCacheWriter(tmp_path / "c", manifest(), 3) for _ in range(2))
    first.prepare(np.arange(7) % 2)
    with pytest.raises(UserError, match="another process is writing it"):
        second.prepare(np.arange(7) % 2)
    first.close()
    second.prepare(np.arange(7) % 2)


@pytest.mark.parametrize("name", ["tokens.npy", "labels.npy"])
def test_a_flipped_bit_in_a_cache_is_noticed(name, tmp_path):
    cache = write_cache(tmp_path / "c", torch.zeros(7, 6, dtype=torch.int64))
    assert cache.verify() is cache
    file = tmp_path / "c" / name
    data = bytearray(file.read_bytes())
    data[-8] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        LatentCache(tmp_path / "c").verify()


def test_labels_out_of_range_in_a_cache(tmp_path):
    write_cache(tmp_path / "c", torch.zeros(7, 6, dtype=torch.int64))
    np.save(tmp_path / "c" / "labels.npy", np.full(7, 2))
    with pytest.raises(UserError, match=r"labels must lie in 0\.\.\.1, found 2\.\.\.2"):
        LatentCache(tmp_path / "c")


def test_cache_of_another_tokenizer_or_damaged_is_refused(tmp_path):
    cache = write_cache(tmp_path / "c", torch.zeros(7, 6, dtype=torch.int64))
    with pytest.raises(UserError, match="tokenizer_digest is 't', this run needs 'u'"):
        cache.require(tokenizer_digest="u")
    file = tmp_path / "c" / "tokens.npy"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged"):
        LatentCache(tmp_path / "c")
    stored = json.loads((tmp_path / "c" / "manifest.json").read_text())
    (tmp_path / "c" / "manifest.json").write_text(json.dumps(stored | {"schema_version": 9}))
    with pytest.raises(UserError, match="schema version 9"):
        LatentCache(tmp_path / "c")
    (tmp_path / "c" / "manifest.json").write_text('{"schema')
    with pytest.raises(UserError, match="manifest.json.* damaged"):
        LatentCache(tmp_path / "c")
