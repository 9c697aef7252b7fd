"""One contract, every quantizer."""

import json

import pytest
import torch
from torch.nn import functional as F

from vistok.config import make
from vistok.errors import UserError
from vistok.nn.kmeans import kmeans
from vistok.tokenizer.bottlenecks import vq as vq_module
from vistok.tokenizer.bottlenecks.config import BOTTLENECKS, FSQConfig, SimVQConfig, VQConfig
from vistok.tokenizer.bottlenecks.vq import nearest_codes

CONFIGS = [
    VQConfig(codebook_size=96, code_dim=8),
    SimVQConfig(codebook_size=96, code_dim=8),
    FSQConfig(levels=(8, 5, 4)),
    FSQConfig(levels=(3, 2)),
    FSQConfig(levels=(7,)),
]


@pytest.fixture(params=CONFIGS, ids=str)
def quantizer(request):
    torch.manual_seed(0)
    return make(BOTTLENECKS, request.param)


def test_round_trip(quantizer):
    indices = torch.arange(quantizer.codebook_size)
    codes = quantizer.indices_to_codes(indices)
    assert codes.shape == (quantizer.codebook_size, quantizer.code_dim)
    assert torch.equal(quantizer.codes_to_indices(codes), indices)


def test_output_is_consistent(quantizer):
    z_e = 2 * torch.randn(5, 7, quantizer.code_dim)
    out = quantizer(z_e)
    assert out.stored.shape == (5, 7) and out.stored.dtype == torch.int64
    assert out.stored.min() >= 0 and out.stored.max() < quantizer.codebook_size
    torch.testing.assert_close(out.decoded, quantizer.indices_to_codes(out.stored))
    assert torch.equal(
        quantizer(out.decoded.detach() if isinstance(quantizer.config, VQConfig | SimVQConfig) else z_e).stored,
        out.stored,
    )


def test_straight_through_gradient(quantizer):
    z_e = torch.randn(4, 6, quantizer.code_dim, requires_grad=True)
    out = quantizer(z_e)
    weight = torch.randn_like(out.decoded)
    through_codes = torch.autograd.grad((out.decoded * weight).sum(), z_e, retain_graph=True)[0]
    through_latents = torch.autograd.grad((out.latents * weight).sum(), z_e)[0]
    assert through_codes.abs().sum() > 0
    torch.testing.assert_close(through_codes, through_latents)


def test_decoder_gradient_stays_out_of_the_codebook():
    quantizer = make(BOTTLENECKS, CONFIGS[0])
    z_e = torch.randn(4, 8, requires_grad=True)
    quantizer(z_e).decoded.sum().backward()
    assert z_e.grad.abs().sum() > 0
    assert quantizer.codebook.grad is None or quantizer.codebook.grad.abs().sum() == 0


def test_float32_under_autocast(quantizer):
    z_e = torch.randn(64, quantizer.code_dim)
    expected = quantizer(z_e.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantizer(z_e.bfloat16())
    assert out.decoded.dtype == out.latents.dtype == torch.float32
    assert torch.equal(out.stored, expected.stored)


def test_fsq_uses_every_code():
    quantizer = make(BOTTLENECKS, FSQConfig(levels=(8, 5, 4)))
    z_e = 3 * torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    assert len(quantizer(z_e).stored.unique()) == 160
    assert quantizer(1e4 * z_e.sign()).stored.max() == 159


def test_vq_equals_an_exact_search_and_its_losses_are_the_papers():
    torch.manual_seed(1)
    quantizer = make(BOTTLENECKS, VQConfig(codebook_size=300, code_dim=8, commitment_weight=0.25))
    z_e = torch.randn(500, 8, requires_grad=True)
    out = quantizer(z_e)
    z, c = F.normalize(z_e.double(), dim=-1), F.normalize(quantizer.codebook.double(), dim=-1)
    distance = torch.cdist(z, c)
    assert torch.equal(out.stored, distance.argmin(1))
    nearest = c[out.stored]
    torch.testing.assert_close(out.losses["codebook_loss"].double(), (nearest - z).square().mean(), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        out.losses["commitment_loss"].double(), 0.25 * (nearest - z).square().mean(), rtol=1e-5, atol=0
    )
    # beta acts on the commitment term: it moves latents, the codebook term moves codes.
    assert torch.autograd.grad(out.losses["codebook_loss"], z_e, retain_graph=True, allow_unused=True)[0] is None
    assert torch.autograd.grad(out.losses["commitment_loss"], quantizer.codebook, allow_unused=True)[0] is None


def test_look_up_in_chunks_equals_one_product(monkeypatch):
    torch.manual_seed(2)
    latents, codebook = torch.randn(1000, 8), torch.randn(257, 8)
    codebook[100] = codebook[7]  # a tie: the lowest number wins
    expected = (latents @ codebook.T).argmax(1)
    monkeypatch.setattr(vq_module, "LOOKUP_ELEMENTS", 257 * 13)
    assert torch.equal(nearest_codes(latents, codebook), expected)
    assert not (expected == 100).any()


def test_simvq_is_a_nearest_code_search_among_mapped_codes_and_every_choice_moves_all_of_them():
    torch.manual_seed(4)
    quantizer = make(BOTTLENECKS, SimVQConfig(codebook_size=300, code_dim=8, commitment_weight=0.5))
    assert [name for name, _ in quantizer.named_parameters()] == ["map"]  # the codes themselves stay as they are
    z_e = 0.3 * torch.randn(500, 8)
    out = quantizer(z_e.requires_grad_())
    codes = quantizer.frozen.double() @ quantizer.map.double().T
    assert torch.equal(out.stored, torch.cdist(z_e.double(), codes).argmin(1))
    error = (codes[out.stored] - z_e.double()).square().mean()
    torch.testing.assert_close(out.losses["codebook_loss"].double(), error, rtol=1e-5, atol=0)
    torch.testing.assert_close(out.losses["commitment_loss"].double(), 0.5 * error, rtol=1e-5, atol=0)
    assert torch.autograd.grad(out.losses["commitment_loss"], quantizer.map, retain_graph=True, allow_unused=True)[0] is None  # fmt: skip
    before = quantizer.codebook().detach().clone()
    quantizer(z_e[:1].detach()).losses["codebook_loss"].backward()  # one latent, one code
    with torch.no_grad():
        quantizer.map -= quantizer.map.grad
    assert ((quantizer.codebook() - before).abs().amax(1) > 0).all()


def test_simvq_has_no_codes_to_restart():
    for name in ("restart_after", "start_after"):
        with pytest.raises(UserError, match=f"{name} moves single codes, which vq has"):
            SimVQConfig.from_json(json.dumps({"kind": "simvq", name: 50}))


def test_dead_codes_are_restarted_from_latents():
    torch.manual_seed(3)
    quantizer = make(BOTTLENECKS, VQConfig(codebook_size=32, code_dim=4, restart_after=2)).train()
    z_e = F.normalize(torch.tensor([[1.0, 0.1, 0, 0], [1.0, -0.1, 0, 0]]), dim=-1).repeat(50, 1)
    before = quantizer.codebook.detach().clone()
    for step in range(3):
        used = quantizer(z_e).stored.unique()
        quantizer.after_step(0, step)
        changed = (quantizer.codebook != before).any(1)
        if step == 0:
            assert not changed.any()
        if step == 1:
            assert not changed[used].any() and changed.sum() == 32 - len(used)
            restarted = quantizer.codebook[changed].detach()
    assert torch.cdist(restarted, z_e).min(1).values.max() < 1e-6


def clustered(seed, lookup):
    """Latents about eight directions."""
    generator = torch.Generator().manual_seed(seed)
    angles = torch.arange(8) * torch.pi / 4
    centres = torch.stack([angles.cos(), angles.sin()], dim=-1)
    return (centres + 0.02 * torch.randn(4, 8, 2, generator=generator)) * (1 if lookup == "euclidean" else 3)


@pytest.mark.parametrize("lookup", ["cosine", "euclidean"])
def test_codes_begin_where_the_latents_are(lookup):
    torch.manual_seed(0)
    quantizer = make(BOTTLENECKS, VQConfig(codebook_size=8, code_dim=2, start_after=3, lookup=lookup)).train()
    for step in range(3):
        latents = clustered(step, lookup).requires_grad_()
        output = quantizer(latents)
        assert torch.equal(output.decoded, output.latents)  # the decoder learns from the latents as they are
        assert all(float(loss.detach()) == 0 for loss in output.losses.values())
        sum(output.losses.values()).backward()
        assert quantizer.codebook.grad is not None  # which replicas of several processes wait for
        quantizer.after_step(0, step)
    assert quantizer.placed_anew == ("codebook",)
    output = quantizer(clustered(9, lookup))
    assert len(output.stored.unique()) == 8
    assert float(output.statistics["quantization_error"]) < 0.01
    quantizer.after_step(0, 3)
    assert quantizer.placed_anew == ()


def test_waiting_codes_go_on_exactly_from_a_checkpoint_and_trained_ones_stay():
    config = VQConfig(codebook_size=8, code_dim=2, start_after=3)
    quantizers = [make(BOTTLENECKS, config).train() for _ in range(2)]
    for step in range(3):
        if step == 2:  # the second one is stopped here, and another takes its state
            quantizers[1] = make(BOTTLENECKS, config).train()
            quantizers[1].load_state_dict(quantizers[0].state_dict())
        for quantizer in quantizers[: 1 + (step == 2)]:
            quantizer(clustered(step, "cosine"))
            quantizer.after_step(5, step)
    assert torch.equal(quantizers[0].codebook, quantizers[1].codebook)
    before = quantizers[0].codebook.detach().clone()
    for step in range(3):  # a new run that begins with these weights
        quantizers[0](clustered(step + 7, "cosine"))
        quantizers[0].after_step(5, step)
    assert torch.equal(quantizers[0].codebook, before)


def test_kmeans_finds_the_centres_and_leaves_no_cluster_empty():
    vectors = clustered(0, "euclidean").flatten(0, 1)
    place = vq_module.VQ._placed
    quantizer = make(BOTTLENECKS, VQConfig(codebook_size=8, code_dim=2, lookup="euclidean"))
    codes = kmeans(vectors, 8, quantizer._nearest, lambda v: place(quantizer, v), torch.Generator().manual_seed(1))
    assert len(quantizer._nearest(vectors, codes).unique()) == 8
    few = kmeans(vectors[:3], 8, quantizer._nearest, lambda v: v, torch.Generator().manual_seed(1))
    assert few.shape == (8, 2) and torch.isfinite(few).all()
