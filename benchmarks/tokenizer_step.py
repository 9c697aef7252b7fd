"""A training step of the tokenizer against LlamaGen's, adversarial phase on, no perceptual network on either side.

At 256x256 (the f16 network, batch 1) and at 28x28 (32 channels, which the peer's group norm needs, batch 32). And
what the regularizer adds to a step of ours, at 256x256 and by the Fashion-MNIST recipe.
"""

import torch
from common import alternate, alternate_apart, arguments, entry, llamagen, matrix_rate, median, save
from torch.nn import functional as F

from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.engine.device import setup_device
from vistok.nn.flops import count_params
from vistok.recipes import find_recipe
from vistok.runs.config import TokenizerRun
from vistok.runs.plan import UNKNOWN_COST, step_flops
from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.config import AdversarialConfig, ConvNetConfig, ConvTokenizerConfig, LossConfig
from vistok.tokenizer.regularizers.config import CausalConfig
from vistok.units import Scale, steps
from vistok.verbs.train_tokenizer import build_objective

CPU = torch.device("cpu")


def config(size: int) -> TokenizerRun:
    """Return the run that both sides train."""
    small = size == 28
    network = ConvNetConfig(channels=32, multipliers=(1, 1, 2), num_res_blocks=1, attention_resolutions=(7,))
    network = network if small else ConvNetConfig()
    tokenizer = ConvTokenizerConfig(
        image_size=size, in_channels=3, latent_channels=64 if small else 256, encoder=network, decoder=network,
        quantizer=VQConfig(codebook_size=512 if small else 16_384),
    )  # fmt: skip
    gan = AdversarialConfig(start=steps(0), ramp=steps(0))
    data = DataConfig(dataset="folder", root=".", image_size=size, channels=3)
    return TokenizerRun(
        data=data, tokenizer=tokenizer, losses=LossConfig(perceptual=None, adversarial=gan), batch_size=32 if small else 1,
        length=steps(100), optimizer=OptimizerConfig(lr=1e-4, weight_decay=0.05), ema_decay=0.999,
    )  # fmt: skip


def our_step(run: TokenizerRun):  # noqa: ANN201
    """Return (a step, its FLOPs, parameters): what the training loop does between two batches, averages included."""
    from vistok.engine.ema import EMA
    from vistok.engine.phase import only

    shape = (run.batch_size, run.tokenizer.in_channels, run.tokenizer.image_size, run.tokenizer.image_size)
    scale = Scale(run.batch_size, 1000, run.tokenizer.num_tokens, UNKNOWN_COST, 100)
    objective = build_objective(run, CPU)
    phases = objective.phases(scale)
    ema = EMA(objective.tokenizer, run.ema_decay)
    images = torch.rand(shape) * 2 - 1

    def step() -> None:
        micro = {"images": images, "labels": torch.zeros(run.batch_size, dtype=torch.int64)}
        for phase in phases:
            with only(phase, phases):
                phase.loss(micro, 50).total.backward()
        for phase in phases:
            for parameters in phase.clip_groups.values():
                torch.nn.utils.clip_grad_norm_(parameters, phase.clip_norm)
            phase.optimizer.step()
            phase.optimizer.zero_grad(set_to_none=True)
            if phase.after_step is not None:
                phase.after_step(50)
        ema.update(50)

    meta = torch.device("meta")
    on_meta = {"images": torch.empty(shape, device=meta), "labels": torch.empty(run.batch_size, device=meta)}
    flops = step_flops(build_objective(run, meta).phases(scale), on_meta, 50)
    return step, flops, count_params(objective.tokenizer)


def peer_step(run: TokenizerRun):  # noqa: ANN201
    """Return (LlamaGen's step at the same network and losses, parameters)."""
    from tokenizer.tokenizer_image.discriminator_patchgan import NLayerDiscriminator
    from tokenizer.tokenizer_image.vq_model import Decoder, Encoder, ModelArgs, VQModel

    net, quantizer = run.tokenizer.encoder, run.tokenizer.quantizer
    model = VQModel(ModelArgs(codebook_size=quantizer.codebook_size, z_channels=run.tokenizer.latent_channels))
    sides = {"ch": net.channels, "ch_mult": net.multipliers, "num_res_blocks": net.num_res_blocks}
    model.encoder = Encoder(z_channels=run.tokenizer.latent_channels, **sides)
    model.decoder = Decoder(z_channels=run.tokenizer.latent_channels, **sides)
    # A leaf that requires a gradient cannot be written in place, which its training step does.
    model.quantize.codebook_used = torch.zeros(65_536)
    discriminator = NLayerDiscriminator(input_nc=3, n_layers=3, ndf=64)
    # Its script's optimizer: no decay.
    optimizers = [torch.optim.Adam(m.parameters(), 1e-4, (0.9, 0.95)) for m in (model, discriminator)]
    import copy

    average = copy.deepcopy(model).requires_grad_(False)
    size = run.tokenizer.image_size
    images = torch.rand(run.batch_size, 3, size, size) * 2 - 1
    model.train(), discriminator.train()

    def step() -> None:
        optimizers[0].zero_grad()
        fake, losses = model(images)
        loss = F.mse_loss(images, fake) - 0.5 * discriminator(fake).mean() + losses[0] + losses[1] + losses[2]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers[0].step()
        with torch.no_grad():
            for a, b in zip(average.parameters(), model.parameters(), strict=True):
                a.mul_(0.999).add_(b, alpha=0.001)
        optimizers[1].zero_grad()
        real, fake = discriminator(images), discriminator(fake.detach())
        (0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())).backward()
        torch.nn.utils.clip_grad_norm_(discriminator.parameters(), 1.0)
        optimizers[1].step()

    return step, count_params(model)


def make_step(whose: str, size: int, peer_path):  # noqa: ANN001, ANN201
    """Return our step or the peer's at this size."""
    llamagen(peer_path)
    if whose != "peer":
        setup_device(ExecutionConfig())  # it keeps freed memory
    return our_step(config(size))[0] if whose == "ours" else peer_step(config(size))[0]


def overhead(results: list, name: str, run: TokenizerRun, repeats: int) -> None:
    """Add what the regularizer costs, in time and in FLOPs."""
    plain, fewer, _ = our_step(run.replace(regularizers=()))
    regularized, more, _ = our_step(run)
    seconds = alternate(repeats, plain=plain, regularized=regularized)
    extra = median(seconds["regularized"]) / median(seconds["plain"]) - 1
    results.append(entry(f"regularizer's share of time, {name}", extra, None, "of a step without it", 0.05,
                         flops_share=more / fewer - 1, step_ms=median(seconds["plain"]) * 1e3))  # fmt: skip


def main() -> None:
    options = arguments(__doc__)
    llamagen(options.peer_path)
    setup_device(ExecutionConfig())
    rate = matrix_rate()
    results: list = []
    for size, repeats in ((28, 10 * options.repeats), (256, options.repeats)):
        run = config(size)
        _, flops, our_params = our_step(run)
        _, peer_params = peer_step(run)
        assert our_params == peer_params, (our_params, peer_params)
        names = ("ours", "peer", "peer, memory kept")
        sides = {name: (make_step, (name, size, options.peer_path)) for name in names}
        seconds = alternate_apart(repeats, **sides)
        mine, theirs, kept = (median(seconds[name]) for name in names)
        results.append(entry(f"training step, {size}x{size}, batch {run.batch_size}", mine, theirs, "s", 1.0,
                             params=our_params, flops=flops, share_of_matrix_rate=flops / mine / rate))  # fmt: skip
        what = f"the same, against the peer with freed memory kept too, {size}x{size}"
        results.append(entry(what, mine, kept, "s"))
    overhead(results, "28x28, fashion_crt", find_recipe("fashion_crt", "tokenizer"), 10 * options.repeats)
    overhead(results, "256x256", config(256).replace(regularizers=(CausalConfig(),)), options.repeats)
    note = "  \n".join(
        f"{r['name']}: {r['share_of_matrix_rate']:.0%} of the matrix rate ({rate / 1e9:.0f} GFLOP/s)."
        if "flops" in r else f"{r['name']}: {r['flops_share']:.1%} of FLOPs."
        for r in results if "flops" in r or "flops_share" in r
    )  # fmt: skip
    save("tokenizer_step", results, "Tokenizer training step", note)


if __name__ == "__main__":
    main()
