"""The causal regularizer, line by line of its definition (arXiv 2412.16326, sections 3.6 and A.1)."""

import math

import pytest
import torch
from torch.nn import functional as F

from vistok.config import override
from vistok.engine.phase import only
from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.space import grid, token_grid
from vistok.tokenizer.bottlenecks.base import BottleneckOutput
from vistok.tokenizer.latent_variance import batch_variance
from vistok.tokenizer.ramp import cosine_ramp
from vistok.tokenizer.regularizers.base import Setting
from vistok.tokenizer.regularizers.causal import CausalModel, CausalRegularizer, scale_gradient
from vistok.tokenizer.regularizers.config import CausalConfig
from vistok.units import Scale
from vistok.verbs.train_tokenizer import build_objective

VARIANTS = ("l2_pre", "l2_post", "ce_post", "l2_pre_normalized")
SMALL = {"width": 32, "num_heads": 2, "ffn_multiple": 32}
GRID, DIM, CODES = (3, 4), 8, 20


def make(variant="l2_pre", **changes):
    torch.manual_seed(0)
    return CausalRegularizer(CausalConfig(variant=variant, **SMALL, **changes), Setting(DIM, token_grid(*GRID, CODES)))


def make_quantized(batch=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    z_e = torch.randn(batch, 12, DIM, generator=generator, requires_grad=True)
    latents = F.normalize(z_e, dim=-1)
    codes = F.normalize(torch.randn(CODES, DIM, generator=generator), dim=-1)
    indices = (latents @ codes.T).argmax(-1)
    z_q = latents + (codes[indices] - latents).detach()
    return z_e, BottleneckOutput(latents, z_q, indices)


def test_one_latent_has_nothing_to_be_predicted_from():
    """Its loss was the mean of no numbers, NaN, and the run died at once with advice about images."""
    with pytest.raises(UserError, match="has one latent"):
        CausalRegularizer(CausalConfig(**SMALL), Setting(DIM, token_grid(1, 1, CODES)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_at_the_latents_is_exactly_the_weight_times_the_unscaled_one(variant):
    regularizer = make(variant)
    gradients = {}
    for weight in (0.0, 1.0, 0.5, 4.0):
        z_e, quantized = make_quantized()
        (gradients[weight],) = torch.autograd.grad(regularizer.loss(quantized, weight), quantized.latents)
    assert gradients[1.0].abs().max() > 0
    for weight in (0.0, 0.5, 4.0):  # powers of two: the product is exact
        assert torch.equal(gradients[weight], weight * gradients[1.0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_causal_models_own_loss_and_gradient_do_not_depend_on_the_weight(variant):
    regularizer = make(variant)
    results = []
    for weight in (0.0, 4.0):
        _, quantized = make_quantized()
        loss = regularizer.loss(quantized, weight)
        results.append((loss, torch.autograd.grad(loss, list(regularizer.parameters()))))
    assert torch.equal(results[0][0], results[1][0])
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("j", range(12))
def test_changing_latent_j_leaves_the_predictions_of_latents_up_to_j(j):
    torch.manual_seed(0)
    model = CausalModel(CausalConfig(**SMALL), DIM, DIM, grid(*GRID)).eval()
    x = torch.randn(2, 12, DIM)
    changed = x.clone()
    changed[:, j] += 1
    before, after = model(x[:, :-1]), model(changed[:, :-1])
    # Output i predicts latent i + 1, so outputs 0 ... j-1 are the predictions of latents 1 ... j.
    torch.testing.assert_close(before[:, :j], after[:, :j], rtol=0, atol=0)
    if j < 11:
        assert (before[:, j:] != after[:, j:]).any()


def reference_loss(variant, model, z_e, quantized):
    """The loss, written plainly."""
    latents = F.normalize(z_e, dim=-1)
    inputs = latents if "pre" in variant else quantized.decoded
    errors, batch, positions = [], *latents.shape[:2]
    predicted = model(inputs[:, : positions - 1])
    for b in range(batch):
        for i in range(positions - 1):
            if variant == "ce_post":
                errors.append(-predicted[b, i].log_softmax(0)[quantized.stored[b, i + 1]])
            else:
                errors.append(((predicted[b, i] - inputs[b, i + 1]) ** 2).mean())
    loss = torch.stack(errors).mean()
    if variant == "l2_pre_normalized":
        targets = latents[:, 1:].reshape(-1, DIM)
        loss = loss / ((targets - targets.mean(0)) ** 2).mean() / DIM
    return loss


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_equals_a_plain_reference(variant):
    regularizer = make(variant)
    z_e, quantized = make_quantized()
    loss = regularizer.loss(quantized, 1.0)
    expected = reference_loss(variant, regularizer.model, z_e, quantized)
    torch.testing.assert_close(loss, expected)
    mine, theirs = (torch.autograd.grad(value, z_e, retain_graph=True)[0] for value in (loss, expected))
    torch.testing.assert_close(mine, theirs)


def test_gradient_reaches_the_encoder_through_inputs_and_targets_unless_detached():
    full, detached = make(), make(detach_target=True)
    gradients = []
    for regularizer in (full, detached):
        _, quantized = make_quantized()
        (gradient,) = torch.autograd.grad(regularizer.loss(quantized, 1.0), quantized.latents)
        gradients.append(gradient)
    # The last latent is never an input: only as a target does it get a gradient.
    assert gradients[0][:, -1].abs().max() > 0
    assert gradients[1][:, -1].abs().max() == 0
    assert gradients[1][:, 0].abs().max() > 0


def test_post_variants_reach_the_encoder_only_straight_through_and_leave_the_codebook_alone():
    for variant in ("l2_post", "ce_post"):
        regularizer = make(variant)
        codebook = torch.randn(CODES, DIM, requires_grad=True)
        latents = F.normalize(torch.randn(2, 12, DIM), dim=-1).requires_grad_()
        indices = (latents @ codebook.T).argmax(-1)
        z_q = latents + (codebook[indices] - latents).detach()
        gradients = torch.autograd.grad(
            regularizer.loss(BottleneckOutput(latents, z_q, indices), 1.0), (latents, codebook), allow_unused=True
        )
        assert gradients[0].abs().max() > 0 and gradients[1] is None


def test_shrinking_the_spread_lowers_the_plain_loss_but_not_the_normalized_one():
    """Predict the mean: the best that can be done for independent latents."""

    class PredictMean(torch.nn.Module):
        def forward(self, x):
            return x.mean(dim=(0, 1), keepdim=True).expand(*x.shape)

    centre = F.normalize(torch.ones(DIM), dim=0)
    noise = torch.randn(200, 12, DIM, generator=torch.Generator().manual_seed(0))
    losses = {}
    for variant in ("l2_pre", "l2_pre_normalized"):
        regularizer = make(variant)
        regularizer.model = PredictMean()
        losses[variant] = [
            float(regularizer.loss(BottleneckOutput(centre + spread * noise, noise, noise.argmax(-1)), 1.0))
            for spread in (1.0, 0.1)
        ]
    assert losses["l2_pre"][1] == pytest.approx(0.01 * losses["l2_pre"][0], rel=0.01)
    assert losses["l2_pre_normalized"][1] == pytest.approx(losses["l2_pre_normalized"][0], rel=0.01)
    assert losses["l2_pre_normalized"][0] == pytest.approx(1 / DIM, rel=0.02)


def test_batch_variance():
    x = torch.randn(50, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(batch_variance(x)) == pytest.approx(x.reshape(-1, 3).numpy().var(axis=0).mean())


def test_scale_gradient_is_the_identity_forward():
    x = torch.randn(3, requires_grad=True)
    y = scale_gradient(x, 3.0)
    assert torch.equal(x, y)
    y.sum().backward()
    assert torch.equal(x.grad, torch.full((3,), 3.0))


def test_default_weights_and_ramp():
    assert [CausalConfig(variant=v).full_weight for v in VARIANTS] == [4.0, 4.0, 0.03, 4.0]
    assert CausalConfig(variant="ce_post", weight=1.0).full_weight == 1.0
    ramp = [cosine_ramp(step, 0, 1000) for step in (0, 250, 500, 750, 1000, 5000)]
    assert ramp == pytest.approx([0, 0.5 - 0.5 * math.cos(math.pi / 4), 0.5, 0.5 + 0.5 * math.cos(math.pi / 4), 1, 1])


def train_steps(config, num_steps=4):
    """Train on fixed images; return the tokenizer's weights."""
    objective = build_objective(config, torch.device("cpu"))
    phases = objective.phases(Scale(8, 100, 49, total_steps=20))
    generator = torch.Generator().manual_seed(0)
    for step in range(num_steps):
        micro = {
            "images": torch.rand(8, 1, 28, 28, generator=generator) * 2 - 1,
            "labels": torch.zeros(8, dtype=torch.int64),
        }
        for phase in phases:
            with only(phase, phases):
                phase.loss(micro, step).total.backward()
            for parameters in phase.clip_groups.values():
                torch.nn.utils.clip_grad_norm_(parameters, phase.clip_norm)
            phase.optimizer.step()
            phase.optimizer.zero_grad()
    return objective.tokenizer.state_dict()


def test_weight_zero_equals_no_regularizer_bit_for_bit():
    without = train_steps(find_recipe("debug_vq"))
    zero = train_steps(override(find_recipe("debug_crt"), ["crt.weight=0", "crt.ramp=0 steps"]))
    four = train_steps(override(find_recipe("debug_crt"), ["crt.weight=4", "crt.ramp=0 steps"]))
    for name, value in without.items():
        assert torch.equal(value, zero[name]), name
    assert any(not torch.equal(value, four[name]) for name, value in without.items())


def test_the_causal_model_is_a_parameter_group_of_the_autoencoders_adamw_with_its_own_clipping():
    config = override(find_recipe("debug_crt"), ["crt.weight_decay=0.1", "optimizer.weight_decay=0.05"])
    objective = build_objective(config, torch.device("cpu"))
    (phase,) = objective.phases(Scale(8, 100, 49, total_steps=20))
    causal = {id(p) for p in objective.networks["crt"].parameters()}
    assert {id(p) for p in phase.clip_groups["crt"]} == causal
    assert not causal & {id(p) for p in phase.clip_groups["autoencoder"]}
    decays = {
        group["weight_decay"] for group in phase.optimizer.param_groups if {id(p) for p in group["params"]} & causal
    }
    assert decays == {0.1, 0.0}


def test_full_size_regularizer_costs_about_five_percent():
    from vistok.nn.flops import count_flops, on_meta
    from vistok.tokenizer.config import ConvTokenizerConfig
    from vistok.tokenizer.networks.conv import ConvTokenizer

    tokenizer = on_meta(lambda: ConvTokenizer(ConvTokenizerConfig()))
    regularizer = on_meta(lambda: CausalRegularizer(CausalConfig(), Setting(8, token_grid(16, 16, 16_384))))
    images = torch.empty(1, 3, 256, 256, device="meta")

    def plain():
        output = tokenizer(images)
        (output.reconstruction.mean() + sum(output.bottleneck.losses.values())).backward()

    def causal():
        quantized = BottleneckOutput(
            *(torch.empty(1, 256, 8, device="meta", requires_grad=True) for _ in range(2)),
            torch.empty(1, 256, dtype=torch.int64, device="meta"),
        )
        regularizer.loss(quantized, 4.0).backward()

    assert 0.045 < count_flops(causal) / count_flops(plain) < 0.06
