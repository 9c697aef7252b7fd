"""No training step waits for the device. Steps run here on a device whose tensors have no values: to ask for one fails."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vistok.config import override
from vistok.engine.distributed import ALONE
from vistok.engine.ema import EMA
from vistok.engine.parallel import Whole
from vistok.engine.phase import MicroBatch
from vistok.engine.statistics import Statistics
from vistok.engine.step import take_step
from vistok.engine.training import Training
from vistok.generator.families import FAMILIES
from vistok.nn.classifier import Classifier
from vistok.nn.classifier_config import ClassifierConfig
from vistok.recipes import find_recipe
from vistok.rng import seeded_init
from vistok.runs.config import ClassifierRun, GeneratorRun
from vistok.runs.latent_facts import LatentFacts
from vistok.space import Vectors, grid, token_grid
from vistok.tokenizer.bottlenecks import vq
from vistok.tokenizer.perceptual import ClassifierPerceptual
from vistok.units import Scale
from vistok.verbs import train_classifier, train_generator, train_tokenizer

DEVICE = torch.device("meta")


class NothingCrosses(TorchDispatchMode):
    """Fails where an operation takes or makes tensors of both the machine's memory and the device's."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves([args, kwargs, found]) if isinstance(t, torch.Tensor)]
        # A number in the machine's memory goes along with the launch of a kernel.
        devices = {t.device.type for t in tensors if t.dim() or t.device == DEVICE}
        copied = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if copied:
            devices = {t.device.type for t in tensors}
        assert len(devices) < 2, f"{func} copies between the machine and the device"
        return found


def training_of(run, device: torch.device) -> tuple[Training, MicroBatch]:
    """Return what takes a run's steps on a device, and a batch."""
    if isinstance(run, GeneratorRun):
        writes = FAMILIES[run.generator.kind].writes
        space = token_grid(7, 7, 64) if writes == "tokens" else Vectors(layout=grid(7, 7), dim=4)
        objective = train_generator.build_objective(run, LatentFacts(space, 10), device)
    elif isinstance(run, ClassifierRun):
        objective = train_classifier.build_objective(run, device)
    else:
        objective = train_tokenizer.build_objective(run, device)
    emas = {name: EMA(objective.networks[name], run.ema_decay) for name in objective.averaged}
    training = Training(
        name=run.name, phases=objective.phases(Scale(run.batch_size, 100, 1, (), 100), ALONE), emas=emas,
        whole=Whole(emas, run.execution, ALONE), batches=lambda steps: iter(()), evaluate=lambda step, weights: {},
        total_steps=100, batch_size=run.batch_size, flops_per_step=(), lr=1e-3, seed=0, precision=run.precision,
        device=device, execution=run.execution,
    )  # fmt: skip
    return training, objective.example(run.batch_size, device)


SMALL = ["batch_size=4", "execution.micro_batch_size=null"]
GAN = ['losses.adversarial={"start": "0 steps", "warmup": "0 steps", "channels": 8, "num_layers": 2}']
NETWORK = '{"channels": 8, "multipliers": [1, 2], "num_res_blocks": 1, "attention_resolutions": [8], "norm_groups": 4}'
COLOUR = [
    f"tokenizer.encoder={NETWORK}",
    f"tokenizer.decoder={NETWORK}",
    "tokenizer.image_size=16",
    "data.image_size=16",
]
CASES = {
    "crt": ("debug_crt", []),
    "crt, micro-batches": ("debug_crt", ["execution.micro_batch_size=2"]),
    "crt, bfloat16": ("debug_crt", ['precision="bfloat16"']),
    "l2_post": ("debug_crt", ['crt.variant="l2_post"']),
    "ce_post": ("debug_crt", ['crt.variant="ce_post"']),
    "normalized": ("debug_crt", ['crt.variant="l2_pre_normalized"']),
    "waiting": ("debug_crt", ["crt.start_explained=0.5"]),
    "adversarial": ("debug_crt", GAN),
    "lecam": ("debug_crt", [GAN[0].replace("}", ', "lecam_weight": 0.5}')]),
    "fsq": ("debug_vq", ['tokenizer.quantizer={"kind": "fsq", "levels": [4, 4]}']),
    "simvq": ("debug_vq", ["tokenizer.quantizer.kind=simvq"]),
    "line": ("debug_line", ["tokenizer.prefixes=true"]),
    "line, tokens of a proxy": ("debug_proxy_line", ["tokenizer.prefixes=true"]),
    "line, decoder of a proxy": ("fashion_proxy_line_decoder", []),
    "euclidean": ("debug_vq", ['tokenizer.quantizer.lookup="euclidean"']),
    "codes begin and restart": ("images64_crt", COLOUR),
    "decoder alone": ("images64_vq", [*COLOUR, 'trains="decoder"']),
    "vectors": ("debug_kl", ["regularizers.noising.weight=0.5", "regularizers.equivariance.weight=0.5"]),
    "aligned": ("debug_kl", ['regularizers.alignment.features="fashion"']),
    "flow": ("debug_flow", []),
    "guided": ("debug_guided", []),
    "progressive": ("debug_progressive", ["shortcut.guidance_scale=2"]),
    "self-cooperative": ("debug_self_cooperative", ["shortcut.data_share=0.5"]),
    "self-cooperative, low rank": ("debug_self_cooperative", ["shortcut.lora_rank=2"]),
    "score": ("debug_score", ["shortcut.guidance_scale=2", "shortcut.assistant_updates=1"]),
    "adaptation": ("debug_adaptation", []),
    "mean flow": ("debug_mean_flow", ["shortcut.guidance_scale=2"]),
    "masked": ("debug_masked", ["generator.unmasked_weight=0.1"]),
    "generator": ("debug_ar", []),
    "generator, all": ("debug_ar", ["generator.z_loss=1e-4", "generator.dropout=0.1", 'precision="bfloat16"']),
    "generator, smoothed": ("debug_ar", ["generator.label_smoothing=0.1", "generator.z_loss=1e-4"]),
    "clusters": ("debug_clusters", []),
    "renderer": ("debug_renderer", []),
    "renderer, one by one": ("debug_renderer_ar", []),
    "classifier": ("debug_classifier", []),
    "classifier, no labels": ("debug_encoder", []),
}


def distances(losses, device):
    if losses.perceptual is None:
        return {}
    with seeded_init(0, "perceptual"):
        return {"perceptual": ClassifierPerceptual(Classifier(ClassifierConfig(in_channels=1))).to(device)}


@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_for_the_device(case, monkeypatch):
    recipe, settings = CASES[case]
    monkeypatch.setattr(vq, "send", lambda tensor, device: torch.empty(tensor.shape, dtype=tensor.dtype, device=device))
    monkeypatch.setattr(train_tokenizer, "build_distances", distances)
    run = override(find_recipe(recipe), [*settings, *(SMALL if "micro" not in case else SMALL[:1])])
    training, batch = training_of(run, DEVICE)
    statistics = Statistics(ALONE)
    with NothingCrosses():
        take_step(training, batch, 60, statistics)
    with pytest.raises((RuntimeError, NotImplementedError)):
        statistics.read()  # what waits is noticed


@pytest.mark.parametrize("how", [float, lambda t: t.nonzero(), lambda t: t.cpu(), lambda t: t + torch.ones(3)])
def test_what_waits_or_copies_is_noticed(how):
    with NothingCrosses(), pytest.raises((RuntimeError, NotImplementedError, AssertionError)):
        how(torch.ones((), device=DEVICE))
