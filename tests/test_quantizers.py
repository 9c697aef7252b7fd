"""One contract, every quantizer."""

import pytest
import torch
from torch.nn import functional as F

from vistok.tokenizer.config import FSQConfig, VQConfig
from vistok.tokenizer.quantizers import build_quantizer
from vistok.tokenizer.quantizers import vq as vq_module
from vistok.tokenizer.quantizers.vq import nearest_codes

CONFIGS = [
    VQConfig(codebook_size=96, code_dim=8),
    FSQConfig(levels=(8, 5, 4)),
    FSQConfig(levels=(3, 2)),
    FSQConfig(levels=(7,)),
]


@pytest.fixture(params=CONFIGS, ids=str)
def quantizer(request):
    torch.manual_seed(0)
    return build_quantizer(request.param)


def test_round_trip(quantizer):
    indices = torch.arange(quantizer.codebook_size)
    codes = quantizer.indices_to_codes(indices)
    assert codes.shape == (quantizer.codebook_size, quantizer.code_dim)
    assert torch.equal(quantizer.codes_to_indices(codes), indices)


def test_output_is_consistent(quantizer):
    z_e = 2 * torch.randn(5, 7, quantizer.code_dim)
    out = quantizer(z_e)
    assert out.indices.shape == (5, 7) and out.indices.dtype == torch.int64
    assert out.indices.min() >= 0 and out.indices.max() < quantizer.codebook_size
    torch.testing.assert_close(out.z_q, quantizer.indices_to_codes(out.indices))
    assert torch.equal(
        quantizer(out.z_q.detach() if isinstance(quantizer.config, VQConfig) else z_e).indices, out.indices
    )


def test_straight_through_gradient(quantizer):
    z_e = torch.randn(4, 6, quantizer.code_dim, requires_grad=True)
    out = quantizer(z_e)
    weight = torch.randn_like(out.z_q)
    through_codes = torch.autograd.grad((out.z_q * weight).sum(), z_e, retain_graph=True)[0]
    through_latents = torch.autograd.grad((out.latents * weight).sum(), z_e)[0]
    assert through_codes.abs().sum() > 0
    torch.testing.assert_close(through_codes, through_latents)


def test_decoder_gradient_stays_out_of_the_codebook():
    quantizer = build_quantizer(CONFIGS[0])
    z_e = torch.randn(4, 8, requires_grad=True)
    quantizer(z_e).z_q.sum().backward()
    assert z_e.grad.abs().sum() > 0
    assert quantizer.codebook.grad is None or quantizer.codebook.grad.abs().sum() == 0


def test_float32_under_autocast(quantizer):
    z_e = torch.randn(64, quantizer.code_dim)
    expected = quantizer(z_e.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantizer(z_e.bfloat16())
    assert out.z_q.dtype == out.latents.dtype == torch.float32
    assert torch.equal(out.indices, expected.indices)


def test_fsq_uses_every_code():
    quantizer = build_quantizer(FSQConfig(levels=(8, 5, 4)))
    z_e = 3 * torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    assert len(quantizer(z_e).indices.unique()) == 160
    assert quantizer(1e4 * z_e.sign()).indices.max() == 159


def test_vq_equals_an_exact_search_and_its_losses_are_the_papers():
    torch.manual_seed(1)
    quantizer = build_quantizer(VQConfig(codebook_size=300, code_dim=8, commitment_weight=0.25))
    z_e = torch.randn(500, 8, requires_grad=True)
    out = quantizer(z_e)
    z, c = F.normalize(z_e.double(), dim=-1), F.normalize(quantizer.codebook.double(), dim=-1)
    distance = torch.cdist(z, c)
    assert torch.equal(out.indices, distance.argmin(1))
    nearest = c[out.indices]
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


def test_dead_codes_are_restarted_from_latents():
    torch.manual_seed(3)
    quantizer = build_quantizer(VQConfig(codebook_size=32, code_dim=4, restart_after=2)).train()
    z_e = F.normalize(torch.tensor([[1.0, 0.1, 0, 0], [1.0, -0.1, 0, 0]]), dim=-1).repeat(50, 1)
    before = quantizer.codebook.detach().clone()
    for step in range(3):
        used = quantizer(z_e).indices.unique()
        quantizer.after_step(0, step)
        changed = (quantizer.codebook != before).any(1)
        if step == 0:
            assert not changed.any()
        if step == 1:
            assert not changed[used].any() and changed.sum() == 32 - len(used)
            restarted = quantizer.codebook[changed].detach()
    assert torch.cdist(restarted, z_e).min(1).values.max() < 1e-6
