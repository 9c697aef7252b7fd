"""Shortcuts: their targets and gradients against closed forms, students that begin as teachers, and whole runs."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from parallel_jobs import job
from test_distributed import only, said
from test_parallel import assert_same_losses, run_jobs
from vistok.cli import app
from vistok.config import override
from vistok.errors import UserError
from vistok.generator.flow.config import FlowConfig, FlowSampling
from vistok.generator.flow.generator import FlowGenerator
from vistok.nn.process import PROCESSES
from vistok.recipes import find_recipe
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.load import load_generator
from vistok.runs.teacher import teacher_of, with_teacher
from vistok.shortcut.adaptation import same_ratio
from vistok.shortcut.base import Given
from vistok.shortcut.config import SHORTCUTS, MeanFlowConfig, ProgressiveConfig
from vistok.shortcut.divergences import divergence, pull_towards
from vistok.shortcut.progressive import one_step_to, round_ends, two_steps
from vistok.space import Vectors, grid
from vistok.units import Scale
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

DOUBLE, CPU = torch.float64, torch.device("cpu")
FACTS = LatentFacts(Vectors(layout=grid(3, 4), dim=2), 3)


def shaken(generator, std=0.15):
    """Give a network weights that make all its inputs count."""
    torch.manual_seed(0)
    for weight in generator.parameters():
        torch.nn.init.normal_(weight, std=std)
    return generator


def teacher_network(**changes):
    return shaken(FlowGenerator(FlowConfig(width=16, depth=2, num_heads=2, **changes), FACTS.space, 3)).eval()


def objective(kind, *settings, teacher=None):
    """Return a debug recipe's objective, given a teacher that was never trained."""
    config = override(find_recipe(f"debug_{kind}"), list(settings))
    teacher = teacher or teacher_network(time_scale=config.generator.time_scale)
    network = config.shortcut.network(teacher.config)
    needs = SHORTCUTS[config.shortcut.kind].teacher
    given = Given(FACTS.space, 3, teacher if needs else None)
    return SHORTCUTS[config.shortcut.kind].load()(config.replace(generator=network), given, CPU)


def batch_of(count=6):
    generator = torch.Generator().manual_seed(3)
    return {
        "latents": torch.randn(count, 12, 2, generator=generator),
        "labels": torch.arange(count) % 3,
        "positions": torch.arange(count) + 40,
    }


# --- progressive distillation


@pytest.mark.parametrize("path", PROCESSES)
def test_one_step_with_the_target_lands_where_two_steps_of_the_teacher_do(path):
    process, torch_of = PROCESSES[path], torch.Generator().manual_seed(1)
    x = torch.randn(16, 3, 2, dtype=DOUBLE, generator=torch_of)
    now = torch.arange(16, dtype=DOUBLE) / 16

    def teacher(x, t):
        data = torch.tanh(x + t[:, None, None])
        return data, (x - process.alpha(t[:, None, None]) * data) / process.sigma(t[:, None, None])

    data, noise = two_steps(process, teacher, x, now, 1 / 32)
    here, middle, there = ((now + k / 32)[:, None, None] for k in range(3))
    reached = process.at(*teacher(process.at(*teacher(x, now), middle), middle[:, 0, 0]), there)
    # The data of the last step are what the teacher saw at the end.
    torch.testing.assert_close(process.at(data, noise, there), reached, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(process.at(data, noise, here), x, rtol=1e-12, atol=1e-12)


def test_the_stochastic_samplers_last_target_is_one_step_of_the_teacher():
    """Two strides would lead beyond the end (algorithm 3 of arXiv 2210.03142)."""
    process, x, now = PROCESSES["cosine"], torch.randn(2, 1, 1, dtype=DOUBLE), torch.tensor([0.75, 0.5], dtype=DOUBLE)
    seen = []

    def teacher(x, t):
        seen.append(t)
        return torch.full_like(x, 0.3), (x - process.alpha(t[:, None, None]) * 0.3) / process.sigma(t[:, None, None])

    data, _ = two_steps(process, teacher, x, now, 0.25)
    torch.testing.assert_close(data, torch.full_like(x, 0.3), rtol=1e-9, atol=1e-9)
    assert float(seen[1].max()) < 1  # the network is never asked at the end


def test_a_target_of_equal_ends_is_the_step_itself():
    process, x = PROCESSES["linear"], torch.randn(1, 2, 2, dtype=DOUBLE)
    now, after = torch.tensor([0.25], dtype=DOUBLE), torch.tensor([0.5], dtype=DOUBLE)
    data, noise = one_step_to(process, x, x + 0.25 * 3.0, now, after)
    torch.testing.assert_close(data - noise, torch.full_like(x, 3.0))  # the velocity of a straight line


def test_rounds_halve_and_the_last_ones_take_twice_as_long():
    assert ProgressiveConfig(from_steps=32, to_steps=1).rounds == (16, 8, 4, 2, 1)
    assert round_ends((16, 8, 4, 2, 1), 700) == [100, 200, 300, 500, 700]
    with pytest.raises(UserError, match="power of two"):
        ProgressiveConfig(from_steps=12, to_steps=4)
    with pytest.raises(UserError, match="2 steps of training for 3 rounds"):
        round_ends((16, 8, 4), 2)


def test_the_student_becomes_the_teacher_at_the_end_of_a_round():
    made = objective("progressive")
    (phase,) = made.phases(Scale(6, 100, 12, ((0, 1.0),), 30))
    first = made.reference.out.weight.clone()
    with torch.no_grad():
        made.model.network.out.weight.add_(1.0)
    ends = made.ends_of_rounds
    assert ends == [10, 30]  # from 8 steps to 4, then to 2 for twice as long
    phase.after_step(ends[0] - 2)
    torch.testing.assert_close(made.reference.out.weight, first)
    phase.after_step(ends[0] - 1)
    torch.testing.assert_close(made.reference.out.weight, first + 1.0)
    rates = [phase.schedule(step) for step in range(30)]
    assert rates[9] < 0.05 * rates[3] and rates[13] > 0.5 and rates[29] < 0.05


# --- guided distillation


@pytest.mark.parametrize("kind", ["guided", "self_cooperative", "score"])
def test_a_student_begins_as_its_teacher(kind):
    teacher = teacher_network()
    student = objective(kind, teacher=teacher).model.eval()
    x, t, labels = torch.randn(5, 12, 2), torch.rand(5), torch.tensor([0, 1, 2, 0, 1])
    for scale in (1.0, 4.5):
        ours = student.network(x, t, labels, {"scale": torch.full((5,), scale)})
        torch.testing.assert_close(ours, teacher.network(x, t, labels), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(student.mean, teacher.mean)


def test_a_guided_student_has_no_loss_where_it_says_what_two_calls_say():
    """The teacher's guided prediction, put in the student's place, is the minimum; the plain one is not."""
    made = objective("guided")
    loss = float(made._loss(batch_of(), 0).total.detach())
    teacher, low_high = made.reference, made.config.scales
    scales = low_high[0] + (low_high[1] - low_high[0]) * made.even(batch_of()["positions"], "scale")

    def as_teacher(x, t, labels, further):
        both = [teacher(x, t, of) for of in (labels, torch.full_like(labels, 3))]
        return both[1] + scales[:, None, None] * (both[0] - both[1])

    made.model.network.forward = as_teacher
    assert float(made._loss(batch_of(), 0).total) < 1e-9 < loss


def test_guidance_inside_costs_one_call_and_only_scales_that_were_learned_are_drawn():
    student = objective("guided").model
    sampling = FlowSampling(steps=8, guidance_scale=3.0)
    assert student.calls(sampling) == 8 and teacher_network(label_dropout=0.1).calls(sampling) == 16
    labels, ids = torch.tensor([0, 1]), torch.tensor([5, 9])
    one, other = (student.sample(labels, ids, sampling.replace(guidance_scale=scale)) for scale in (1.0, 3.0))
    torch.testing.assert_close(one, other)  # untrained: the scale adds nothing yet
    with pytest.raises(UserError, match="made at 1 to 5"):
        student.sample(labels, ids, sampling.replace(guidance_scale=6.0))


def test_samples_with_fresh_noise_depend_on_seed_and_number_alone():
    generator = teacher_network()
    for solver in ("renoise", "double_step"):
        sampling = FlowSampling(steps=4, solver=solver, seed=7)
        labels, ids = torch.tensor([0, 1, 2]), torch.tensor([4, 5, 6])
        together = generator.sample(labels, ids, sampling)
        alone = torch.cat([generator.sample(labels[i : i + 1], ids[i : i + 1], sampling) for i in range(3)])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        assert (generator.sample(labels, ids, sampling.replace(seed=8)) - together).abs().mean() > 1e-2


# --- Diff-Instruct*: one number for an image, normal data, exact scores, exact integrals by quadrature


def normal_score_losses(kind, detach=""):
    """Return the gradients of a generator x = mean + spread z: the surrogate's, and the true one of the divergence."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    z, w = torch.tensor(nodes), torch.tensor(weights / math.sqrt(2 * math.pi))
    z, e = (part.reshape(-1, 1, 1) for part in torch.meshgrid(z, z, indexing="ij"))
    w = (w[:, None] * w[None, :]).reshape(-1)
    alpha, sigma, huber = 0.6, 0.5, 0.8
    parameters = torch.tensor([0.7, 1.4], dtype=DOUBLE, requires_grad=True)

    def denoised(x, mean, deviation):
        return mean + alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2) * (x - alpha * mean)

    made = parameters[0] + parameters[1] * z
    x = alpha * made + sigma * e
    frozen = parameters.detach()
    ours, theirs = denoised(x, *frozen), denoised(x, -0.4, 0.9)
    if detach == "both":
        ours, theirs = ours.detach(), theirs.detach()
    elif detach == "difference":
        ours, theirs = ours, ours - (ours - theirs).detach()
    (w * divergence(kind, ours, theirs, made, huber)).sum().backward()
    surrogate = parameters.grad.clone()
    parameters.grad = None
    if kind == "integral_kl":
        # Of normal distributions at this noise; scores are alpha / sigma^2 times clean predictions.
        variance, reference = alpha**2 * parameters[1] ** 2 + sigma**2, alpha**2 * 0.9**2 + sigma**2
        gap = alpha * (parameters[0] + 0.4)
        true = (variance / reference + gap**2 / reference - 1 - (variance / reference).log()) / 2 * sigma**2 / alpha**2
    else:
        still = (alpha * (frozen[0] + frozen[1] * z) + sigma * e).detach()  # samples do not move in the true divergence
        gap = (denoised(still, parameters[0], parameters[1]) - denoised(still, -0.4, 0.9))[:, 0, 0]
        true = (w * (gap**2 if kind == "l2" else (gap**2 + huber**2).sqrt() - huber)).sum()
    true.backward()
    return surrogate, parameters.grad


@pytest.mark.parametrize("kind", ["pseudo_huber", "l2", "integral_kl"])
def test_a_surrogates_gradient_is_that_of_the_divergence(kind):
    surrogate, true = normal_score_losses(kind)
    torch.testing.assert_close(surrogate, true, rtol=1e-6, atol=1e-9)
    assert float(true.abs().min()) > 0.01


@pytest.mark.parametrize("detach", ["both", "difference"])
def test_detached_scores_give_another_gradient(detach):
    surrogate, true = normal_score_losses("pseudo_huber", detach)
    assert float((surrogate - true).abs().max()) > 0.2 * float(true.abs().max())


class Exact(torch.nn.Module):
    """The exact predictor of normal data on the linear path, or a generator that makes mean + deviation * noise in one call."""

    def __init__(self, network, mean, deviation, draws=False):
        super().__init__()
        self.config, self.classes = network.config.replace(shortened=None), network.classes
        self.mean, self.deviation, self.draws = mean, deviation, draws

    def forward(self, x, t, labels, further=None):
        t = t[:, None, None]
        gain = t * self.deviation**2 / (t**2 * self.deviation**2 + (1 - t) ** 2)
        data = self.mean + (self.deviation * x if self.draws else gain * (x - t * self.mean))
        return (data - x) / (1 - t)


def test_the_generators_whole_loss_has_the_gradient_of_the_divergence_over_noise():
    """Many numbers an image, so that the weight of an image, which it takes as given, is nearly the same for all."""
    made = objective("score", "shortcut.divergence=l2", "shortcut.times=[0.3,0.9]")
    place = torch.tensor([0.7, 1.4], requires_grad=True)
    mean, deviation = place.detach()
    made.model.network = Exact(made.model.network, place[0], place[1], draws=True)
    made.assistant.network = Exact(made.assistant.network, mean, deviation)
    made.teacher.network = Exact(made.teacher.network, -0.4, 0.9)
    batch = {**batch_of(3000), "latents": torch.zeros(3000, 12, 2)}
    (surrogate,) = torch.autograd.grad(made._loss(batch, 0).total, place)

    t, noise = made._times(batch, "time"), made.noise(batch["positions"], 1)
    samples = mean + deviation * noise
    x = made.process.at(samples, made.noise(batch["positions"], 2), t[:, None, None])
    theirs = made.teacher.network(x, t, None) * (1 - t[:, None, None]) + x
    ours = Exact(made.assistant.network, place[0], place[1])(x, t, None) * (1 - t[:, None, None]) + x
    size = (samples - theirs).abs().mean(dim=(1, 2))
    (true,) = torch.autograd.grad(((ours - theirs).square().mean(dim=(1, 2)) / size).mean(), place)
    torch.testing.assert_close(surrogate, true, rtol=0.1, atol=0.02)


def test_one_scale_takes_one_call_of_the_reference_and_one_that_knows_its_scales_is_asked_for_no_other():
    made, seen = objective("score"), []
    made.reference.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    made._loss(batch_of(), 0)
    assert seen == [6]  # no second half without a class
    guided = shaken(objective("guided").model)
    told = objective("score", "shortcut.guidance_scale=3", "shortcut.guidance=out", teacher=guided)
    scales = []
    told.reference.register_forward_pre_hook(lambda module, given: scales.append(float(given[3]["scale"][0])))
    assert told._loss(batch_of(), 0).terms["guidance_loss"].abs() > 0
    assert sorted(scales) == [1.0, 3.0]


@pytest.mark.parametrize("kind", ["pseudo_huber", "l2", "integral_kl"])
def test_guidance_as_a_term_of_its_own_weighs_as_much_in_images_of_any_size(kind):
    ratios = []
    for positions in (10, 1000):
        generator = torch.Generator().manual_seed(1)
        ours, theirs, pull, values = (torch.randn(8, positions, 2, generator=generator) for _ in range(4))
        made = values.requires_grad_()
        of = [divergence(kind, ours, theirs, made, 1e-3), pull_towards(kind, pull, made)]
        gradients = [torch.autograd.grad(loss.sum(), made)[0].norm() for loss in of]
        ratios.append(float(gradients[0] / gradients[1]))
    assert ratios[0] == pytest.approx(ratios[1], rel=0.3)


def test_the_assistant_learns_the_generators_samples_and_not_the_data():
    made = objective("score")
    batch = batch_of()
    loss = made._assistant_loss(dict(batch), 0).total
    other = {**batch, "latents": batch["latents"] + 5.0}
    torch.testing.assert_close(loss, made._assistant_loss(other, 0).total)
    assert all(parameter.grad is None for parameter in made.model.parameters())
    loss.backward()
    assert all(parameter.grad is None for parameter in made.model.parameters())


# --- mean flow


def test_both_derivatives_along_the_path_agree():
    by_difference, forward = (
        objective("mean_flow", f"shortcut.derivative={how}", "shortcut.difference=0.001")
        for how in ("difference", "forward_mode")
    )
    targets = []
    for made in (by_difference, forward):
        shaken(made.model, 0.15)
        x, velocity = torch.randn(4, 12, 2, generator=torch.Generator().manual_seed(1)), torch.ones(4, 12, 2)
        now, until = torch.full((4,), 0.3), torch.full((4,), 0.8)
        with torch.no_grad():
            targets.append(made._derivative(x, velocity, now, until, torch.tensor([0, 1, 2, 0])))
    torch.testing.assert_close(*targets, rtol=0.02, atol=2e-3)
    assert float(targets[0].abs().max()) > 0.01


def test_the_derivative_of_differences_is_taken_in_float32():
    """Under autocast, as full-size recipes train, bfloat16 rounded most of so small a difference away."""
    made = objective("mean_flow", "shortcut.derivative=difference", "shortcut.difference=0.005")
    shaken(made.model, 0.15)
    x, velocity = torch.randn(4, 12, 2, generator=torch.Generator().manual_seed(1)), torch.ones(4, 12, 2)
    given = (x, velocity, torch.full((4,), 0.3), torch.full((4,), 0.8), torch.tensor([0, 1, 2, 0]))
    with torch.no_grad():
        plain = made._derivative(*given)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(made._derivative(*given), plain)


def test_steps_of_no_length_are_flow_matching_and_the_average_velocity_takes_a_whole_step():
    made = objective("mean_flow", "shortcut.instantaneous=1", "generator.label_dropout=0", "shortcut.power=0")
    batch = batch_of()
    shaken(made.model)
    keys, labels = batch["positions"], batch["labels"]
    now, until = made._times(keys)
    torch.testing.assert_close(now, until)
    noise = made.noise(keys)
    x = made.process.at(batch["latents"], noise, now[:, None, None])
    predicted = made.model.network.eval()(x, now, labels)
    expected = (predicted - (batch["latents"] - noise)).square().mean()
    torch.testing.assert_close(
        made._loss(batch, 0).statistics["squared_error"], expected.detach(), rtol=1e-4, atol=1e-5
    )
    student = made.model.eval()
    drawn = student.sample(labels, keys)
    noise = student._noise(0, keys, 0)
    one = noise + student.network(noise, torch.zeros(6), labels, {"until": torch.ones(6)})
    torch.testing.assert_close(drawn, one, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="average velocity"):
        student.sample(labels, keys, FlowSampling(steps=2, solver="heun"))


# --- labels and times


@pytest.mark.parametrize("kind", ["mean_flow", "adaptation"])
def test_labels_are_dropped_once_for_all_calls_of_a_step(kind):
    made = objective(kind, "generator.label_dropout=0.5", teacher=teacher_network(label_dropout=0.5, time_scale=10.0))
    network, labels = made.model.network.train(), torch.zeros(400, dtype=torch.int64)
    assert torch.equal(network.classes(labels), network.classes.table(labels))
    kept, dropped = made.some_dropped(torch.arange(400), labels)
    assert torch.equal(kept == network.classes.null_label, dropped) and 150 < int(dropped.sum()) < 250
    # What it is told of label dropout stays: the row of no class is trained.
    assert network.classes.label_dropout == 0.5


@pytest.mark.parametrize("kind", ["guided", "self_cooperative", "adaptation"])
def test_networks_on_ddpms_path_are_asked_at_its_steps_alone(kind):
    """The released code of YOSO clamps at step 0; beyond it a network would be told -1."""
    made = objective(
        kind, *(["shortcut.path=ddpm"] if kind == "adaptation" else []), teacher=teacher_network(path="ddpm")
    )
    seen = []
    for network in (made.model.network, made.reference):
        network.time.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    made._loss(batch_of(60), 0)
    steps = torch.cat(seen) * 1000
    assert len(seen) >= 2 and float(steps.min()) > -1e-3 and float((steps - steps.round()).abs().max()) < 2e-3


def test_a_step_of_ddpms_path_is_its_own():
    process, times = PROCESSES["ddpm"], torch.arange(1000) / 1000
    torch.testing.assert_close(process.trained_at(times), times, rtol=0, atol=0)
    shifted = process.trained_at((times + 0.25).clamp(max=1))
    torch.testing.assert_close(shifted, (torch.arange(1000) + 250).clamp(max=999) / 1000, rtol=0, atol=0)


# --- another path


@pytest.mark.parametrize("path", ["cosine", "linear"])
def test_a_teacher_that_is_exact_on_its_path_is_exact_on_the_students(path):
    """Data that are one point: on any path, the exact teacher's target is that point."""
    teacher = teacher_network(path="ddpm", predicts="noise")
    point = 0.4

    def exact(x, t, labels):
        return (x - teacher.process.alpha(t[:, None, None]) * point) / teacher.process.sigma(t[:, None, None])

    made = objective("adaptation", f"shortcut.path={path}", teacher=teacher)
    made.reference.forward = exact

    def student(x, t, labels):
        at, (to_data, to_noise) = t[:, None, None], made.process.rates(t[:, None, None])
        noise = (x - made.process.alpha(at) * point) / made.process.sigma(at)
        return to_data * point + to_noise * noise

    made.model.network.forward = student
    batch = {**batch_of(200), "latents": torch.full((200, 12, 2), point), "labels": torch.zeros(200, dtype=torch.int64)}
    assert float(made._loss(batch, 0).total) < 1e-2  # where the student has less of the data than the teacher ever sees
    assert made.model.config.path == path and made.model.config.shortened is None


def test_times_of_equal_ratio_are_found_and_clamped_to_the_ends():
    times = torch.tensor([0.0, 0.2, 0.7, 0.99])
    found = same_ratio(PROCESSES["cosine"], PROCESSES["linear"], times)
    ratios = [PROCESSES[name].alpha(t) / PROCESSES[name].sigma(t) for name, t in (("cosine", times), ("linear", found))]
    torch.testing.assert_close(*ratios, rtol=1e-4, atol=1e-4)
    assert (
        float(same_ratio(PROCESSES["linear"], PROCESSES["ddpm"], torch.zeros(1))) < 1e-6
    )  # which begins with some data


def test_an_informative_start_has_the_datas_moments_at_each_place():
    """On DDPM's path alpha is 0.0064 at the beginning; far enough into it the data would show."""
    made = objective("self_cooperative", "shortcut.informative_start=true", teacher=teacher_network(path="ddpm")).model
    mean, deviation = torch.full((12, 2), 300.0), torch.full((12, 2), 200.0)
    made.learn_places(mean, deviation)
    noise = made._noise(3, torch.arange(4000), 0)
    alpha, sigma = (float(part(torch.zeros(()))) for part in (made.process.alpha, made.process.sigma))
    assert float(noise.mean()) == pytest.approx(300 * alpha, rel=0.02)
    assert float(noise.std()) == pytest.approx(math.hypot(200 * alpha, sigma), rel=0.02)
    plain = objective("self_cooperative", teacher=teacher_network(path="ddpm")).model
    torch.testing.assert_close(plain._noise(3, torch.arange(5), 1), made._noise(3, torch.arange(5), 1))


# --- backwards


def test_noise_is_found_again_and_leads_to_other_classes():
    generator = teacher_network()
    labels, noise = torch.tensor([0, 1, 2]), torch.randn(3, 12, 2, generator=torch.Generator().manual_seed(2))
    how = FlowSampling(steps=24, solver="heun", guidance_scale=1.5)
    latents = generator.from_noise(noise, labels, how)
    torch.testing.assert_close(generator.to_noise(latents, labels, how), noise, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(
        generator.from_noise(generator._noise(4, torch.arange(3), 0), labels, how),
        generator.sample(labels, torch.arange(3), how.replace(seed=4)),
    )
    assert float((generator.from_noise(noise, labels.flip(0), how) - latents).abs().max()) > 1e-3
    with pytest.raises(UserError, match="cannot be run backwards"):
        generator.to_noise(latents, labels, FlowSampling(solver="renoise"))


@pytest.mark.parametrize("predicts", ["velocity", "noise", "clean"])
@pytest.mark.parametrize("solver", ["ddim", "heun"])
def test_a_path_whose_velocity_has_no_bound_at_its_end_is_run_backwards_too(solver, predicts):
    """DDPM's, which DiT's files have: backwards began at the end itself, and all was NaN."""
    generator = teacher_network(path="ddpm", predicts=predicts)
    process = generator.process

    def of_normal_data(x, t, labels, further=None):
        t = t[:, None, None]
        alpha, sigma = process.alpha(t), process.sigma(t)
        whole = alpha**2 * 0.64 + sigma**2
        return process.target(predicts, alpha * 0.64 / whole * x, sigma / whole * x, t)

    generator.network.forward = of_normal_data
    noise, labels = torch.randn(3, 12, 2, generator=torch.Generator().manual_seed(2)), torch.arange(3)
    how = FlowSampling(steps=100, solver=solver)
    latents = generator.from_noise(noise, labels, how)
    torch.testing.assert_close(generator.to_noise(latents, labels, how), noise, rtol=0.1, atol=0.1)


def test_a_student_that_predicts_noise_is_held_to_the_noise():
    """On DDPM's path, the same error of the data is thousands of times as large at some times as at others."""
    made = objective("guided", "shortcut.scales=[1,1.000001]", teacher=teacher_network(path="ddpm", predicts="noise"))
    with torch.no_grad():
        made.model.network.out.bias.add_(0.1)
    (phase,) = made.phases(Scale(6, 100, 12, ((0, 1.0),), 30))
    torch.testing.assert_close(phase.loss(batch_of(64), 0).total, torch.tensor(0.01))


# --- changes of low rank


def test_changes_of_low_rank_are_to_the_weights_that_training_begins_with():
    """Those of --init-from come after the objective is built."""
    made, given = objective("self_cooperative", "shortcut.lora_rank=2"), Scale(6, 100, 12, ((0, 1.0),), 30)
    with torch.no_grad():
        made.model.network.out.weight.add_(1.0)
    begun = {name: value.clone() for name, value in made.model.state_dict().items()}
    generator, _ = made.phases(given)
    generator.after_step(0)
    assert all(torch.equal(value, begun[name]) for name, value in made.model.state_dict().items())


def test_changes_of_low_rank_begin_as_nothing_and_are_written_into_the_weights():
    made = objective("self_cooperative", "shortcut.lora_rank=2")
    network, lora = made.model.network, made.lora
    x, t, labels = torch.randn(3, 12, 2), torch.rand(3), torch.arange(3)
    before = network(x, t, labels)
    with lora.applied_to(network):
        torch.testing.assert_close(network(x, t, labels), before)
    made._loss(batch_of(), 0).total.backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(float(up.grad.abs().sum()) > 0 for up in lora.up.values())
    with torch.no_grad():
        for up in lora.up.values():
            up.normal_(std=0.1)
    with lora.applied_to(network):
        changed = network(x, t, labels)
    lora.merge_into(network)
    torch.testing.assert_close(network(x, t, labels), changed, rtol=1e-4, atol=1e-5)
    assert float((changed - before).detach().abs().max()) > 1e-3


# --- whole runs


@pytest.fixture(scope="module")
def taught(fashion_root, tmp_path_factory, quiet):
    """A toy teacher of vectors, trained once."""
    runs = tmp_path_factory.mktemp("shortcuts")
    settings = [f'data.root="{fashion_root}"', "data.max_images=120", "length=4 steps", "losses.perceptual=null"]
    tokenizer = train_tokenizer.prepare(override(find_recipe("debug_kl"), settings), runs).train(quiet).path
    caches = [cache_tokens(tokenizer, split, quiet) for split in ("train", "val")]
    config = override(find_recipe("debug_flow"), ["length=6 steps"])
    teacher = train_generator.prepare(config, *caches, tokenizer, runs).train(quiet).path
    return runs, tokenizer, caches, teacher


def shorten(recipe, taught, quiet, *settings, teacher=None, stop_at=None, runs=None):
    folder, tokenizer, caches, first = taught
    config = override(find_recipe(recipe), ["length=6 steps", "execution.tensorboard=false", *settings])
    config = with_teacher(config, str(teacher or first))
    return train_generator.prepare(config, *caches, tokenizer, runs or folder).train(quiet).path


RECIPES = ["debug_guided", "debug_progressive", "debug_self_cooperative", "debug_score"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_shortened_generator_is_a_run_like_any_other(recipe, taught, quiet):
    run = shorten(recipe, taught, quiet)
    model = load_generator(run)
    made = model.info.shortcut
    assert made.kind == find_recipe(recipe).shortcut.kind and made.teacher == teacher_of_run(taught).digest
    assert made.calls == model.config.shortened.steps
    assert model.sample(torch.tensor([1, 2])).shape == (2, 49, 4)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"sample_spread", "sample_shift"} <= [row for row in rows if row["kind"] == "validation"][-1].keys()
    from vistok.overview.record import RunRecord

    # The network follows from the teacher: nobody has chosen it.
    assert not [path for path in RunRecord(run).differs if path.startswith("generator")]
    done = CliRunner().invoke(app, ["sample", str(run), "--out", str(run / "s.png"), "--count", "10"])
    assert done.exit_code == 0 and f"{made.calls} call" in done.output, done.output


def test_from_python_a_teacher_is_all_that_is_named(taught, quiet):
    import vistok

    runs, _, _, teacher = taught
    ours = vistok.train(recipe="debug_guided", set={"length": "6 steps"}, teacher=teacher, runs=runs, quiet=True)
    assert ours.load().info.shortcut.kind == "guided"
    with pytest.raises(UserError, match="only recipes of shortcuts take a teacher"):
        vistok.train(recipe="debug_vq", teacher=teacher, runs=runs, quiet=True)


def test_a_run_learns_what_data_are_like_at_each_place(taught, quiet):
    run = shorten("debug_self_cooperative", taught, quiet, "shortcut.informative_start=true")
    model, (mean, _) = load_generator(run), taught[2][0].place_statistics()
    torch.testing.assert_close(model.place_mean, model.normalised(mean[None])[0])
    assert float(model.place_mean.std()) > 1e-3


def test_a_mean_flow_needs_no_teacher(taught, quiet):
    runs, tokenizer, caches, _ = taught
    config = override(find_recipe("debug_mean_flow"), ["length=4 steps", "shortcut.guidance_scale=2"])
    model = load_generator(train_generator.prepare(config, *caches, tokenizer, runs).train(quiet).path)
    assert model.config.shortened.scales == (2.0, 2.0) and model.info.shortcut.teacher == ""
    assert model.sample(torch.tensor([1, 2])).shape == (2, 49, 4) and model.calls(FlowSampling(steps=1)) == 1


def teacher_of_run(taught):
    return load_generator(taught[3]).info


@pytest.mark.slow
def test_a_student_can_be_a_teacher(taught, quiet):
    guided = shorten("debug_guided", taught, quiet)
    halved = shorten("debug_progressive", taught, quiet, teacher=guided)
    model = load_generator(halved)
    assert model.config.inputs == ("scale",) and model.config.shortened.scales == (1.0, 5.0)
    assert model.calls(FlowSampling(steps=2, solver="ddim", guidance_scale=3.0)) == 2
    one_call = shorten("debug_score", taught, quiet, "shortcut.guidance_scale=3", teacher=guided)
    assert load_generator(one_call).config.shortened.scales == (3.0, 3.0)
    # Weights of a shortened generator to begin from, with the teacher still as the reference.
    again = shorten(
        "debug_score", taught, quiet, "shortcut.guidance_scale=3", f'init_from="{one_call}"', "seed=5", teacher=guided
    )
    assert again != one_call


@pytest.mark.slow
def test_a_shortened_run_resumes_exactly(taught, quiet, tmp_path, monkeypatch):
    from vistok.engine import loop
    from vistok.errors import Stopped

    settings = ["execution.milestones=[3]"]
    whole = shorten("debug_progressive", taught, quiet, *settings, runs=tmp_path / "whole")
    step_taken = loop.take_step

    def stop_after(run, batch, step, statistics):
        if step == 4:
            raise Stopped("stopped")
        step_taken(run, batch, step, statistics)

    monkeypatch.setattr(loop, "take_step", stop_after)
    with pytest.raises(Stopped):
        shorten("debug_progressive", taught, quiet, *settings, runs=tmp_path / "parts")
    monkeypatch.setattr(loop, "take_step", step_taken)
    parts = shorten("debug_progressive", taught, quiet, *settings, runs=tmp_path / "parts")
    ours, theirs = (load_generator(run).state_dict() for run in (whole, parts))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_teachers_of_no_use_are_refused_by_name(taught, quiet, tmp_path, fashion_root):
    runs, tokenizer, caches, teacher = taught
    other = train_tokenizer.prepare(
        override(find_recipe("debug_kl"), [f'data.root="{fashion_root}"', "data.max_images=120", "length=2 steps",
                                           "losses.perceptual=null", "seed=9"]), tmp_path).train(quiet).path  # fmt: skip
    theirs = [cache_tokens(other, split, quiet) for split in ("train", "val")]
    config = with_teacher(find_recipe("debug_guided"), str(teacher))
    with pytest.raises(UserError, match="latents of another tokenizer"):
        train_generator.prepare(config, *theirs, other, tmp_path)
    with pytest.raises(UserError, match="starts from a trained generator"):
        teacher_of(find_recipe("debug_guided"))
    with pytest.raises(UserError, match="trains without one"):
        teacher_of(find_recipe("debug_mean_flow").replace(teacher=str(teacher)))
    with pytest.raises(UserError, match="holds a tokenizer, not a generator"):
        with_teacher(find_recipe("debug_guided"), str(tokenizer))
    done = CliRunner().invoke(app, ["train", "generator", "debug_guided", "--tokenizer", str(tokenizer)])
    assert done.exit_code != 0 and "vistok shorten" in str(done.exception or done.output)
    done = CliRunner().invoke(app, ["shorten", "debug_flow", "--teacher", str(teacher)])
    assert done.exit_code != 0 and "is for a generator, not a shortcut" in str(done.exception or done.output)


def test_whole_weights_are_not_sharded(taught):
    from vistok.engine.distributed import ALONE
    from vistok.verbs.shorten import require_replicated

    config = override(find_recipe("debug_guided"), ['execution.parallel="shard"'])
    require_replicated(config, ALONE)
    with pytest.raises(UserError, match="whole weights on each process"):
        require_replicated(config, replace(ALONE, size=2))
    require_replicated(override(find_recipe("debug_flow"), ['execution.parallel="shard"']), replace(ALONE, size=2))


def test_an_autoregressive_generator_is_no_teacher():
    from vistok.runs.shipped import shipped_network

    with pytest.raises(UserError, match="made from flow generators, but this one is autoregressive"):
        with_teacher(find_recipe("debug_guided"), str(shipped_network("fashion-crt", "generator")))


def test_a_reward_pulls_samples_and_is_differentiable_through_the_decoder(taught, quiet):
    run = shorten(
        "debug_score", taught, quiet, 'shortcut.reward={"kind": "class", "weight": 2.0}', "shortcut.assistant_updates=1"
    )
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["kind"] == "train"]
    assert all(row["generator/reward"] < 0 for row in train)  # a log-probability
    assert train[0]["generator/reward_loss"] == pytest.approx(-2 * train[0]["generator/reward"], rel=1e-5)


def test_what_a_shortcut_costs_is_said_beforehand(taught):
    _, _, _, teacher = taught
    done = CliRunner().invoke(app, ["shorten", "debug_score", "--teacher", str(teacher), "--dry-run"])
    assert done.exit_code == 0 and all(name in done.output for name in ("generator", "teacher", "assistant")), (
        done.output
    )


def test_a_generator_that_waits_for_its_assistant_costs_less():
    """A step's cost is the mean of a turn."""
    costs = []
    for updates in (1, 2, 4):
        config = override(find_recipe("debug_score"), [f"shortcut.assistant_updates={updates}"])
        plan = train_generator.plan(config, FACTS, 1000)
        ((_, flops),) = plan.flops_per_step
        costs.append(flops)
    of_assistant = costs[0] - 2 * (costs[0] - costs[1])
    # The assistant's own draw comes with the steps in which the generator has made none.
    assert costs[0] > costs[1] > costs[2] and of_assistant < costs[2]


def test_mean_flows_scale_is_part_of_the_network():
    network = MeanFlowConfig(guidance_scale=2.5).network(FlowConfig(width=16, depth=1, num_heads=2))
    assert network.usual_sampling() == {"steps": 1, "solver": "euler", "guidance_scale": 2.5}
    with pytest.raises(UserError, match="only shortcuts train them"):
        FlowConfig(width=16, depth=1, num_heads=2, inputs=("until",))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["debug_progressive", "debug_self_cooperative", "debug_score"])
def test_two_processes_shorten_as_one_does(recipe, taught, quiet, fashion_root, tmp_path):
    """Replicated, with each its half of the batch: teachers that move, and two networks that train each other."""
    _, tokenizer, _, teacher = taught
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = job(recipe, fashion_root, tokenizer, tmp_path / "one", str(teacher)).train(quiet).path
    torch.set_num_threads(threads)
    jobs = {"two": {"kind": recipe, "settings": [str(teacher)]}}
    done = run_jobs(2, fashion_root, [tokenizer], tmp_path, jobs)
    assert done.returncode == 0, said(done)
    assert_same_losses(alone, only(tmp_path / "two", "debug-*"), tolerance=1e-4)
