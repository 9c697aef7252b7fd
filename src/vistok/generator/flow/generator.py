"""The network together with its latents' normalisation, its process, and the ways to sample it."""

import copy
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.errors import UserError
from vistok.generator.conditioning import require_label_dropout, require_labels
from vistok.generator.config import SamplingConfig
from vistok.generator.flow.config import FlowConfig, FlowSampling
from vistok.generator.flow.network import FlowNetwork, check_space
from vistok.generator.flow.sampling import draw, guides, times_of, velocity_of
from vistok.generator.interface import Generator, Sampler
from vistok.nn.evaluation import in_evaluation
from vistok.nn.finite import rows_not_finite
from vistok.nn.flops import count_flops
from vistok.nn.process import PROCESSES, Process
from vistok.nn.solvers import SOLVERS, call_times
from vistok.rng import normal_grid
from vistok.space import Space

# Number of times at which the held-out loss is measured.
BINS = 10
# The step that keys the noise of what data are like, which no solver reaches.
OF_DATA = 2**31
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
        if self.needs_places:
            self.register_buffer("place_mean", torch.zeros(vectors.shape))
            self.register_buffer("place_deviation", torch.ones(vectors.shape))

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

    @property
    def needs_places(self) -> bool:
        """Whether sampling starts from what data are like at each place."""
        return self.config.shortened is not None and self.config.shortened.informative

    def learn_places(self, mean: Tensor, deviation: Tensor) -> None:
        """Take the mean and standard deviation of latents at each place, (positions, dim) each, and keep them normalised."""
        self.get_buffer("place_mean").copy_(self.normalised(mean[None])[0])
        self.get_buffer("place_deviation").copy_(deviation / self.deviation)

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
        """Return each image's squared error at one of ten times, all of them and by time, and that of a network that learned nothing.

        An image's id decides its time and its noise. A shortened network is trained at few times only, so none are measured.
        """
        if self.config.shortened is not None:
            return {}
        bins = image_ids % BINS
        noise = normal_grid(0, image_ids, 0, self.space.shape)
        times = (bins + 0.5) / BINS
        losses = self(self.normalised(latents), noise, times, labels)[0]
        blind = self.process.blind_loss(self.config.predicts, times)
        by_time = {f"matching_loss_at_{(i + 0.5) / BINS:.2f}": losses[bins == i] for i in range(BINS)}
        return {"matching_loss": losses, **by_time, "blind_matching_loss": blind}

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
        data, times = self.normalised(latents), self.process.trained_at(torch.ones(len(latents), device=latents.device))
        layers = range(1, self.num_layers + 1)
        return [self.network.with_inner(data, times, labels, layer)[1].mean(dim=1) for layer in layers]

    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Return a function of labels and ids that draws vectors with these weights; make a new one if they change."""
        how, network = self._prepared(sampling)

        @torch.no_grad()
        def vectors(labels: Tensor, image_ids: Tensor) -> Tensor:
            require_labels(labels, self.num_classes)
            with in_evaluation(network):
                drawn = draw(network, self.process, partial(self._noise, how.seed, image_ids), labels, how)
            return drawn * self.deviation + self.mean

        return vectors

    @torch.no_grad()
    def to_noise(
        self, latents: Float[Tensor, "batch positions dim"], labels: Int[Tensor, "batch"], sampling: SamplingConfig
    ) -> Float[Tensor, "batch positions dim"]:
        """Return the noise that leads to latents of these classes: the solver, run backwards (arXiv 2210.03142, section 3.4).

        Raises UserError for solvers that draw fresh noise, for networks of average velocities, which know one direction only, and for
        latents of another shape or with values that are not finite.
        """
        how, network = self._prepared(sampling)
        self._require_reversible(how)
        require_labels(labels, self.num_classes)
        self._require_vectors(latents, "latents", len(labels))
        with in_evaluation(network):
            velocity = velocity_of(network, self.process, labels, how)
            # At the end of DDPM's path no velocity is finite: backwards begins where networks learn last, as DDIM's inversion does.
            last = float(self.process.trained_at(torch.ones((), dtype=torch.float64)))
            times = [last, *(time for time in reversed(times_of(how)) if time < last)]
            return SOLVERS[how.solver](velocity, self.normalised(latents), times, self.process, _no_noise)

    @torch.no_grad()
    def from_noise(
        self, noise: Float[Tensor, "batch positions dim"], labels: Int[Tensor, "batch"], sampling: SamplingConfig
    ) -> Float[Tensor, "batch positions dim"]:
        """Return the latents that given noise leads to, as `sampler` does for noise of its own. Raises UserError as `to_noise`."""
        how, network = self._prepared(sampling)
        self._require_reversible(how)
        require_labels(labels, self.num_classes)
        self._require_vectors(noise, "noise", len(labels))
        with in_evaluation(network):
            drawn = draw(network, self.process, lambda step: noise, labels, how)
        return drawn * self.deviation + self.mean

    def _require_vectors(self, given: Tensor, noun: str, count: int) -> None:
        """Raise UserError unless these are `count` rows of finite vectors, (count positions dim)."""
        expected = (count, *self.space.shape)
        if tuple(given.shape) != expected:
            raise UserError(f"{noun} {tuple(given.shape)}: this generator takes {expected}, one row for each label")
        if rows_not_finite(given):
            raise UserError(f"{noun} with values that are not finite (NaN or infinity); find out where they come from")

    def _prepared(self, sampling: SamplingConfig) -> tuple[FlowSampling, FlowNetwork]:
        """Return a checked sampling, and the network in its precision."""
        how = _checked(sampling)
        self.check_guidance(how.guidance_scale)
        if "until" in self.config.inputs and how.solver != "euler":
            raise UserError(
                f"solver {how.solver!r}: this generator predicts the average velocity over a step, which solver 'euler' follows; leave "
                "--solver out"
            )
        if how.guidance_channels is not None and how.guidance_channels > self.mean.numel():
            raise UserError(
                f"guidance_channels {how.guidance_channels}: these latents have {self.mean.numel()} channels"
            )
        if how.precision == "bfloat16":
            return how, copy.deepcopy(self.network).to(torch.bfloat16)
        return how, self.network

    def _require_reversible(self, how: FlowSampling) -> None:
        if how.solver in ("renoise", "double_step") or "until" in self.config.inputs:
            raise UserError(
                f"solver {how.solver!r} cannot be run backwards by this generator; use euler, ddim, heun or multistep, with a generator that is not a "
                "mean flow"
            )

    def calls(self, sampling: SamplingConfig) -> int:
        """Return the forward passes for one image: those of the solver, and one more each while guidance is on."""
        how = _checked(sampling)
        times = call_times(how.solver, times_of(how))
        return len(times) + sum(guides(self.config, how, time) for time in times)

    def sampling_flops(self, sampling: SamplingConfig) -> float:
        """Return the FLOPs of all calls for one image."""
        return self.calls(sampling) * self._call_flops()

    def _noise(self, seed: int, image_ids: Tensor, step: int) -> Tensor:
        noise = normal_grid(seed, image_ids, step, self.space.shape)
        if step > 0 or not self.needs_places:
            return noise
        start = torch.zeros((), device=noise.device)
        of_data = torch.addcmul(
            self.get_buffer("place_mean"), self.get_buffer("place_deviation"), self._noise(seed, image_ids, OF_DATA)
        )
        return self.process.at(of_data, noise, start)

    def _call_flops(self) -> float:
        with torch.device("meta"):
            twin = FlowNetwork(self.config, check_space(self.config, self.space), self.num_classes).eval()
            x, t, label = torch.empty(1, *self.space.shape), torch.empty(1), torch.empty(1, dtype=torch.int64)
        return count_flops(lambda: twin(x, t, label))

    def sampling_bytes(self, sampling: SamplingConfig) -> int:
        """Return the bytes per image of a block's arrays, which guidance doubles."""
        how = _checked(sampling)
        rows = 1 + any(guides(self.config, how, time) for time in times_of(how))
        return rows * ARRAYS * self.space.layout.positions * self.config.width * 4

    def check_guidance(self, scale: float) -> None:
        """Raise UserError for guidance that the network has not learned: without label dropout, or beyond a shortcut's scales."""
        made = self.config.shortened
        if made is None:
            require_label_dropout(self.config.label_dropout, scale)
        elif not made.scales[0] <= scale <= made.scales[1]:
            low, high = made.scales
            allowed = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            raise UserError(
                f"guidance_scale {scale:g}: guidance is part of this shortened generator, which was made at {allowed}; use that, or "
                "shorten its teacher at other scales"
            )

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        return list(self.network.blocks)


def _no_noise(step: int) -> Tensor:
    raise AssertionError("solvers that run backwards draw no noise")


def _checked(sampling: SamplingConfig) -> FlowSampling:
    if not isinstance(sampling, FlowSampling):
        raise UserError(f"a flow generator cannot be sampled with a config of kind {sampling.kind!r}")
    return sampling
