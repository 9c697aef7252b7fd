"""Stage 2: sizes, loss, sampling."""

import json
import math

import pytest
import torch

from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveConfig, AutoregressiveSampling, paper_size
from vistok.generator.autoregressive.frozen import FrozenTransformer
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.generator.autoregressive.speculative import SpeculativeSampler
from vistok.generator.codes import choose, guide
from vistok.nn.filtering import filter_logits, keep_top_k, keep_top_p
from vistok.nn.flops import count_params, on_meta
from vistok.nn.mixers.config import SoftmaxConfig
from vistok.nn.mixers.softmax import Attention
from vistok.nn.rope import apply_rotary, axial_table, with_class_token
from vistok.nn.transformer import feed_forward_width
from vistok.space import token_grid

GRID, CODES, CLASSES = (4, 5), 40, 6


def make(trained=True, **changes):
    torch.manual_seed(0)
    config = AutoregressiveConfig(**({"width": 32, "depth": 2, "num_heads": 2, "ffn_multiple": 16} | changes))
    model = AutoregressiveGenerator(config, token_grid(*GRID, CODES), CLASSES)
    if trained:  # the head starts at zero: give it something to say
        torch.nn.init.normal_(model.head.weight, std=0.5)
    return model.eval()


def make_tokens(batch=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(CODES, (batch, 20), generator=generator), torch.arange(batch) % CLASSES


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("52m", 52.09),
        ("81m", 80.56),
        ("111m", 110.9),
        ("212m", 212.0),
        ("343m", 342.9),
        ("517m", 516.7),
        ("775m", 774.7),
    ],
)
def test_the_papers_seven_sizes(name, millions):
    model = on_meta(lambda: AutoregressiveGenerator(paper_size(name), token_grid(16, 16, 16_384), 1_000))
    assert count_params(model) / 1e6 == pytest.approx(millions, abs=0.06)


def test_loss_at_the_start_is_ln_k():
    tokens, labels = make_tokens()
    loss = make(trained=False).nats(tokens, labels)
    torch.testing.assert_close(loss, torch.full_like(loss, math.log(CODES)))


def test_evaluation_mode_gives_a_loss_and_training_after_sampling_works():
    model = make(dropout=0.1)
    tokens, labels = make_tokens()
    first = model.nats(tokens, labels)
    assert torch.equal(first, model.nats(tokens, labels))
    model.train()
    model.sample(labels, torch.arange(3), AutoregressiveSampling(guidance_scale=1.5))
    assert model.training
    loss = model.nats(tokens, labels).mean()
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    model.eval()
    assert torch.equal(first, model.nats(tokens, labels))


def test_a_token_changes_later_logits_only():
    model = make()
    tokens, labels = make_tokens()
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % CODES
    before, after = model(tokens, labels), model(changed, labels)
    assert torch.equal(before[:, :8], after[:, :8])
    assert (before[:, 8:] != after[:, 8:]).any(-1).all()


@pytest.mark.parametrize("rotary", ["identity", "zero"])
@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("step", [1, 3])
def test_cached_logits_equal_uncached(rotary, qk_norm, step):
    model = make(class_token_rotary=rotary, qk_norm=qk_norm)
    tokens, labels = make_tokens()
    expected = model(tokens, labels)
    inputs = torch.cat([model.classes(labels)[:, None], model.token_embedding(tokens[:, :-1])], dim=1)
    decoder = FrozenTransformer(model)
    cache = decoder.new_cache(3)
    for start in range(0, 20, step):
        logits = decoder.logits(inputs[:, start : start + step], cache)
        torch.testing.assert_close(logits, expected[:, start : start + step], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_samples_do_not_depend_on_the_batch(guidance):
    """Bound: none of 64 x 20 tokens may differ here; rounding of logits flips one in many thousands."""
    model = make()
    labels, ids = torch.arange(64) % CLASSES, torch.arange(64)
    sampling = AutoregressiveSampling(guidance_scale=guidance, seed=3)
    grids = [
        torch.cat([model.sample(labels[i : i + size], ids[i : i + size], sampling) for i in range(0, 64, size)])
        for size in (1, 7, 64)
    ]
    assert torch.equal(grids[0], grids[1]) and torch.equal(grids[0], grids[2])
    assert not torch.equal(grids[0], model.sample(labels, ids, AutoregressiveSampling(guidance_scale=guidance, seed=4)))


def test_samples_follow_the_models_distribution():
    """Position 0 given a class: frequencies against the softmax of the logits."""
    from scipy import stats

    model = make()
    labels = torch.full((4000,), 2)
    drawn = model.sample(labels, torch.arange(4000), AutoregressiveSampling())[:, 0]
    with torch.no_grad():
        probability = model(torch.zeros(1, 20, dtype=torch.int64), labels[:1])[0, 0].double().softmax(0).numpy()
    counts = torch.bincount(drawn, minlength=CODES).numpy()
    assert stats.chisquare(counts, 4000 * probability / probability.sum()).pvalue > 1e-3


def test_guidance_one_is_conditional_and_zero_is_unconditional():
    model = make()
    ids = torch.arange(6)
    labels = torch.arange(6)
    plain = model.sample(labels, ids, AutoregressiveSampling())
    cond, uncond = torch.randn(2, 3, CODES)
    torch.testing.assert_close(guide(cond, uncond, 1.0), cond)
    assert torch.equal(guide(cond, uncond, 0.0), uncond)
    near_one = model.sample(labels, ids, AutoregressiveSampling(guidance_scale=1.0 + 1e-9))
    assert torch.equal(plain, near_one)
    unconditional = model.sample(labels, ids, AutoregressiveSampling(guidance_scale=0.0))
    assert torch.equal(unconditional, model.sample(labels.flip(0), ids, AutoregressiveSampling(guidance_scale=0.0)))


def test_label_dropout_rate():
    model = make(label_dropout=0.1)
    torch.manual_seed(0)
    labels = torch.zeros(20_000, dtype=torch.int64)
    dropped = model.classes.drop(labels) == model.classes.null_label
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.008)


def test_bad_requests():
    model = make(label_dropout=0.0)
    with pytest.raises(UserError, match="label_dropout"):
        model.sample(torch.zeros(1, dtype=torch.int64), torch.arange(1), AutoregressiveSampling(guidance_scale=2.0))
    with pytest.raises(UserError, match=r"0\.\.\.5, found 6\.\.\.6"):
        model.sample(torch.full((1,), 6), torch.arange(1), AutoregressiveSampling())


def test_filters():
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    inf = float("inf")
    assert keep_top_k(logits, 2).tolist() == [[-inf, 3.0, 2.0, -inf]]
    assert keep_top_k(logits, 9).tolist() == logits.tolist()
    probability = logits.softmax(1)[0].sort(descending=True).values
    assert keep_top_p(logits, float(probability[0]) - 1e-4).tolist() == [[-inf, 3.0, -inf, -inf]]
    assert keep_top_p(logits, float(probability[:2].sum()) - 1e-4).tolist() == [[-inf, 3.0, 2.0, -inf]]
    assert keep_top_p(logits, 1.0).tolist() == logits.tolist()
    # Temperature comes first: top-p then keeps a smaller set of a sharper distribution.
    assert filter_logits(logits, AutoregressiveSampling(temperature=0.1, top_p=0.9)).isinf().sum() == 3
    greedy = choose(logits, torch.tensor([5]), 0, AutoregressiveSampling(temperature=0.0))
    assert greedy.tolist() == [1]


def test_rotary_depends_on_relative_place_only_by_axis():
    cos, sin = axial_table(6, 6, 16)
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16)

    def product(a, b):
        turn = lambda x, at: apply_rotary(x, cos[at : at + 1], sin[at : at + 1])  # noqa: E731
        return float((turn(q, a) * turn(k, b)).sum())

    place = lambda row, column: 6 * row + column  # noqa: E731
    assert product(place(1, 2), place(3, 1)) == pytest.approx(product(place(2, 4), place(4, 3)), abs=1e-5)
    assert product(place(1, 2), place(3, 1)) != pytest.approx(product(place(1, 2), place(1, 3)), abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_formulas_of_the_rotary_turn_are_equal(dtype, monkeypatch):
    """The compiler gets another formula; the same weights must give the same model either way, cast ones too."""
    cos, sin = (table.to(dtype) for table in axial_table(3, 5, 16))
    joint = torch.randn(2, 15, 3 * 4 * 16, dtype=dtype, requires_grad=True)
    found = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda compiling=compiling: compiling)
        x = joint.unflatten(-1, (3, 4, 16))[:, :, 1].transpose(1, 2)
        turned = apply_rotary(x, cos, sin)
        found.append((turned, torch.autograd.grad(turned.float().square().sum(), joint)[0]))
    (eager, eager_gradient), (compiled, compiled_gradient) = found
    assert eager.dtype == dtype
    torch.testing.assert_close(eager, compiled)
    torch.testing.assert_close(eager_gradient, compiled_gradient)


def test_class_token_rotary_modes():
    table = axial_table(2, 2, 8)
    x = torch.randn(1, 1, 1, 8)
    for mode, expected in (("identity", x), ("zero", torch.zeros_like(x))):
        cos, sin = with_class_token(table, mode)
        assert len(cos) == 5
        assert torch.equal(apply_rotary(x, cos[:1], sin[:1]), expected)


def test_queries_and_keys_are_normalised_before_the_turn():
    torch.manual_seed(0)
    attention = Attention(SoftmaxConfig(), 32, 2, qk_norm=True)
    x = torch.randn(1, 5, 32)
    cos, sin = torch.ones(5, 8), torch.zeros(5, 8)
    with torch.no_grad():
        expected = attention(x, cos, sin)
        attention.qkv.weight[:64] *= 7  # queries and keys; a layer norm does not see their scale
        torch.testing.assert_close(attention(x, cos, sin), expected, rtol=1e-3, atol=1e-4)
    assert sum(p.numel() for p in attention.query_norm.parameters()) == 16


def test_feed_forward_width_is_llamas():
    assert [feed_forward_width(w, 256) for w in (640, 768, 1280)] == [1792, 2048, 3584]
    assert feed_forward_width(128, 32) == 352


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("lookahead", [1, 3, 30])
@pytest.mark.parametrize("filters", [{}, {"top_k": 12, "temperature": 0.8}, {"temperature": 0.0}])
def test_speculative_decoding_draws_what_plain_decoding_draws(batch, guidance, lookahead, filters):
    """With a poor draft, whose rows fall apart, and with the target itself, whose guesses are all right."""
    target, poor = make(), make(depth=1, width=16)
    labels, ids = torch.arange(batch) % CLASSES, torch.arange(batch) + 5
    sampling = AutoregressiveSampling(guidance_scale=guidance, seed=2, **filters)
    expected = target.sample(labels, ids, sampling)
    for draft in (poor, target):
        sampler = SpeculativeSampler(FrozenTransformer(target), FrozenTransformer(draft), sampling, lookahead)
        assert torch.equal(sampler(labels, ids), expected)
        found = sampler.acceptance
        assert found.tokens == batch * 19 and found.right <= found.guesses
        assert found.right + found.passes >= found.tokens
        if draft is target:
            assert found.rate == 1 and found.passes == batch * -(-19 // (lookahead + 1))
        elif batch == 7 and not filters:
            assert 0 < found.rate < 1


def test_a_draft_of_other_tokens_is_refused():
    torch.manual_seed(0)
    other = AutoregressiveGenerator(
        AutoregressiveConfig(width=16, depth=1, num_heads=1), token_grid(*GRID, CODES + 1), CLASSES
    )
    with pytest.raises(UserError, match=r"draft's codebook_size is 41, the generator's 40"):
        SpeculativeSampler(FrozenTransformer(make()), FrozenTransformer(other), AutoregressiveSampling(), 4)
    with pytest.raises(UserError, match="lookahead 0"):
        SpeculativeSampler(FrozenTransformer(make()), FrozenTransformer(make()), AutoregressiveSampling(), 0)


def test_a_draft_does_not_get_round_the_checks():
    without, target = make(label_dropout=0.0), make()
    for pair in ((without, target), (target, without)):
        sampler = SpeculativeSampler(*map(FrozenTransformer, pair), AutoregressiveSampling(guidance_scale=2.0), 2)
        with pytest.raises(UserError, match="label_dropout"):
            sampler(torch.zeros(1, dtype=torch.int64), torch.arange(1))
    sampler = SpeculativeSampler(FrozenTransformer(target), FrozenTransformer(target), AutoregressiveSampling(), 2)
    with pytest.raises(UserError, match=r"0\.\.\.5, found 6\.\.\.6"):
        sampler(torch.full((1,), 6), torch.arange(1))


@pytest.mark.parametrize("neutral", [{"top_p": 1.0}, {"top_k": CODES}, {"top_k": 10**6}, {"temperature": 1.0}])
def test_filters_at_their_neutral_value_change_nothing(neutral):
    """Probabilities of float32 sum to 1 before the last, unlikely codes: those were cut, and at top_p 1 must not be."""
    logits = torch.linspace(0, 60, CODES).repeat(3, 1)
    assert torch.equal(filter_logits(logits, AutoregressiveSampling(**neutral)), logits)
    model, ids = make(), torch.arange(12)
    torch.nn.init.normal_(model.head.weight, std=5)
    expected = model.sample(ids % CLASSES, ids, AutoregressiveSampling())
    assert torch.equal(model.sample(ids % CLASSES, ids, AutoregressiveSampling(**neutral)), expected)


@pytest.mark.parametrize("change", [{"guidance_scale": math.inf}, {"temperature": math.inf}, {"temperature": math.nan}])
def test_sampling_takes_finite_numbers(change):
    with pytest.raises(UserError, match=f"{next(iter(change))}.*finite|greater"):
        AutoregressiveSampling.from_json(json.dumps(change))
