"""The network together with its latents' normalisation, its process, and the ways to sample it."""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.errors import UserError
from vistok.generator.conditioning import require_label_dropout, require_labels
from vistok.generator.config import SamplingConfig
from vistok.generator.flow.config import FlowConfig, FlowSampling
from vistok.generator.flow.network import FlowNetwork, check_space
from vistok.generator.flow.sampling import draw, guides, times_of
from vistok.generator.interface import Generator, Sampler
from vistok.nn.flops import count_flops
from vistok.nn.process import PROCESSES, Process
from vistok.nn.solvers import call_times
from vistok.rng import normal_grid
from vistok.space import Space

# Number of times at which the held-out loss is measured.
BINS = 10
# Arrays as wide as the network that exist at the same time while a block is computed.
ARRAYS = 16


class FlowGenerator(Generator):
    """A transformer that turns noise into vectors for a given class.

    It sees vectors that are normalised channel by channel; mean and deviation are kept with its weights.
    """

    config: FlowConfig
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: FlowConfig, space: Space, num_classes: int) -> None:
        super().__init__()
        vectors = check_space(config, space)
        self.config, self.space, self.num_classes = config, vectors, num_classes
        self.network = FlowNetwork(config, vectors, num_classes)
        self.register_buffer("mean", torch.zeros(vectors.dim))
        self.register_buffer("deviation", torch.ones(vectors.dim))

    @property
    def process(self) -> Process:
        """The path from noise to data."""
        return PROCESSES[self.config.path]

    def normalise_by(self, mean: Float[Tensor, "channels"], deviation: Float[Tensor, "channels"]) -> None:
        """Take the channels' mean and standard deviation. Raises UserError for a channel that never varies."""
        if not bool((deviation > 0).all()):
            raise UserError(
                f"latents: channels {torch.nonzero(deviation <= 0).flatten().tolist()} are the same in all images; train "
                "the tokenizer longer or with fewer channels (tokenizer.quantizer.dim)"
            )
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def normalised(self, latents: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch positions dim"]:
        """Return latents as the network sees them."""
        return (latents - self.mean) / self.deviation

    def forward(
        self, data: Tensor, noise: Tensor, times: Float[Tensor, "batch"], labels: Int[Tensor, "batch"], layer: int = 0
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"], Float[Tensor, "batch patches width"]]:
        """Return each image's mean squared error at these times, one minus the cosine between vectors, and a block's output."""
        t = times[:, None, None]
        kind = self.config.predicts
        predicted, inner = self.network.with_inner(self.process.at(data, noise, t), times, labels, layer)
        predicted = predicted.float()
        target = self.process.target(kind, data, noise, t)
        direction = 1 - F.cosine_similarity(predicted, target, dim=-1).mean(dim=1)
        return (predicted - target).square().mean(dim=(1, 2)), direction, inner

    def held_out(
        self, latents: Float[Tensor, "batch positions dim"], labels: Int[Tensor, "batch"], image_ids: Tensor
    ) -> dict[str, Tensor]:
        """Return each image's squared error at one of ten times, all of them and by time.

        An image's id decides its time and its noise.
        """
        bins = image_ids % BINS
        noise = normal_grid(0, image_ids, 0, self.space.shape)
        losses = self(self.normalised(latents), noise, (bins + 0.5) / BINS, labels)[0]
        by_time = {f"matching_loss_at_{(i + 0.5) / BINS:.2f}": losses[bins == i] for i in range(BINS)}
        return {"matching_loss": losses, **by_time}

    @property
    def num_layers(self) -> int:
        """The number of blocks."""
        return len(self.network.blocks)

    @property
    def null_label(self) -> int | None:
        """The label of no class."""
        return self.network.classes.null_label if self.config.label_dropout else None

    def inner(
        self, latents: Float[Tensor, "batch positions dim"], labels: Int[Tensor, "batch"]
    ) -> list[Float[Tensor, "batch width"]]:
        """Return what comes out of each block for vectors without noise, averaged over positions."""
        data, times = self.normalised(latents), torch.ones(len(latents), device=latents.device)
        layers = range(1, self.num_layers + 1)
        return [self.network.with_inner(data, times, labels, layer)[1].mean(dim=1) for layer in layers]

    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Return a function of labels and ids that draws vectors with these weights; make a new one if they change."""
        how = _checked(sampling)
        self.check_guidance(how.guidance_scale)
        if how.guidance_channels is not None and how.guidance_channels > self.mean.numel():
            raise UserError(
                f"guidance_channels {how.guidance_channels}: these latents have {self.mean.numel()} channels"
            )
        network = self.network
        if how.precision == "bfloat16":
            network = copy.deepcopy(network).to(torch.bfloat16)

        @torch.no_grad()
        def vectors(labels: Tensor, image_ids: Tensor) -> Tensor:
            require_labels(labels, self.num_classes)
            noise = normal_grid(how.seed, image_ids, 0, self.space.shape)
            training = network.training
            network.eval()
            drawn = draw(network, self.process, noise, labels, how)
            network.train(training)
            return drawn * self.deviation + self.mean

        return vectors

    def calls(self, sampling: SamplingConfig) -> int:
        """Return the forward passes for one image: those of the solver, and one more each while guidance is on."""
        how = _checked(sampling)
        times = call_times(how.solver, times_of(how))
        return len(times) + sum(guides(how, time) for time in times)

    def sampling_flops(self, sampling: SamplingConfig) -> float:
        """Return the FLOPs of all calls for one image."""
        return self.calls(sampling) * self._call_flops()

    def _call_flops(self) -> float:
        with torch.device("meta"):
            twin = FlowNetwork(self.config, check_space(self.config, self.space), self.num_classes).eval()
            x, t, label = torch.empty(1, *self.space.shape), torch.empty(1), torch.empty(1, dtype=torch.int64)
        return count_flops(lambda: twin(x, t, label))

    def sampling_bytes(self, sampling: SamplingConfig) -> int:
        """Return the bytes per image of a block's arrays, which guidance doubles."""
        rows = 1 if _checked(sampling).guidance_scale == 1.0 else 2
        return rows * ARRAYS * self.space.layout.positions * self.config.width * 4

    def check_guidance(self, scale: float) -> None:
        """Raise UserError for guidance with a model trained without label dropout."""
        require_label_dropout(self.config.label_dropout, scale)

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        return list(self.network.blocks)


def _checked(sampling: SamplingConfig) -> FlowSampling:
    if not isinstance(sampling, FlowSampling):
        raise UserError(f"a flow generator cannot be sampled with a config of kind {sampling.kind!r}")
    return sampling
