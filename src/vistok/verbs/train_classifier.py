"""Train a classifier on the images' classes; its features score, or are a perceptual distance."""

from pathlib import Path

import torch
from torch.nn import functional as F

from vistok.data.loader import eval_images, train_images
from vistok.data.open import open_split
from vistok.data.sources import ImageSource
from vistok.engine.device import setup_device
from vistok.engine.distributed import World
from vistok.engine.ema import EMA
from vistok.engine.loop import Training
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.parallel import Whole
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.schedule import make_schedule
from vistok.errors import UserError
from vistok.nn.classifier import Classifier, share_of_dead_features
from vistok.nn.flops import count_params
from vistok.rng import seeded_init
from vistok.runs.config import ClassifierRun
from vistok.runs.identity import former_names
from vistok.runs.job import Job, config_json, folder_facts, folder_warnings, run_directory
from vistok.runs.plan import UNKNOWN_COST, Plan, activation_bytes, resolve_steps, sizes_fit, state_bytes, step_flops
from vistok.units import Scale

EVAL_BATCH = 500


def with_classes(config: ClassifierRun, source: ImageSource) -> ClassifierRun:
    """Return the config with the data's number of classes; raises UserError where there are none."""
    if len(source.class_names) < 2:
        raise UserError(
            f"a classifier needs classes, {config.data.root!r} has {list(source.class_names)}; sort the images into "
            "one sub-folder per class"
        )
    return config.replace(classifier=config.classifier.replace(num_classes=len(source.class_names)))


def build_phases(config: ClassifierRun, device: torch.device, scale: Scale) -> list[Phase]:
    """Return the one phase: cross-entropy."""
    with seeded_init(config.seed, "init", "classifier"), device:
        model = Classifier(config.classifier)

    def loss(micro: MicroBatch, step: int) -> PhaseLoss:
        logits = model(micro["images"]).float()
        accuracy = (logits.detach().argmax(1) == micro["labels"]).float().mean()
        return PhaseLoss({"cross_entropy": F.cross_entropy(logits, micro["labels"])}, {"accuracy": accuracy})

    optimizer = adamw(decay_groups(model, config.optimizer.weight_decay), config.optimizer)
    clip = {"classifier": list(model.parameters())}
    schedule = make_schedule(config.optimizer, scale)
    return [Phase("classifier", [model], optimizer, schedule, loss, clip, config.optimizer.clip_norm)]


@sizes_fit()
def plan(config: ClassifierRun, num_images: int) -> Plan:
    """Return the run's derived numbers."""
    meta = torch.device("meta")
    phases = build_phases(config, meta, Scale(config.batch_size, num_images, 1, UNKNOWN_COST, 100))
    size = config.classifier.image_size
    micro = {
        "images": torch.empty(config.batch_size, config.classifier.in_channels, size, size, device=meta),
        "labels": torch.empty(config.batch_size, dtype=torch.int64, device=meta),
    }
    costs = ((0, step_flops(phases, micro, 0)),)
    scale = resolve_steps(config, num_images, 1, costs)
    modules = phases[0].modules
    memory = state_bytes(modules) + activation_bytes(phases, micro, 0, config.precision)
    return Plan(scale.total_steps, costs, {"classifier": count_params(modules[0])}, 0, memory)


def prepare(config: ClassifierRun, runs: Path) -> Job:
    """Open the data and return the job."""
    if config.execution.micro_batch_size not in (None, config.batch_size):
        raise UserError("a classifier has batch norm, which micro-batches would change; leave micro_batch_size null")
    source = open_split(config.data, "train")
    config = with_classes(config, source)
    planned = plan(config, len(source))

    def build(world: World) -> Training:
        if world.size > 1:
            raise UserError("a classifier has batch norm, which several processes would change; train it with one")
        device = setup_device(config.execution)
        scale = planned.scale(config, len(source))
        phases = build_phases(config, device, scale)
        ema = EMA(phases[0].modules[0], config.ema_decay)
        validation = open_split(config.data, "val")
        return Training(
            name=config.name,
            phases=phases,
            emas={"classifier": ema},
            whole=Whole(ema, config.execution, world),
            batches=lambda steps: train_images(
                source,
                config.data,
                config.seed,
                config.batch_size,
                steps,
                config.execution.num_workers,
                (world.rank, world.size),
            ),
            evaluate=lambda step, networks: accuracy_on(networks["ema"], validation, config, device),
            total_steps=planned.total_steps,
            batch_size=config.batch_size,
            flops_per_step=planned.flops_per_step,
            lr=config.optimizer.lr,
            seed=config.seed,
            precision=config.precision,
            device=device,
            execution=config.execution,
            world=world,
        )

    metadata = {
        "config": config_json(config)["classifier"],
        "run_config": config_json(config),
        "class_names": list(source.class_names),
        "dataset": config.data.dataset,
    }
    facts = {**folder_facts(source), "num_images": len(source), "class_names": list(source.class_names)}
    run_dir, naming = run_directory(config, runs, former_names(config, source), data=source.digest)
    return Job(config, planned, run_dir, facts, build, metadata, folder_warnings(source), naming)


@torch.inference_mode()
def accuracy_on(
    model: torch.nn.Module, source: ImageSource, config: ClassifierRun, device: torch.device
) -> dict[str, float]:
    """Return accuracy, cross-entropy and the share of dead features over a split."""
    assert isinstance(model, Classifier)
    features, losses, right = [], 0.0, 0
    for batch in eval_images(source, config.data, EVAL_BATCH):
        images, labels = batch["images"].to(device), batch["labels"].to(device)
        features.append(model.features(images))
        logits = model.head(F.relu(features[-1]))
        losses += float(F.cross_entropy(logits, labels, reduction="sum"))
        right += int((logits.argmax(1) == labels).sum())
    return {
        "accuracy": right / len(source),
        "cross_entropy": losses / len(source),
        "dead_features": share_of_dead_features(torch.cat(features)),
    }
