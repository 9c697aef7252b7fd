"""The network together with the ways to sample it, and its held-out loss."""

import copy

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.config import load_named
from vistok.errors import UserError
from vistok.generator.conditioning import require_label_dropout, require_labels
from vistok.generator.config import SamplingConfig
from vistok.generator.interface import Generator, Sampler
from vistok.generator.masked.config import NETWORKS, MaskedConfig, MaskedSampling
from vistok.generator.masked.network import MaskedNetwork
from vistok.generator.masked.sampling import fill_in
from vistok.generator.masked.schedule import guidance_scales, num_steps
from vistok.nn.evaluation import in_evaluation
from vistok.nn.flops import count_flops
from vistok.nn.masking import masked_counts, masks, still_masked
from vistok.space import Space, Tokens

# Number of shares of masked tokens at which the held-out loss is measured.
BINS = 10
# Arrays as wide as the network, and as large as an image's logits, that exist at the same time.
ARRAYS, LOGITS = 12, 6


class MaskedGenerator(Generator):
    """A transformer that fills in the tokens of an image of a given class."""

    config: MaskedConfig
    space: Tokens

    def __init__(self, config: MaskedConfig, space: Space, num_classes: int) -> None:
        super().__init__()
        if not isinstance(space, Tokens):
            raise UserError(
                f"a masked generator writes tokens, but these latents are {space}; use a tokenizer with the vq or fsq "
                "bottleneck, or a flow generator"
            )
        self.config, self.space, self.num_classes = config, space, num_classes
        self.num_tokens = space.layout.positions
        self.network = self._new_network()

    def _new_network(self) -> MaskedNetwork:
        return load_named(NETWORKS[self.config.blocks])(self.config, self.space, self.num_classes)  # type: ignore[no-any-return]

    def forward(
        self,
        tokens: Int[Tensor, "batch positions"],
        masked: Bool[Tensor, "batch positions"],
        labels: Int[Tensor, "batch"],
        label_smoothing: float = 0.0,
    ) -> Float[Tensor, "batch positions"]:
        """Return the cross-entropy of every token, in nats, where those that are `masked` are not seen."""
        logits = self.network(torch.where(masked, self.network.mask, tokens), labels).float()
        losses = F.cross_entropy(
            logits.flatten(0, 1), tokens.flatten(), reduction="none", label_smoothing=label_smoothing
        )
        return losses.view_as(tokens)

    def held_out(
        self, latents: Int[Tensor, "batch positions"], labels: Int[Tensor, "batch"], image_ids: Int[Tensor, "batch"]
    ) -> dict[str, Tensor]:
        """Return each image's nats per masked token at one of ten shares of masked tokens, all of them and by share.

        An image's id decides its share and its mask. Their mean over shares estimates what the tokens cost in random order.
        """
        bins = image_ids % BINS
        masked = masks(0, image_ids, masked_counts((bins + 0.5) / BINS, self.num_tokens), self.num_tokens)
        losses = (self(latents, masked, labels) * masked).sum(dim=1) / masked.sum(dim=1)
        by_share = {f"masked_loss_at_{(i + 0.5) / BINS:.2f}": losses[bins == i] for i in range(BINS)}
        return {"masked_loss": losses, **by_share}

    @property
    def num_layers(self) -> int:
        """The number of blocks."""
        return len(self.network.blocks)

    @property
    def null_label(self) -> int | None:
        """The label of no class."""
        return self.network.classes.null_label if self.config.label_dropout else None

    def inner(
        self, tokens: Int[Tensor, "batch positions"], labels: Int[Tensor, "batch"]
    ) -> list[Float[Tensor, "batch width"]]:
        """Return what comes out of each block where no token is masked, averaged over tokens."""
        return [x[:, 1:].mean(dim=1) for x in self.network.layers(tokens, labels)]

    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Return a function of labels and ids that draws tokens with these weights; make a new one if they change."""
        how = _checked(sampling)
        self.check_guidance(how.guidance_scale)
        left, network = self._left(how), self.network
        if how.precision == "bfloat16":
            network = copy.deepcopy(network).to(torch.bfloat16)

        def tokens(labels: Tensor, image_ids: Tensor) -> Tensor:
            require_labels(labels, self.num_classes)
            with in_evaluation(network):
                return fill_in(network, left, labels, image_ids, how)

        return tokens

    def calls(self, sampling: SamplingConfig) -> int:
        """Return the forward passes for one image: one a step, and one more each while guidance is on."""
        return sum(self._rows(_checked(sampling)))

    def sampling_flops(self, sampling: SamplingConfig) -> float:
        """Return the FLOPs of all calls for one image; the head runs only for tokens that may be filled."""
        how = _checked(sampling)
        left, one = self._left(how), self._call_flops(1)
        # They grow linearly with the tokens.
        each = (self._call_flops(self.num_tokens) - one) / max(1, self.num_tokens - 1)
        total = 0.0
        for rows, before, after in zip(self._rows(how), left[:-1], left[1:], strict=True):
            total += rows * (one + each * ((before - after if how.order == "random" else before) - 1))
        return total

    def _call_flops(self, num_places: int) -> float:
        with torch.device("meta"):
            twin = self._new_network().eval()
            tokens, places = (torch.empty(1, n, dtype=torch.int64) for n in (self.num_tokens, num_places))
            label = torch.empty(1, dtype=torch.int64)
        return count_flops(lambda: twin(tokens, label, places))

    def sampling_bytes(self, sampling: SamplingConfig) -> int:
        """Return the bytes per image of a block's arrays, which guidance doubles, and of the logits with their noise."""
        rows = max(self._rows(_checked(sampling)))
        return 4 * self.num_tokens * rows * (ARRAYS * self.config.width + LOGITS * self.space.codebook_size)

    def _left(self, sampling: MaskedSampling) -> list[int]:
        """Return how many tokens are masked before the first step and after each."""
        steps = num_steps(sampling, self.num_tokens)
        return still_masked(sampling.schedule or self.config.schedule, steps, self.num_tokens)

    def _rows(self, sampling: MaskedSampling) -> list[int]:
        """Return the forward passes of each step."""
        scales = guidance_scales(sampling, num_steps(sampling, self.num_tokens))
        return [1 if scale == 1.0 else 2 for scale in scales]

    def check_guidance(self, scale: float) -> None:
        """Raise UserError for guidance with a model trained without label dropout."""
        require_label_dropout(self.config.label_dropout, scale)

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        return list(self.network.blocks)


def _checked(sampling: SamplingConfig) -> MaskedSampling:
    if not isinstance(sampling, MaskedSampling):
        raise UserError(f"a masked generator cannot be sampled with a config of kind {sampling.kind!r}")
    return sampling
