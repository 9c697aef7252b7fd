"""Scores against closed forms and against the field's libraries, on the same features."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from conftest import REPOSITORY
from inception_weights import inception_with_random_weights
from vistok.errors import UserError
from vistok.metrics.codebook import codebook_statistics
from vistok.metrics.frechet import frechet_distance, sample_factor
from vistok.metrics.interval import (
    blocks_of,
    frechet_replicates,
    jackknife,
    mean_replicates,
    paired_frechet_replicates,
    t_interval,
)
from vistok.metrics.kernel_distance import kernel_distance, kernel_estimator
from vistok.metrics.likelihood import likelihood
from vistok.metrics.memorization import memorization
from vistok.metrics.moments import Moments, leave_one_out, merge_all
from vistok.metrics.precision_recall import precision_recall
from vistok.metrics.protocol import Protocol, Score, Treatment, require_same


def gaussian(mean, covariance):
    return Moments(11, np.asarray(mean, float), 10 * np.asarray(covariance, float))


def random_covariance(dim, rank, seed):
    a = np.random.default_rng(seed).normal(size=(dim, rank))
    return a @ a.T


def test_moments_merge_to_one_pass():
    x = np.random.default_rng(0).normal(5, 2, size=(137, 6))
    merged = merge_all([Moments.of(x[:50]), Moments.of(x[50:51]), Moments.empty(6), Moments.of(x[51:])])
    assert merged.count == 137
    np.testing.assert_allclose(merged.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(x.T), rtol=1e-10)


def test_moments_far_from_zero_keep_their_digits():
    x = np.random.default_rng(0).normal(size=(1000, 3)) + 1e7
    parts = merge_all([Moments.of(part) for part in np.array_split(x, 10)])
    np.testing.assert_allclose(parts.covariance, np.cov((x - 1e7).T), rtol=1e-6)


def test_leave_one_out():
    x = np.random.default_rng(1).normal(size=(60, 4))
    left = leave_one_out([Moments.of(part) for part in np.split(x, 6)])
    for i, moments in enumerate(left):
        rest = np.delete(x, range(10 * i, 10 * i + 10), axis=0)
        np.testing.assert_allclose(moments.covariance, np.cov(rest.T), rtol=1e-9)


def test_moments_refuse_nan():
    with pytest.raises(ValueError, match="finite"):
        Moments.of(np.array([[1.0, math.nan]]))


@pytest.mark.parametrize("dim", [1, 3, 20])
def test_frechet_of_commuting_covariances(dim):
    rng = np.random.default_rng(dim)
    q, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    a, b, shift = rng.uniform(0, 3, dim), rng.uniform(0, 3, dim), rng.normal(size=dim)
    expected = shift @ shift + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    found = frechet_distance(gaussian(np.zeros(dim), (q * a) @ q.T), gaussian(shift, (q * b) @ q.T))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_frechet_of_singular_covariances():
    # Rank-one: cov = u u^T, v v^T; tr (AB)^(1/2) = |u . v|.
    u, v = np.array([3.0, 0, 1, 0]), np.array([1.0, 2, 0, 0])
    expected = u @ u + v @ v - 2 * abs(u @ v)
    assert frechet_distance(
        gaussian(np.zeros(4), np.outer(u, u)), gaussian(np.zeros(4), np.outer(v, v))
    ) == pytest.approx(expected, rel=1e-9)
    zero = gaussian(np.zeros(4), np.zeros((4, 4)))
    assert frechet_distance(zero, gaussian(np.ones(4), np.outer(u, u))) == pytest.approx(4 + u @ u)
    low_rank = gaussian(np.zeros(30), random_covariance(30, 5, 0))
    assert frechet_distance(low_rank, low_rank) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("span", "apart"), [(1e-4, 0.3), (1e-12, 0.3), (1e-12, 1e-4), (1e-30, 1e-4)])
def test_frechet_of_far_and_near_covariances_with_small_variances(span, apart):
    """Small variances, and distances far below the variances, keep their digits: both are common in a network's features."""
    dim = 40
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))
    a = np.geomspace(1, span, dim)
    b = a * (1 + apart * np.cos(np.arange(dim)))
    expected = np.square(np.sqrt(a) - np.sqrt(b)).sum()
    found = frechet_distance(gaussian(np.zeros(dim), (q * a) @ q.T), gaussian(np.zeros(dim), (q * b) @ q.T))
    assert found == pytest.approx(expected, rel=1e-5)


def test_frechet_of_fewer_samples_than_features():
    rng = np.random.default_rng(1)
    reference = Moments.of(rng.normal(size=(90, 30)))
    for features in (rng.normal(size=(12, 30)), np.repeat(rng.normal(size=(6, 30)), 2, axis=0)):
        factor = sample_factor(features)
        np.testing.assert_allclose(factor @ factor.T, np.cov(features.T), atol=1e-12)
        found = frechet_distance(Moments.of(features), reference, None, factor)
        assert found == pytest.approx(frechet_distance(reference, Moments.of(features)), rel=1e-6)


def test_frechet_of_general_2x2():
    a, b = random_covariance(2, 2, 1), random_covariance(2, 2, 2)
    # tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)) in two dimensions.
    root = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = np.trace(a) + np.trace(b) - 2 * root
    assert frechet_distance(gaussian([0, 0], a), gaussian([0, 0], b)) == pytest.approx(expected, rel=1e-9)


def test_frechet_equals_torchmetrics_and_torch_fidelity():
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng(3)
    a = rng.normal(size=(400, 24)) @ rng.normal(size=(24, 24))
    b = rng.normal(size=(300, 24)) @ rng.normal(size=(24, 24)) + 0.3
    found = frechet_distance(Moments.of(a), Moments.of(b))
    statistics = [{"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)} for x in (a, b)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert found == pytest.approx(float(theirs), rel=1e-6)
    tensors = [torch.from_numpy(np.asarray(s[k])) for s in statistics for k in ("mu", "sigma")]
    assert found == pytest.approx(float(_compute_fid(*tensors)), rel=1e-6)


def test_jackknife_of_a_mean_is_the_classical_interval():
    x = np.random.default_rng(4).normal(size=40)
    found = jackknife(x.mean(), [np.delete(x, i).mean() for i in range(40)])
    half = stats.t.ppf(0.975, 39) * x.std(ddof=1) / math.sqrt(40)
    assert (found.low, found.high) == pytest.approx((x.mean() - half, x.mean() + half))
    assert found.corrected == pytest.approx(x.mean())


def test_jackknife_removes_bias():
    """A variance with divisor n is biased by -1/n, which the jackknife removes exactly."""
    x = np.random.default_rng(5).normal(size=50)
    found = jackknife(x.var(), [np.delete(x, i).var() for i in range(50)])
    assert found.corrected == pytest.approx(x.var(ddof=1))


def test_intervals_of_a_frechet_distance_cover():
    """Of 200 intervals at 95 %, the share that holds the true distance lies where chance allows."""
    rng = np.random.default_rng(6)
    dim, samples, trials = 6, 400, 200
    covariance, reference_covariance = random_covariance(dim, 8, 7) / 8, random_covariance(dim, 8, 8) / 8
    root, shift = np.linalg.cholesky(covariance), np.full(dim, 0.2)
    reference = gaussian(np.zeros(dim), reference_covariance)
    truth = frechet_distance(gaussian(shift, covariance), reference)
    covered, plain = 0, []
    for _ in range(trials):
        interval = frechet_replicates(rng.normal(size=(samples, dim)) @ root.T + shift, reference).interval
        covered += interval.low <= truth <= interval.high
        plain.append((interval.value, interval.corrected))
    low, high = stats.binom.ppf([0.0005, 0.9995], trials, 0.95)
    assert low <= covered <= high
    bias, corrected_bias = np.abs(np.mean(plain, axis=0) - truth)
    assert corrected_bias < bias


@pytest.mark.parametrize("order", ["in turn", "sorted"])
def test_interval_of_samples_ordered_by_class(order):
    """Blocks must not pick out classes: the correction is then the bias alone, and small."""
    rng = np.random.default_rng(11)
    centres = 3 * rng.normal(size=(10, 5))
    classes = np.arange(4000) % 10 if order == "in turn" else np.arange(4000) // 400
    features = centres[classes] + rng.normal(size=(4000, 5))
    reference = Moments.of(centres[rng.integers(10, size=4000)] + rng.normal(size=(4000, 5)) + 0.1)
    found = frechet_replicates(features, reference).interval
    assert abs(found.corrected - found.value) < 0.02
    assert found.low < found.value < found.high


def test_paired_difference_is_narrower_than_unpaired():
    rng = np.random.default_rng(9)
    a = rng.normal(size=(2000, 4)) + 1
    b = a + 0.05 * rng.normal(size=(2000, 4)) + 0.1
    reference = Moments.of(rng.normal(size=(5000, 4)))
    first, second = (frechet_replicates(x, reference) for x in (a, b))
    paired, alone = second.minus(first).interval, [first.interval, second.interval]
    assert paired.half_width < 0.9 * math.hypot(*(interval.half_width for interval in alone))
    assert paired.value == pytest.approx(alone[1].value - alone[0].value)


def test_t_interval():
    found = t_interval([1.0, 2.0, 4.0])
    expected = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1, 2, 4]))
    assert (found.low, found.high) == pytest.approx(expected)
    assert t_interval([1.0]).high == math.inf


def test_precision_and_recall_by_brute_force():
    rng = np.random.default_rng(10)
    real, fake = rng.normal(size=(60, 3)), rng.normal(size=(50, 3)) * 0.7 + 0.5

    def inside(points, centres, k=3):
        own = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
        radius = np.sort(own, axis=1)[:, k]
        return (np.linalg.norm(points[:, None] - centres[None], axis=-1) <= radius).any(1).mean()

    found = precision_recall(torch.from_numpy(real).float(), torch.from_numpy(fake).float())
    assert found == pytest.approx((inside(fake, real), inside(real, fake)), abs=1e-6)


def test_precision_falls_with_bad_samples_and_recall_with_missing_modes():
    real = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor(
        [[-10.0, 0], [10.0, 0]]
    ).repeat(250, 1)
    generator = torch.Generator().manual_seed(1)
    one_mode = torch.randn(500, 2, generator=generator) * 0.8 + torch.tensor([10.0, 0])
    precision, recall = precision_recall(real, one_mode)
    assert precision > 0.9 and 0.3 < recall < 0.55
    precision, _ = precision_recall(real, one_mode + torch.tensor([0, 30.0]))
    assert precision == 0


def test_memorization_finds_copies():
    generator = torch.Generator().manual_seed(0)

    def images(count):
        return torch.randint(0, 256, (count, 1, 4, 5), generator=generator, dtype=torch.uint8)

    train, unseen = images(300), images(200)
    honest = memorization(images(200), unseen, [train])
    assert honest.copy_share < 0.06 and honest.sample_median == pytest.approx(honest.real_median, rel=0.1)
    near = train[100:].clamp(max=254) + 1
    copies = memorization(near, unseen, train.split(77))  # in batches, of which the last is short
    assert copies.copy_share == 1.0 and copies.searched == 300
    assert torch.equal(copies.nearest, torch.arange(100, 300))
    assert float(copies.distance.median()) == pytest.approx(1 / 255, rel=0.1)


def test_codebook_statistics():
    tokens = np.array([[0, 1], [0, 2], [0, 1], [0, 2]])
    found = codebook_statistics(tokens, 8)
    assert found.usage == 3 / 8
    assert found.entropy == pytest.approx(1.5)
    np.testing.assert_allclose(found.position_entropy, [0, 1])
    assert found.skewness == pytest.approx(1 - 2**0.5 / 2**1.5)
    uniform = codebook_statistics(np.tile(np.arange(8)[:, None], (1, 3)), 8)
    assert uniform.perplexity == pytest.approx(8) and uniform.skewness == pytest.approx(0)


def test_likelihood_units():
    found = likelihood(np.full((5, 49), math.log(2.0)))
    assert found.bits_per_image == pytest.approx(49)
    assert found.nats_per_token == pytest.approx(math.log(2))
    assert found.per_image == pytest.approx(np.full(5, math.log(2)))


def test_comparing_protocols_names_the_difference():
    base = protocol()
    require_same(base, base)
    with pytest.raises(UserError, match="num_samples is 10 in one and 20 in the other"):
        require_same(base, base.replace(num_samples=20))


def protocol(**changes):
    values = {"metric": "gFMD", "reference": "test", "reference_digest": "2", "num_reference": 10, "num_samples": 10,
              "estimator": "mean"}  # fmt: skip
    return Protocol(**(values | changes))


def test_scores_are_subtracted_in_pairs():
    """One image's value varies far more than what two tokenizers make of it."""
    rng = np.random.default_rng(12)
    images = rng.normal(20, 5, size=400)
    a, b = (Score.of(mean_replicates(images + d), protocol(), Treatment()) for d in (0, rng.normal(0.1, 0.1, 400)))
    difference = b.minus(a).interval
    assert 0.08 < difference.low < difference.high < 0.12 and a.high - a.low > 0.5
    with pytest.raises(UserError, match="different protocols"):
        a.minus(b.replace(protocol=protocol(num_samples=20)))


def test_interval_of_a_mean_is_about_the_classical_one():
    x = np.random.default_rng(13).normal(size=4000)
    found = mean_replicates(x).interval
    assert found.value == pytest.approx(x.mean())
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 19) * x.std() / math.sqrt(4000), rel=0.4)


def test_reconstructions_are_paired_with_their_originals():
    """Perfect reconstructions have distance 0 with certainty: left out of one side only, they had not."""
    x = np.random.default_rng(14).normal(size=(500, 6))
    same = paired_frechet_replicates(x, x.copy()).interval
    assert same.low == pytest.approx(0, abs=1e-9) and same.high == pytest.approx(0, abs=1e-9)
    shifted = paired_frechet_replicates(x + 0.5, x).interval
    assert shifted.value == pytest.approx(6 * 0.25) and shifted.half_width < 1e-6
    alone = frechet_replicates(x + 0.5, Moments.of(x)).interval
    assert alone.half_width > 0.1


def test_few_samples_give_a_value_without_an_interval():
    x = np.random.default_rng(15).normal(size=(30, 4))
    for found in (
        frechet_replicates(x, Moments.of(x + 1)),
        paired_frechet_replicates(x, x + 1),
        mean_replicates(x[:, 0]),
    ):
        assert math.isfinite(found.value) and found.interval is None
    assert Score.of(mean_replicates(x[:, 0]), protocol(), Treatment()).low is None


def test_blocks_are_disjoint_and_the_same_every_time():
    found = blocks_of(1003)
    assert sorted(np.concatenate(found)) == list(range(1003)) and len(found) == 20
    assert all(np.array_equal(a, b) for a, b in zip(found, blocks_of(1003), strict=True))


def test_psnr_and_ssim():
    from vistok.metrics.reconstruction import psnr_per_image, ssim_per_image

    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8, generator=generator)
    b = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8, generator=generator)
    error = (a.double() - b.double()).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(psnr_per_image(a, b).double(), 10 * torch.log10(255**2 / error), rtol=1e-5, atol=0)
    assert ssim_per_image(a, a) == pytest.approx(torch.ones(4))
    assert psnr_per_image(a, a).tolist() == [100] * 4  # finite: a score must fit into JSON


def test_inception_loads_a_weights_file_and_matches_torch_fidelity(tmp_path):
    from vistok.metrics.features import InceptionFeatures

    network = inception_with_random_weights(tmp_path / "inception.pth")
    images = torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = InceptionFeatures(tmp_path / "inception.pth")(images)
    with torch.no_grad():
        (expected,) = network(images)
    assert found.std() > 1e-3
    torch.testing.assert_close(found, expected)


def test_inception_refuses_a_file_that_runs_code(tmp_path):
    import pickle

    from vistok.metrics.features import InceptionFeatures

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "harmed"), "w"))

    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Bomb()))
    torch.save({"a": torch.zeros(1), "b": Bomb()}, tmp_path / "worse.pth")
    for name, words in (("bad.pth", "a pickle that torch.save did not write"), ("worse.pth", "cannot be loaded")):
        with pytest.raises(UserError, match=words) as refused:
            InceptionFeatures(tmp_path / name)
        assert "options" not in str(refused.value)  # torch's advice is to load it unsafely
    assert not (tmp_path / "harmed").exists()


def test_precision_and_recall_far_from_zero():
    """A common shift of all features changes no distance: in float32 it left none of their digits."""
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(300, 64, generator=generator), 0.8 * torch.randn(300, 64, generator=generator) + 0.05
    expected = precision_recall(real.double(), fake.double())
    shift = 1000 * torch.rand(64, generator=generator).round()  # added without rounding of more than the last digits
    assert precision_recall((real + shift).double(), (fake + shift).double()) == pytest.approx(expected, abs=0.02)
    assert precision_recall(real + shift, fake + shift) == pytest.approx(expected, abs=0.02)


def test_kernel_distance_by_a_double_loop():
    """One subset of all, and what it gives without each block."""
    rng = np.random.default_rng(16)
    a, b = rng.normal(size=(41, 3)), rng.normal(size=(41, 3)) + 0.5

    def kernel(x, y):
        return (x @ y / 3 + 1) ** 3

    def distance(x, y, paired):
        pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
        own = np.mean([kernel(x[i], x[j]) for i, j in pairs])
        if paired:
            return own + np.mean([kernel(y[i], y[j]) - kernel(x[i], y[j]) - kernel(x[j], y[i]) for i, j in pairs])
        theirs = np.mean([kernel(y[i], y[j]) for i in range(len(y)) for j in range(len(y)) if i != j])
        return own + theirs - 2 * np.mean([kernel(s, t) for s in x for t in y])

    for paired in (False, True):
        found = kernel_distance(a, b, paired)
        assert found.value == pytest.approx(distance(a, b, paired), rel=1e-9) and len(found.left_out) == 20
        rest = np.delete(a, blocks_of(41)[3], axis=0)
        other = np.delete(b, blocks_of(41)[3], axis=0) if paired else b
        assert found.left_out[3] == pytest.approx(distance(rest, other, paired), rel=1e-9)
    assert kernel_distance(a, a.copy(), paired=True).value == 0


def test_kernel_distance_of_subsets_has_no_bias_and_an_interval(monkeypatch):
    """Of equal distributions it is zero on average, below zero as often; few samples have a value alone."""
    monkeypatch.setattr("vistok.metrics.kernel_distance.SUBSETS", 4)
    rng = np.random.default_rng(17)
    found = [kernel_distance(*rng.normal(size=(2, 60, 2))) for _ in range(60)]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(60) and (values < 0).mean() > 0.3
    a, b = rng.normal(size=(1500, 2)).astype(np.float32), rng.normal(size=(1200, 2)).astype(np.float32) + 0.3
    subsets = kernel_distance(a, b)
    assert subsets == kernel_distance(a, b) and subsets.interval.low > 0
    assert "4 subsets of 1000" in kernel_estimator(len(a), len(b))
    assert subsets.value == pytest.approx(kernel_distance(a.astype(float), b.astype(float)).value, rel=1e-4)
    assert kernel_distance(a[:30], b[:20]).interval is None
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(a[:1], b)


def test_a_score_agrees_with_its_own_replicates():
    x = np.random.default_rng(18).normal(size=400)
    stored = Score.of(mean_replicates(x), protocol(), Treatment()).model_dump(mode="json")
    assert Score.read(stored | {"deviation_over_splits": 1.0}).value == stored["value"]
    for change in (
        {"value": stored["value"] - 1},
        {"low": -9.0},
        {"high": None},
        {"value": math.nan},
        {"low": math.inf},
    ):
        with pytest.raises(UserError, match="low|high|corrected|value|finite"):
            Score.read(stored | change)
    for bad in (math.nan, math.inf):
        with pytest.raises(UserError, match="gFMD is (nan|inf), not a usable score"):
            Score.of(mean_replicates(np.full(3, bad)), protocol(), Treatment())


def test_all_committed_scores_agree_with_their_replicates():
    from vistok.scoring.evaluators import scores_in

    found = [
        score
        for file in sorted((REPOSITORY / "results").rglob("records/*.json"))[::10]
        for score in scores_in(json.loads(file.read_text())["detail"])
    ]
    assert len(found) > 100 and all(score.replicates for score in found if "F" in score.protocol.metric)


def test_features_that_are_not_finite_make_no_score():
    from vistok.metrics.features import ClassifierFeatures
    from vistok.runs.frozen_networks import shipped_classifier

    model = shipped_classifier("fashion_evaluator")[0]
    next(model.parameters()).data.fill_(math.nan)
    with pytest.raises(UserError, match="evaluator e produces features that are not finite"):
        ClassifierFeatures(model, "e", "")(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[:-3], "damaged"),
        (lambda text: "[" * 100_000, "nested too deeply"),
        (lambda text: "[1]", "expected a JSON object"),
        (lambda text: "{}", "no schema version"),
        (lambda text: text.replace('"kind": "generator", ', ""), "no 'kind'"),
        (lambda text: text.replace('"copy_share"', '"other"'), "no 'copy_share'"),
        (lambda text: text.replace('"memorization": {', '"memorization": [{').replace("}}", "}]}"), "damaged"),
        (lambda text: text.replace('"value": 0.5', '"value": 0.25'), "edited or damaged.*value and replicates give"),
        (lambda text: text.replace('"value": 0.5', '"value": NaN'), "edited or damaged.*finite"),
        (lambda text: text.replace('"estimator"', '"estimate"'), "edited or damaged.*estimat"),
    ],
)
def test_an_evaluation_that_was_edited_or_damaged_is_not_shown(tmp_path, capfd, damage, words):
    from vistok.engine.log import Progress
    from vistok.scoring.evaluators import SCHEMA, finished_evaluation

    file = tmp_path / "evaluations" / "generator.json"
    values = np.random.default_rng(19).normal(size=400)
    score = Score.of(mean_replicates(values - values.mean() + 0.5), protocol(), Treatment())
    score = score.model_dump(mode="json") | {"value": 0.5}
    content = {"schema_version": SCHEMA, "kind": "generator", "run": "r", "treatment": {}, "gfmd": score,
               "memorization": {"copy_share": 0.0, "num_samples": 1, "num_train": 1, "num_unseen": 1}}  # fmt: skip
    file.parent.mkdir()
    assert finished_evaluation(file, Progress()) is None
    assert not capfd.readouterr().err
    file.write_text(json.dumps(content))
    assert finished_evaluation(file, Progress()) == content
    assert f"read from {file}" in capfd.readouterr().err
    file.write_text(damage(json.dumps(content)))
    with pytest.raises(UserError, match=f"(?s){words}") as found:
        finished_evaluation(file, Progress())
    assert "delete the file and evaluate again" in str(found.value)
