"""Images as Python holds them: what is taken, what is refused by name, and what is kept of them for other verbs."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset, TensorDataset

from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.errors import UserError
from vistok.python.given import given
from vistok.python.given_labels import class_numbers, label_list
from vistok.python.images import Images, Reconstructions
from vistok.python.kept_images import keep
from vistok.python.settings import assignments
from vistok.python.stored_png import png_of

RANDOM = np.random.default_rng(0)
GREY, COLOUR = (RANDOM.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 9, 7), (40, 9, 7, 3)))


class Pairs:
    """A data set of (image, label) with names for the labels, as torchvision's are."""

    classes = ["dog/wolf", "ant"]

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Image.fromarray(self.images[index]), int(self.labels[index])


@pytest.mark.parametrize(
    "images",
    [
        COLOUR,
        np.moveaxis(COLOUR, 3, 1),
        torch.from_numpy(COLOUR),
        torch.from_numpy(np.moveaxis(COLOUR, 3, 1).copy()),
        list(COLOUR),
        [Image.fromarray(image) for image in COLOUR],
        tuple(torch.from_numpy(image).permute(2, 0, 1) for image in COLOUR),
        [(image, 3) for image in COLOUR],
        [{"img": Image.fromarray(image), "label": 1} for image in COLOUR],
        TensorDataset(torch.from_numpy(COLOUR).permute(0, 3, 1, 2)),
        Pairs(COLOUR, np.zeros(40)),
    ],
    ids=lambda images: type(images).__name__,
)
def test_all_forms_give_the_same_pixels(images):
    np.testing.assert_array_equal(given(images).stacked(), COLOUR)


def test_grey_images_keep_their_one_channel():
    for images in (
        GREY,
        torch.from_numpy(GREY),
        list(GREY),
        GREY[..., None],
        [Image.fromarray(image) for image in GREY],
    ):
        np.testing.assert_array_equal(given(images).stacked(), GREY[..., None])
    white = Image.new("RGBA", (4, 5))  # all transparent, on white
    np.testing.assert_array_equal(given([white]).stacked(), np.full((1, 5, 4, 3), 255, np.uint8))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (COLOUR / 255.0, r'images: float64 from 0 to 1; .*\(images \* 255\).round\(\).astype\("uint8"\)'),
        (torch.from_numpy(COLOUR / 127.5 - 1), r"float64 from -1 to 1; .*\(\(images \+ 1\) \* 127.5\).round\(\).to\(torch.uint8\)"),
        (COLOUR.astype(np.float32), r'float32 from 0 to 255; .*images.round\(\).astype\("uint8"\)'),
        (COLOUR.astype(int), r'int64 from 0 to 255; .*images.astype\("uint8"\)'),
        (COLOUR.astype(int) * 9, "scale them to that range"),
        (COLOUR > 9, r"bool; .* \* 255"),
        (np.full((2, 4, 4), np.nan), "float64 with NaN"),
        (np.array([["a"]]), "<U1; vistok takes uint8"),
        (np.zeros((0, 4, 4), np.uint8), r"empty, of shape \(0, 4, 4\)"),
        ([], "empty"),
        (np.zeros((4, 4), np.uint8), r"have the shape \(4, 4\)"),
        (np.zeros((64, 64, 3), np.uint8), r"may be one image or several; give one as images\[None\]"),
        (np.zeros((5, 8, 8, 4), np.uint8), r"fourth channel; .*images\[\.\.\., :3\]"),
        (np.zeros((5, 8, 8, 7), np.uint8), "neither end is 1 or 3 channels"),
        ([COLOUR[0], COLOUR[1] / 255.0], r"image 1: float64 from 0 to 0.99.*; .*\(image \* 255\)"),
        (["a.png"], "image 0 is of type str; .*path of their folder"),
        (DataLoader(TensorDataset(torch.zeros(2))), "DataLoader .*give its data set"),
        (iter([1]), r"give list\(images\)"),
        ({"image": 1}, "type dict: wanted an array"),
        (3, "type int: wanted an array"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_other_things_are_refused_by_name(images, sentence):
    with pytest.raises(UserError, match=sentence):
        given(images).stacked()


def test_one_size_is_asked_for_where_it_matters():
    with pytest.raises(UserError, match=r"image 1 is \(4, 4, 1\), image 0 is \(9, 7, 1\)"):
        given([GREY[0], GREY[0][:4, :4]]).stacked()


def test_labels_become_classes_whose_order_is_kept():
    def found(labels, classes=None):
        numbers, names = class_numbers(labels, classes)
        return numbers.tolist(), names

    assert found([0, 1, 1]) == ([0, 1, 1], ("0", "1"))
    assert found([7, 3, 7]) == ([1, 0, 1], ("3", "7"))  # numbers with gaps are names
    assert found([10, 9, 0]) == ([2, 1, 0], ("0", "9", "10"))
    assert found(["b", "a", "b"]) == ([1, 0, 1], ("a", "b"))
    assert found([1, 0], ["dog", "ant"]) == ([1, 0], ("dog", "ant"))
    assert found(["ant", "dog"], ["dog", "ant"]) == ([1, 0], ("dog", "ant"))
    assert found([torch.tensor(1), np.int64(0)]) == ([1, 0], ("0", "1"))
    assert found([None, None]) == ([0, 0], ())
    assert label_list(torch.tensor([1, 0]), 2) == [1, 0] and label_list(["a"], 1) == ["a"]
    # Numbers among names stay numbers, which is a mistake that is named.
    assert label_list(["cat", 1], 2) == ["cat", 1] and label_list(np.array(["a", "b"]), 2) == ["a", "b"]


@pytest.mark.parametrize(
    ("labels", "classes", "sentence"),
    [
        ([0, 2], ["a", "b"], "go up to 2, but classes has only 2 names: a, b"),
        (["a", "cut"], ["a", "cat"], "'cut' is not in classes: a, cat. Did you mean 'cat'"),
        ([0.5, 1], None, "label 0 is 0.5, a float; .*labels.astype"),
        ([-1, 0], None, "-1 is not a class"),
        ([0, "a"], None, "some are names and some are numbers"),
        ([[0], [1, 2]], None, r"label 1 is \[1, 2\]|label 0 is \[0\]"),
        ([0, 1], ["a", "a"], "'a' occurs twice"),
    ],
)
def test_bad_labels_are_named(labels, classes, sentence):
    with pytest.raises(UserError, match=sentence):
        class_numbers(labels, classes)


def test_labels_of_another_count_or_shape_are_named():
    with pytest.raises(UserError, match="40 images but 3 labels"):
        given(GREY, [0, 1, 2])
    with pytest.raises(UserError, match=r"labels.argmax\(1\)"):
        given(GREY, np.eye(40))
    with pytest.raises(UserError, match=r"labels have the shape \(\)"):
        given(GREY, 3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (300, 80, 3), (3, 70_000, 1)])
def test_stored_png_is_a_png(shape):
    pixels = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    data = png_of(pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))).reshape(shape), pixels)
    assert data == png_of(pixels.copy())


def test_kept_images_are_what_every_verb_reads(tmp_path, quiet):
    """Pixels, labels, and names that no folder could have, in an order that is not the alphabet's."""
    labels = np.arange(40) % 2
    folder = keep(given(Pairs(COLOUR, labels)), tmp_path, quiet)
    config = DataConfig(dataset="webdataset", root=str(folder), image_size=8, channels=3)
    splits = {split: open_split(config, split) for split in ("train", "val", "test")}
    assert {split: len(source) for split, source in splits.items()} == {"train": 32, "val": 4, "test": 4}
    known = {image.tobytes(): int(label) for image, label in zip(COLOUR, labels, strict=True)}
    for source in splits.values():
        assert source.class_names == ("dog/wolf", "ant")
        assert [known.pop(source.read(i).tobytes()) for i in range(len(source))] == source.labels.tolist()
    assert not known
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]  # nothing half-written beside it


def test_the_same_images_are_kept_once_and_have_one_digest_anywhere(tmp_path, quiet):
    first = keep(given(COLOUR, [0, 1] * 20, ["a", "b"]), tmp_path, quiet)
    stamp = (first / "images.tar").stat()
    again = keep(given(list(COLOUR), ["a", "b"] * 20), tmp_path, quiet)
    assert again == first and (first / "images.tar").stat().st_mtime_ns == stamp.st_mtime_ns
    elsewhere = keep(given(COLOUR, [0, 1] * 20, ["a", "b"]), tmp_path / "other", quiet)
    assert elsewhere.name == first.name
    assert (elsewhere / "images.tar").read_bytes() == (first / "images.tar").read_bytes()
    changed = COLOUR.copy()
    changed[7, 2, 3, 1] ^= 1
    others = [given(changed, [0, 1] * 20, ["a", "b"]), given(COLOUR, [1, 0] * 20, ["a", "b"]), given(COLOUR)]
    assert len({keep(other, tmp_path, quiet) for other in others} | {first}) == 4


def test_images_of_different_sizes_are_kept(tmp_path, quiet):
    folder = keep(given([image[: 4 + i % 3] for i, image in enumerate(GREY)]), tmp_path, quiet)
    source = open_split(DataConfig(dataset="webdataset", root=str(folder), image_size=8, channels=1), "train")
    assert {source.read(i).shape for i in range(len(source))} == {(4, 7, 1), (5, 7, 1), (6, 7, 1)}
    assert source.class_names == ("all",)


def test_random_transforms_are_noticed(tmp_path, quiet):
    class Noisy(Pairs):
        def __getitem__(self, index):
            return RANDOM.integers(0, 256, (5, 5), dtype=np.uint8)

    with pytest.raises(UserError, match="image 0 differs each time it is read"):
        keep(given(Noisy(GREY, GREY)), tmp_path, quiet)
    assert not list(tmp_path.iterdir())


def test_a_data_set_with_some_labels_is_refused(tmp_path, quiet):
    with pytest.raises(UserError, match="20 of 40 have no label, such as number 1"):
        keep(given([(image, 0) if i % 2 == 0 else image for i, image in enumerate(GREY)]), tmp_path, quiet)


def test_names_of_a_subset_are_those_of_its_data_set():
    assert given(Subset(Pairs(COLOUR, np.zeros(40)), [1, 2])).classes == ("dog/wolf", "ant")


def test_images_are_a_sheet_and_an_array(tmp_path):
    pixels = torch.from_numpy(COLOUR).permute(0, 3, 1, 2)
    images = Images(pixels, ["a"] * 20 + ["b"] * 20)
    np.testing.assert_array_equal(np.asarray(images), COLOUR)
    np.testing.assert_array_equal(np.asarray(images[3]), COLOUR[3])
    np.testing.assert_array_equal(np.asarray(images[-1]), COLOUR[-1])
    assert len(images) == 40 and len(images[5:8]) == 3 and images[[0, 30]].labels == ("a", "b")
    assert len(images[np.arange(40) < 4]) == 4 and len(list(images)) == 40
    assert repr(images) == "40 images of 9x7 pixels, colour, of a, b"
    unnamed, named = (Image.open(io.BytesIO(some._repr_png_())) for some in (Images(pixels), images))
    assert unnamed.size == (12 * (10 * 9 - 2), 12 * (4 * 11 - 2))
    assert named.width == unnamed.width and named.height > unnamed.height + 4 * 10  # a name above each
    turns = Image.open(io.BytesIO(Images(pixels, ["a", "b"] * 20)._repr_png_()))
    assert unnamed.height < turns.height < named.height  # names above the columns
    assert images.save(tmp_path / "sheet.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert images.save(tmp_path / "sheet").name == "sheet.png"
    with pytest.raises(UserError, match="end the name in .png"):
        images.save(tmp_path / "x.npz")
    with pytest.raises(IndexError):
        images[40]


def test_reconstructions_stay_with_their_originals():
    pixels = torch.from_numpy(COLOUR).permute(0, 3, 1, 2)
    both = Reconstructions(pixels[:12], pixels[12:24], np.arange(12.0))
    some = both[2:4]
    assert torch.equal(some.originals, pixels[14:16]) and some.psnr.tolist() == [2.0, 3.0]
    sheet = np.asarray(some.sheet().resize((2 * 9 - 2, 2 * 11 - 2), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(sheet[:9, :7], COLOUR[14])
    np.testing.assert_array_equal(sheet[11:20, :7], COLOUR[2])
    assert both.sheet().height == 12 * (4 * 11 - 2)  # two double rows
    assert "5.50 dB" in repr(both)


def test_settings_are_the_command_lines():
    given_values = {
        "length": "30 steps",
        "optimizer.lr": np.float32(0.5),
        "seed": np.int64(3),
        "a.b": None,
        "c": {"kind": "kl"},
    }
    assert assignments(given_values) == [
        'length="30 steps"',
        "optimizer.lr=0.5",
        "seed=3",
        "a.b=null",
        'c={"kind": "kl"}',
    ]
    assert assignments(["seed=1"]) == assignments("seed=1") == ["seed=1"] and assignments(None) == []
    with pytest.raises(UserError, match="set 'seed': type object cannot be written"):
        assignments({"seed": object()})
    with pytest.raises(UserError, match='give {"seed": 1}'):
        assignments([1])


def test_too_few_images_to_hold_some_out_are_refused(tmp_path, quiet):
    with pytest.raises(UserError, match="2 images; give at least 3"):
        keep(given(COLOUR[:2]), tmp_path, quiet)
    folder = keep(given(COLOUR[:3]), tmp_path, quiet)
    data = DataConfig(dataset="webdataset", root=str(folder), image_size=8, channels=3)
    assert [len(open_split(data, split)) for split in ("train", "val", "test")] == [1, 1, 1]
