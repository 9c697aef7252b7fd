"""The Inception protocol on files: torch-fidelity's numbers, ADM's layout, statistics of a reference."""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from inception_weights import inception_with_random_weights
from vistok.cli import app
from vistok.errors import UserError
from vistok.metrics.features import Features, InceptionFeatures
from vistok.metrics.inception_score import inception_score
from vistok.metrics.kernel_distance import kernel_distance
from vistok.metrics.protocol import Treatment
from vistok.scoring.evaluate_samples import evaluate_samples
from vistok.scoring.evaluators import Collected, ReferenceSet
from vistok.scoring.image_batch import open_batch
from vistok.scoring.image_scores import inception_scores
from vistok.scoring.measured import Measured
from vistok.verbs.show import samples_lines

COUNT, SIDE = 20, 24


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory) -> Path:
    """Weights in torch-fidelity's layout; every image would have the same classes but for the sharpness."""
    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    inception_with_random_weights(file, sharpness=30)
    return file


def make_images(seed: int, contrast: float) -> np.ndarray:
    """Smooth colours, so that features differ from image to image: uint8 (count, height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (COUNT, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    return (contrast * (coarse + rng.integers(0, 40, coarse.shape))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two files of images in ADM's layout: (samples, reference)."""
    root = tmp_path_factory.mktemp("files")
    for name, seed, contrast in (("samples", 1, 1.0), ("reference", 2, 0.75)):
        np.savez(root / f"{name}.npz", arr_0=make_images(seed, contrast), arr_1=np.zeros(COUNT, dtype=np.int64))
    return root / "samples.npz", root / "reference.npz"


class Remembering(InceptionFeatures):
    """Looks at an image once: every test scores the same ones."""

    seen: dict[bytes, Features] = {}

    def everything(self, images):
        new = [image for image in images if image.numpy().tobytes() not in self.seen]
        if new:
            found = super().everything(torch.stack(new))
            parts = zip(found.pooled, found.spatial, found.logits, strict=True)
            self.seen |= {image.numpy().tobytes(): Features(*part) for image, part in zip(new, parts, strict=True)}
        kept = [self.seen[image.numpy().tobytes()] for image in images]
        return Features(
            *(torch.stack([getattr(part, name) for part in kept]) for name in ("pooled", "spatial", "logits"))
        )


@pytest.fixture(scope="module")
def extractor(inception_file):
    return Remembering(inception_file)


@pytest.fixture(scope="module")
def scores(files, extractor, quiet):
    return evaluate_samples(*(open_batch(file) for file in files), extractor, quiet)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_same_scores_as_torch_fidelity(files, scores, inception_file, tmp_path):
    import torch_fidelity

    class Images(torch.utils.data.Dataset):
        def __init__(self, file):
            self.images = torch.from_numpy(np.load(file)["arr_0"]).permute(0, 3, 1, 2).contiguous()

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            return self.images[index]

    theirs = torch_fidelity.calculate_metrics(
        input1=Images(files[0]),
        input2=Images(files[1]),
        cuda=False,
        isc=True,
        fid=True,
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_layer_prc="2048",
        feature_extractor_weights_path=str(inception_file),
        samples_shuffle=False,
        save_cpu_ram=False,
        # Each of the three metrics would take the features anew.
        cache_root=str(tmp_path),
        input1_cache_name="samples",
        input2_cache_name="reference",
        verbose=False,
    )
    # Of 20 images with 2,048 features covariances are singular. torch-fidelity takes roots of some 2,000 eigenvalues that
    # are zero but for rounding, and is a few 1e-6 too low in absolute terms; the factors that we take are cut at their rank.
    assert scores["fid"]["value"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert scores["inception_score"]["value"] == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert scores["inception_score"]["deviation_over_splits"] == pytest.approx(theirs["inception_score_std"], rel=1e-6)
    assert scores["precision"]["value"] == pytest.approx(theirs["precision"], abs=1e-9)
    assert scores["recall"]["value"] == pytest.approx(theirs["recall"], abs=1e-9)
    assert theirs["precision"] + theirs["recall"] > 0  # else it would say nothing
    assert theirs["inception_score_mean"] > 1.01


def test_spatial_features_are_the_ones_of_adms_evaluator(files, extractor):
    images = next(open_batch(files[0]).batches(2))
    found = extractor.everything(images).spatial
    assert found.shape == (2, 7 * 17 * 17)
    kept = []
    handle = extractor.network.Mixed_6d.branch1x1.register_forward_hook(lambda *call: kept.append(call[2]))
    InceptionFeatures.everything(extractor, images)
    handle.remove()
    # ADM's is a TensorFlow graph: (batch, rows, columns, channels), of which it takes the first seven and flattens.
    torch.testing.assert_close(found, kept[0].permute(0, 2, 3, 1)[..., :7].reshape(2, -1))
    assert (found >= 0).all() and found.std() > 0


@pytest.mark.slow
def test_sfid_is_zero_for_the_same_images_and_not_for_others(files, extractor, scores, quiet):
    same = evaluate_samples(open_batch(files[0]), open_batch(files[0]), extractor, quiet)
    # No score is exactly zero: features of 2,048 dimensions are rounded.
    assert abs(same["fid"]["value"]) < 1e-6 * scores["fid"]["value"]
    assert abs(same["sfid"]["value"]) < 1e-6 * scores["sfid"]["value"]
    assert (same["precision"]["value"], same["recall"]["value"]) == (1, 1)


def test_a_references_own_statistics_are_used(tmp_path, files, extractor, scores, quiet):
    images = np.load(files[1])["arr_0"]
    collected = Collected()
    for batch in open_batch(files[1]).batches(16):
        collected.add(extractor.everything(batch))
    features = collected.features.double().numpy()
    statistics = {"mu": features.mean(0), "sigma": np.cov(features, rowvar=False)}
    statistics |= {"mu_s": collected.spatial.mean, "sigma_s": collected.spatial.covariance}
    # As ADM's: the images are a part of those that the statistics are of.
    np.savez(tmp_path / "reference.npz", arr_0=images[:10], **statistics)
    found = evaluate_samples(open_batch(files[0]), open_batch(tmp_path / "reference.npz"), extractor, quiet)
    assert found["fid"]["value"] == pytest.approx(scores["fid"]["value"], rel=1e-6)
    assert found["sfid"]["value"] == pytest.approx(scores["sfid"]["value"], rel=1e-6)
    assert "its own mean and covariance" in found["fid"]["protocol"]["reference"]
    assert found["precision"]["protocol"]["num_reference"] == 10
    # Without spatial statistics there is no sFID: it would be against other images than the FID.
    np.savez(tmp_path / "pooled.npz", arr_0=images[:10], mu=statistics["mu"], sigma=statistics["sigma"])
    found = evaluate_samples(open_batch(files[0]), open_batch(tmp_path / "pooled.npz"), extractor, quiet)
    assert "sfid" not in found and "fid" in found


def test_folders_and_files_give_the_same(tmp_path, files, extractor, scores, quiet):
    for number, image in enumerate(np.load(files[0])["arr_0"]):
        path = tmp_path / f"{number:03d}.png"
        Image.fromarray(image).save(path)
    found = evaluate_samples(open_batch(tmp_path), open_batch(files[1]), extractor, quiet)
    assert found["fid"]["value"] == scores["fid"]["value"]


def test_the_command_prints_all_of_it(files, inception_file, extractor, monkeypatch):
    monkeypatch.setattr("vistok.metrics.features.InceptionFeatures", lambda file, device: extractor)
    command = ["evaluate", "samples", str(files[0]), "--reference", str(files[1]), "--inception", str(inception_file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    for word in (
        "FID ",
        "sFID ",
        "KID ",
        "Inception score ",
        "precision ",
        "recall ",
        "20 images against 20 of reference.npz",
    ):
        assert word in result.output


def header(shape):
    """The bytes of an array file that says this shape and holds nothing."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def write_npz(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "not found"),
        (lambda path: path.write_bytes(b"no archive"), "damaged, or not.*wanted ADM's layout"),
        (lambda path: np.savez(path, images=np.zeros((2, 4, 4, 3), np.uint8)), "arr_0"),
        (lambda path: np.savez(path, arr_0=np.zeros((2, 4, 4, 3), np.float32)), "arr_0 is float32"),
        (lambda path: np.savez(path, arr_0=np.zeros((2, 3, 4, 4), np.uint8)), r"arr_0 is uint8 \(2, 3, 4, 4\)"),
        (lambda path: np.savez(path, arr_0=np.array([{}], dtype=object)), "arr_0 holds Python objects"),
        (
            lambda path: write_npz(path, arr_0=header((10**12, 64, 64, 3))),
            "arr_0 is uint8 .* by its header, but has 0 bytes",
        ),
        (lambda path: write_npz(path, arr_0=header((-1, 4, 4, 3))), "by its header"),
        (lambda path: write_npz(path, mu=header((10**9,)), sigma=header((10**9, 10**9))), "mu is .* by its header"),
        (lambda path: np.savez(path, mu=np.full(4, np.nan), sigma=np.eye(4)), "not finite"),
        (lambda path: np.savez(path, mu=np.zeros(4), sigma=np.full((4, 4), np.inf)), "not finite"),
        (lambda path: np.savez(path, mu=np.zeros(4), sigma=np.eye(3)), "are not a mean and a covariance"),
        (lambda path: np.savez(path, mu=np.zeros(4), sigma=-np.eye(4)), "with a negative variance"),
        (lambda path: np.savez(path, mu=np.zeros(4), sigma=np.triu(np.ones((4, 4)))), "not symmetric"),
        (lambda path: np.savez(path, mu=np.zeros(4)), "mu without sigma"),
        (lambda path: np.savez(path, mu=np.array(["a"]), sigma=np.array([["b"]])), "must hold numbers"),
    ],
)
def test_other_files_are_refused(tmp_path, make, words):
    make(tmp_path / "x.npz")
    with pytest.raises(UserError, match=words):
        open_batch(tmp_path / "x.npz")


def test_inception_score_of_closed_forms():
    sure = torch.eye(10).repeat(20, 1) * 50  # every class as often, each image sure
    assert inception_score(sure, 1)[0] == pytest.approx(10, rel=1e-6)
    assert inception_score(torch.zeros(40, 10), 4) == pytest.approx((1, 0))
    with pytest.raises(ValueError, match="at least 10 samples"):
        inception_score(torch.zeros(9, 10))


def test_a_reference_of_statistics_alone_gives_an_fid(tmp_path, files, extractor, scores, quiet):
    """The files that others publish hold mu and sigma and no images."""
    features = np.concatenate([extractor(images).double().numpy() for images in open_batch(files[1]).batches(16)])
    np.savez(tmp_path / "stats.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    found = evaluate_samples(open_batch(files[0]), open_batch(tmp_path / "stats.npz"), extractor, quiet)
    assert found["fid"]["value"] == pytest.approx(scores["fid"]["value"], rel=1e-6)
    assert not {"kid", "precision", "sfid"} & set(found) and "inception_score" in found
    text = "\n".join(samples_lines(found))
    assert "against the statistics in stats.npz" in text
    assert (
        "not scored: kernel distance, precision and recall: stats.npz holds a mean and a covariance but no images"
        in text
    )
    with pytest.raises(UserError, match="give the images"):
        evaluate_samples(open_batch(tmp_path / "stats.npz"), open_batch(files[1]), extractor, quiet)
    np.savez(tmp_path / "other.npz", mu=np.zeros(7), sigma=np.eye(7))
    with pytest.raises(UserError, match="its mean has 7 features"):
        evaluate_samples(open_batch(files[0]), open_batch(tmp_path / "other.npz"), extractor, quiet)


def test_one_image_is_refused_before_any_is_looked_at(tmp_path, files, quiet):
    np.savez(tmp_path / "one.npz", arr_0=make_images(1, 1.0)[:1])
    one, many = open_batch(tmp_path / "one.npz"), open_batch(files[0])
    blind = object.__new__(InceptionFeatures)
    for pair in ((one, many), (many, one)):
        with pytest.raises(UserError, match="one.npz has 1 image; a Fréchet distance needs at least 2"):
            evaluate_samples(*pair, blind, quiet)


def test_no_distance_is_minus_zero(files, extractor, quiet):
    same = evaluate_samples(open_batch(files[0]), open_batch(files[0]), extractor, quiet)
    same["fid"]["value"] = same["sfid"]["value"] = -1e-9
    text = "\n".join(samples_lines(same))
    assert "FID 0.000 " in text and "sFID 0.000" in text and not re.search(r"-0\.0+(?!\d)", text)


def test_the_inception_score_of_a_folder_does_not_depend_on_names_that_sort_by_class(extractor):
    """Sorted by class every split is of one class, whose score is 1; an .npz keeps the order that ADM's evaluator has."""
    sure = torch.eye(10).repeat_interleave(40, dim=0) * 50
    collected = Collected([torch.zeros(400, 2048)], [sure])
    found = {
        mixed: inception_scores(
            Measured("", extractor, ReferenceSet("r", "", np.empty((0, 2048))), Treatment(), 400), collected, mixed
        )
        for mixed in (False, True)
    }
    values = {mixed: scores["inception_score"]["value"] for mixed, scores in found.items()}
    assert values[False] == pytest.approx(1) and values[True] > 8
    assert "10 consecutive splits" in found[False]["inception_score"]["protocol"]["estimator"]
    assert "10 splits of images shuffled by a fixed key" in found[True]["inception_score"]["protocol"]["estimator"]


def test_hidden_files_are_no_samples_and_others_are_counted(tmp_path):
    for name in ("a.png", "b.JPG", ".hidden.png", ".thumbnails/c.png", "__MACOSX/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(make_images(1, 1.0)[0]).save(tmp_path / name, format="PNG")
    (tmp_path / "notes.txt").write_text("x")
    found = open_batch(tmp_path)
    assert found.count == 2 and found.ignored == "ignored 1 file: 1 .txt"
    assert sum(len(images) for images in found.batches(1)) == 2


def test_folders_that_are_linked_count_and_those_that_cannot_be_read_are_an_error(tmp_path):
    """Both were left out without a word."""
    for name in ("samples/a.png", "elsewhere/b.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(make_images(1, 1.0)[0]).save(tmp_path / name)
    (tmp_path / "samples" / "more").symlink_to(tmp_path / "elsewhere")
    assert open_batch(tmp_path / "samples").count == 2
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "samples")
    with pytest.raises(UserError, match="cannot be read: more/again .*leads in a circle"):
        open_batch(tmp_path / "samples")


def test_the_kernel_distance_is_torch_fidelitys(scores, files, extractor):
    from torch_fidelity.metric_kid import mmd2

    a, b = (np.concatenate([extractor(x).double().numpy() for x in open_batch(file).batches(50)]) for file in files)
    k = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3  # noqa: E731
    assert scores["kid"]["value"] == pytest.approx(mmd2(k(a, a), k(a, b), k(b, b)), rel=1e-5)
    assert kernel_distance(a, b).value == pytest.approx(mmd2(k(a, a), k(a, b), k(b, b)), rel=1e-9)
    assert scores["kid"]["protocol"]["estimator"].startswith("kernel (x.y/d + 1)^3, unbiased, mean over all 20 images")
