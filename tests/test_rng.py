import numpy as np
import torch
from scipy import stats

from vistok.rng import _to_uniform, derive_seed, gumbel_grid, seeded_init, uniform_grid


def test_seed_depends_on_every_part():
    seeds = {derive_seed(s, a, b) for s in range(3) for a in ("x", "y") for b in range(3)}
    assert len(seeds) == 18
    assert derive_seed(1, "a", 2) == derive_seed(1, "a", 2)


def test_noise_of_an_image_does_not_depend_on_its_batch():
    ids = torch.arange(50)
    whole = uniform_grid(3, ids, 7, 33)
    assert torch.equal(whole[20:21], uniform_grid(3, ids[20:21], 7, 33))
    assert torch.equal(whole[:, :10], uniform_grid(3, ids, 7, 10))
    for other in (uniform_grid(4, ids, 7, 33), uniform_grid(3, ids, 8, 33), uniform_grid(3, ids + 50, 7, 33)):
        assert (whole == other).float().mean() < 0.001


def test_noise_is_uniform_and_independent_across_keys():
    u = torch.stack([uniform_grid(0, torch.arange(100), p, 64) for p in range(20)]).numpy()
    assert u.min() > 0 and u.max() < 1
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    for axis in range(3):
        a, b = np.take(u, range(u.shape[axis] - 1), axis), np.take(u, range(1, u.shape[axis]), axis)
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


def test_the_extreme_bits_give_finite_noise():
    """All ones once rounded to 1.0, whose Gumbel noise is infinite and picks its code whatever the logit."""
    uniform = _to_uniform(torch.tensor([0, -1, 1 << 62, -(1 << 63)]))
    assert ((uniform > 0) & (uniform < 1)).all()
    assert torch.isfinite(-(-uniform.log()).log()).all()


def test_gumbel_argmax_draws_from_the_softmax():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    drawn = (logits + gumbel_grid(5, torch.arange(20_000), 0, 4)).argmax(1)
    counts = torch.bincount(drawn, minlength=4).numpy()
    assert stats.chisquare(counts, 20_000 * logits.double().softmax(0).numpy()).pvalue > 1e-3


def test_seeded_init_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with seeded_init(1, "x"):
        a = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded_init(1, "x"):
        assert torch.equal(torch.rand(3), a)
