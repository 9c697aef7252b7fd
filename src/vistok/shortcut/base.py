"""What shortcuts share: a student beside a frozen teacher, and what a network means by its prediction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vistok.engine.distributed import ALONE, World
from vistok.engine.objective import Objective
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.schedule import Schedule, make_schedule
from vistok.errors import UserError
from vistok.generator.flow.config import FlowConfig
from vistok.generator.flow.generator import FlowGenerator
from vistok.generator.flow.network import FlowNetwork, Further
from vistok.generator.training import GeneratorTraining
from vistok.nn.flops import count_params
from vistok.nn.process import PROCESSES, Process
from vistok.rng import derive_seed, normal_grid, seeded_init, uniform_grid
from vistok.space import Space
from vistok.units import Scale

# (latents as a tokenizer decodes them, labels) -> a number for each image, more being better
Reward = Callable[[Tensor, Tensor], Tensor]


class ShortcutTraining(GeneratorTraining, Protocol):
    """The fields of a run's config that a shortcut's objective reads."""

    @property
    def shortcut(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Given:
    """What a shortcut is given: the latents' space, the classes, the teacher (None for those without one), the reward."""

    space: Space
    num_classes: int
    teacher: FlowGenerator | None = None
    reward: Reward | None = None


class Shortcut(Objective):
    """A student that begins as its teacher. Subclasses add networks, and phases that train them.

    What is not trained is in a phase's modules all the same, so that a checkpoint holds all that training needs.
    """

    averaged = ("generator",)

    def __init__(self, run: ShortcutTraining, given: Given, device: torch.device, world: World = ALONE) -> None:
        assert isinstance(run.generator, FlowConfig)
        self.config, self.network_config, self.optimizer = run.shortcut, run.generator, run.optimizer
        self.seed = derive_seed(run.seed, "shortcut")
        with seeded_init(run.seed, "init", "generator"), device:
            self.model = FlowGenerator(run.generator, given.space, given.num_classes)
        self.model.network.classes.drops = False  # see `some_dropped`
        self.networks: dict[str, nn.Module] = {"generator": self.model}
        self.teacher = given.teacher
        if self.teacher is not None:
            self.teacher.requires_grad_(False).eval()
            begin_as(self.model, self.teacher)
            self.networks["teacher"] = self.teacher

    @property
    def process(self) -> Process:
        """The student's path from noise to data."""
        return self.model.process

    @property
    def reference(self) -> FlowNetwork:
        """The teacher's network."""
        assert self.teacher is not None
        return self.teacher.network

    def parameters(self) -> dict[str, int]:
        """Return the parameters of all networks, also of those that are not trained."""
        return {name: count_params(network) for name, network in self.networks.items()}

    def noise(self, keys: Tensor, stream: int = 0) -> Tensor:
        """Return noise, one for each image and stream, whatever the micro-batch."""
        return normal_grid(self.seed, keys, stream, self.model.space.shape)

    def even(self, keys: Tensor, name: str) -> Float[Tensor, "batch"]:
        """Return even random numbers in (0, 1), one for each image and name."""
        return uniform_grid(self.seed, keys, 0, 1, name)[:, 0]

    def some_dropped(
        self, keys: Tensor, labels: Int[Tensor, "batch"]
    ) -> tuple[Int[Tensor, "batch"], Bool[Tensor, "batch"]]:
        """Return labels of which the network's share means no class, and which ones do.

        The network itself drops none here: all calls of a step, the teacher's among them, are asked about the same classes.
        """
        dropped = self.even(keys, "label") < self.network_config.label_dropout
        return torch.where(dropped, self.model.network.classes.null_label, labels), dropped

    def phase(
        self,
        name: str,
        trained: nn.Module,
        loss: Callable[[MicroBatch, int], PhaseLoss],
        scale: Scale,
        beside: Sequence[nn.Module] = (),
        *,
        schedule: Schedule | None = None,
        momentum: bool = True,
        active: Callable[[int], bool] = lambda step: True,
        after_step: Callable[[int], None] | None = None,
    ) -> Phase:
        """Return a phase that trains one network, keeping others beside it in checkpoints. `momentum`: off for GANs' networks."""
        config = self.optimizer if momentum else self.optimizer.replace(betas=(0.0, self.optimizer.betas[1]))
        return Phase(
            name=name,
            modules=[trained, *beside],
            optimizer=adamw(decay_groups(trained, config.weight_decay), config),
            schedule=schedule or make_schedule(config, scale),
            loss=loss,
            clip_groups={name: list(trained.parameters())},
            clip_norm=config.clip_norm,
            active=active,
            after_step=after_step,
        )

    def example(self, batch_size: int, device: torch.device) -> MicroBatch:
        """Return vectors and labels of the right shapes, all zeros."""
        return {
            "latents": torch.zeros(batch_size, *self.model.space.shape, device=device),
            "labels": torch.zeros(batch_size, dtype=torch.int64, device=device),
            "positions": torch.zeros(batch_size, dtype=torch.int64, device=device),
        }


def begin_as(student: FlowGenerator, teacher: FlowGenerator) -> None:
    """Give a student its teacher's weights. Inputs that the teacher lacks stay as they are: they add nothing at first.

    Raises UserError if the networks differ otherwise.
    """
    ours, theirs = student.state_dict(), teacher.state_dict()
    wrong = [name for name, value in theirs.items() if name not in ours or ours[name].shape != value.shape]
    wrong += [name for name in ours if name not in theirs and not name.startswith(("network.inputs.", "place_"))]
    if wrong:
        raise UserError(
            f"the student's network differs from the teacher's ({', '.join(sorted(wrong)[:3])}); leave generator.* as the teacher has it"
        )
    if next(iter(ours.values())).device.type != "meta":
        student.load_state_dict(ours | theirs)


def spread(t: Float[Tensor, "batch"]) -> Float[Tensor, "batch 1 1"]:
    """Return times that broadcast against vectors."""
    return t[:, None, None]


def guided_prediction(
    network: FlowNetwork, x: Tensor, t: Float[Tensor, "batch"], labels: Int[Tensor, "batch"], scale: Float[Tensor, "batch"]
) -> Tensor:  # fmt: skip
    """Return what a network predicts, guided by a scale for each image: in one call if it is told the scale, else in two."""
    if network.config.shortened is not None:
        return network(x, t, labels, {"scale": scale}).float()
    without = torch.full_like(labels, network.classes.null_label)
    both = network(x.repeat(2, 1, 1), t.repeat(2), torch.cat([labels, without])).float()
    conditional, unconditional = both.chunk(2)
    return unconditional + spread(scale) * (conditional - unconditional)


def ends_of(
    network: FlowNetwork, predicted: Tensor, x: Tensor, t: Float[Tensor, "batch"]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the clean data and the noise that a network's prediction means."""
    return PROCESSES[network.config.path].ends(network.config.predicts, predicted, x, spread(t))


def clean(
    network: FlowNetwork, x: Tensor, t: Float[Tensor, "batch"], labels: Int[Tensor, "batch"], further: Further | None = None
) -> Tensor:  # fmt: skip
    """Return a network's prediction of the clean data."""
    return ends_of(network, network(x, t, labels, further).float(), x, t)[0]


def guided_clean(
    network: FlowNetwork, x: Tensor, t: Float[Tensor, "batch"], labels: Int[Tensor, "batch"], scale: float
) -> Tensor:  # fmt: skip
    """Return a network's prediction of the clean data, guided by one scale for all: a single call where that is 1."""
    scales = torch.full_like(t, scale)
    if scale == 1.0:
        return clean(network, x, t, labels, {"scale": scales})
    return ends_of(network, guided_prediction(network, x, t, labels, scales), x, t)[0]


def greatest_error(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Float[Tensor, "batch"]:
    """Return the greater of the errors of data and noise, given both: that of the data, times max(1, signal-to-noise ratio).

    The weight of Salimans and Ho (2022, arXiv 2202.00512, section 4), by which few steps learn where noise is all there is.
    """
    errors = [(a - b).square().mean(dim=(1, 2)) for a, b in zip(ours, theirs, strict=True)]
    return torch.stack(errors).amax(dim=0)
