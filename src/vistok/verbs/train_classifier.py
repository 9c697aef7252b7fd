"""Train a classifier network, from labels or without; its features serve for scores, losses and clusters."""

from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from vistok.classifier.config import LEARNING
from vistok.classifier.training import ClassifierObjective
from vistok.data.images.open import open_split
from vistok.data.images.sources import ImageSource
from vistok.data.loader import eval_images
from vistok.engine.distributed import ALONE, World
from vistok.errors import UserError
from vistok.nn.classifier import Classifier, share_of_dead_features
from vistok.overview.page import RunPage
from vistok.runs.config import ClassifierRun
from vistok.runs.identity import former_names
from vistok.runs.job import (
    Evaluate,
    Job,
    config_json,
    folder_facts,
    folder_warnings,
    image_batches,
    run_directory,
)
from vistok.runs.plan import Plan, plan_of, sizes_fit

EVAL_BATCH = 500


def with_classes(config: ClassifierRun, source: ImageSource) -> ClassifierRun:
    """Return the config with the data's number of classes. Raises UserError if there are too few to learn from."""
    if len(source.class_names) < config.learns.least_classes:
        raise UserError(
            f"a classifier needs at least two classes, but {config.data.root!r} has {list(source.class_names)}; sort the "
            'images into one sub-folder per class, or learn without labels: --set \'learns={"kind": "views"}\''
        )
    return config.replace(classifier=config.classifier.replace(num_classes=len(source.class_names)))


def build_objective(config: ClassifierRun, device: torch.device, world: World = ALONE) -> ClassifierObjective:
    """Return the objective with a new network."""
    return LEARNING[config.learns.kind].load()(config, device)  # type: ignore[no-any-return]


@sizes_fit()
def plan(config: ClassifierRun, num_images: int) -> Plan:
    """Return the run's derived numbers."""
    return plan_of(config, build_objective(config, torch.device("meta")), num_images, 0)


def prepare(config: ClassifierRun, runs: Path) -> Job:
    """Open the data and return the job."""
    if config.execution.micro_batch_size not in (None, config.batch_size):
        raise UserError(
            "a classifier uses batch norm, whose result micro-batches would change; leave execution.micro_batch_size null"
        )
    source = open_split(config.data, "train")
    config = with_classes(config, source)

    def evaluate(device: torch.device) -> Evaluate:
        validation = open_split(config.data, "val")
        return lambda step, weights: accuracy_on(weights["ema"]["classifier"], validation, config, device)

    run_dir, naming = run_directory(config, runs, former_names(config, source), data=source.digest)
    return Job(
        config=config,
        plan=plan(config, len(source)),
        run_dir=run_dir,
        page=RunPage(run_dir),
        num_images=len(source),
        objective=partial(build_objective, config),
        batches=partial(image_batches, config, source),
        evaluate=evaluate,
        metadata={
            "config": config_json(config)["classifier"],
            "run_config": config_json(config),
            "class_names": list(source.class_names),
            "dataset": config.data.dataset,
        },
        facts={**folder_facts(source), "num_images": len(source), "class_names": list(source.class_names)},
        warnings=folder_warnings(source),
        naming=naming,
        check=_one_process,
    )


def _one_process(world: World) -> None:
    if world.size > 1:
        raise UserError("a classifier uses batch norm, whose result several processes would change; train it with one")


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
        "chance": 1 / len(source.class_names),
        "cross_entropy": losses / len(source),
        "dead_features": share_of_dead_features(torch.cat(features)),
    }
