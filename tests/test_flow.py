"""The flow family: paths and solvers against closed forms, guidance, keyed noise, and a whole run on vectors."""

import json
import math

import pytest
import torch
from typer.testing import CliRunner

from vistok.cli import app
from vistok.config import override
from vistok.errors import UserError
from vistok.generator.flow.config import SIZES, FlowConfig, FlowSampling, flow_size
from vistok.generator.flow.generator import FlowGenerator
from vistok.generator.flow.objective import Matching
from vistok.generator.flow.sampling import guided, guides, times_of
from vistok.nn.flops import count_params, on_meta
from vistok.nn.process import PROCESSES
from vistok.nn.solvers import SOLVERS, call_times, warped_times
from vistok.recipes import find_recipe
from vistok.rng import normal_grid
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.load import load_generator, load_tokenizer
from vistok.scoring.nats import held_out_losses
from vistok.space import Line, Vectors, grid, token_grid
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

SMALL = {"width": 32, "depth": 2, "num_heads": 2}
DOUBLE = torch.float64


def generator(space: Vectors | None = None, **changes) -> FlowGenerator:
    """Return a small network whose output is not zero, as it is at first."""
    torch.manual_seed(0)
    model = FlowGenerator(FlowConfig(**{**SMALL, **changes}), space or Vectors(layout=grid(4, 6), dim=3), 5).eval()
    for weight in model.network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.mark.parametrize("path", PROCESSES)
def test_paths_lead_from_noise_to_data(path):
    process = PROCESSES[path]
    data, noise = torch.randn(2, 4, dtype=DOUBLE), torch.randn(2, 4, dtype=DOUBLE)
    ends = [process.at(data, noise, torch.tensor(t, dtype=DOUBLE)) for t in (0.0, 1.0)]
    torch.testing.assert_close(ends[0], noise, rtol=0, atol=0.02 if path == "ddpm" else 1e-12)
    torch.testing.assert_close(ends[1], data)
    t, small = torch.tensor(0.37, dtype=DOUBLE), 1e-6
    slope = (process.at(data, noise, t + small) - process.at(data, noise, t - small)) / (2 * small)
    torch.testing.assert_close(process.target("velocity", data, noise, t), slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("path", PROCESSES)
@pytest.mark.parametrize("kind", ["velocity", "noise", "clean"])
def test_every_prediction_says_the_same(path, kind):
    process, t = PROCESSES[path], torch.linspace(0.05, 0.95, 7, dtype=DOUBLE)[:, None]
    data, noise = torch.randn(7, 4, dtype=DOUBLE), torch.randn(7, 4, dtype=DOUBLE)
    x, target = process.at(data, noise, t), process.target(kind, data, noise, t)
    found = process.ends(kind, target, x, t)
    torch.testing.assert_close(found[0], data)
    torch.testing.assert_close(found[1], noise)
    torch.testing.assert_close(process.velocity(kind, target, x, t), process.target("velocity", data, noise, t))
    torch.testing.assert_close(process.score(noise, t), -noise / process.sigma(t))


def no_noise(step):
    raise AssertionError("this solver uses no noise but that of the start")


def normal_velocity(process, mean, deviation):
    """Return the exact velocity where the data are normal: a field whose solution is known."""

    def velocity(x, time, until):
        t = torch.tensor(time, dtype=x.dtype)
        alpha, sigma, (to_data, to_noise) = process.alpha(t), process.sigma(t), process.rates(t)
        variance = (alpha * deviation) ** 2 + sigma**2
        rest = x - alpha * mean
        data = mean + alpha * deviation**2 / variance * rest
        return to_data * data + to_noise * (sigma / variance * rest)

    return velocity


@pytest.mark.parametrize("path", PROCESSES)
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("multistep", 2)])
def test_solvers_converge_at_their_order(path, solver, order):
    """Along the exact field, noise x ends as mean + deviation x, counted from where a path begins."""
    process, x = PROCESSES[path], torch.tensor([-1.3, 0.2, 2.0], dtype=DOUBLE)
    velocity = normal_velocity(process, 0.7, 0.4)
    alpha, sigma = (part(torch.tensor(0.0, dtype=DOUBLE)) for part in (process.alpha, process.sigma))
    start = (x - alpha * 0.7) / ((alpha * 0.4) ** 2 + sigma**2).sqrt()
    errors = [
        float((SOLVERS[solver](velocity, x, warped_times(steps), process, no_noise) - (0.7 + 0.4 * start)).abs().max())
        for steps in ((160, 320) if path == "ddpm" else (40, 80))
    ]
    assert errors[1] < 0.02 and errors[0] / errors[1] == pytest.approx(2**order, rel=0.25)


@pytest.mark.parametrize("kind", ["noise", "clean"])
@pytest.mark.parametrize(
    "solver", sorted(SOLVERS.keys() - {"renoise"})
)  # which takes means for data: it suits networks that jump
def test_a_networks_small_errors_stay_small(kind, solver):
    """From pure noise, a predicted noise would have to be divided by zero to give the data."""
    process, x = PROCESSES["cosine"], torch.randn(4000, dtype=DOUBLE)
    exact = normal_velocity(process, 0.0, 1.0)

    def velocity(x, time, until):
        t = torch.tensor(time, dtype=DOUBLE)
        data, noise = process.ends("velocity", exact(x, time, until), x, t)
        predicted = (noise if kind == "noise" else data) + 0.05 * torch.randn_like(x)
        return process.velocity(kind, predicted, x, t)

    fresh = [torch.randn(4000, dtype=DOUBLE) for _ in range(50)]
    found = SOLVERS[solver](velocity, x, warped_times(50), process, lambda step: fresh[step])
    assert float(found.std()) == pytest.approx(1, abs=0.15)


def test_ddpms_path_meets_its_1000_steps_and_is_learned_at_them_alone():
    process, number = PROCESSES["ddpm"], torch.arange(1000)
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=DOUBLE), 0)
    for dtype, error in ((DOUBLE, 1e-11), (torch.float32, 1e-4)):
        t = (1 - (number + 1).to(DOUBLE) / 1000).to(dtype)
        torch.testing.assert_close(process.alpha(t).square().to(DOUBLE), kept, rtol=error, atol=0)
        torch.testing.assert_close(process.sigma(t).square().to(DOUBLE), 1 - kept, rtol=error, atol=0)
        torch.testing.assert_close(1000 * process.told(t), number.to(dtype), rtol=0, atol=1e-3)
    config = find_recipe("debug_flow").replace(
        generator=FlowConfig(**SMALL, path="ddpm", predicts="noise", times="uniform")
    )
    objective = Matching(config, Vectors(layout=grid(2, 2), dim=3), 5, torch.device("cpu"))
    numbers = 1000 * objective._times(torch.arange(5000)).double()
    assert float((numbers - numbers.round()).abs().max()) < 1e-4
    assert numbers.min().round() == 0 and numbers.max().round() == 999 and len(numbers.round().unique()) > 950


def test_ddim_along_the_linear_path_is_eulers_method():
    process, x = PROCESSES["linear"], torch.randn(5, dtype=DOUBLE)
    velocity, times = normal_velocity(process, -1.0, 2.0), warped_times(7, 0.3)
    found = [SOLVERS[name](velocity, x, times, process, no_noise) for name in ("euler", "ddim")]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_call_the_network_when_they_say(solver):
    asked, times = [], warped_times(5, 0.3)
    SOLVERS[solver](
        lambda x, t, until: asked.append(t) or x, torch.ones(2), times, PROCESSES["linear"], lambda step: torch.ones(2)
    )
    assert asked == call_times(solver, times)


def test_times_are_warped_towards_noise():
    times = warped_times(10, 0.3)
    assert times[0] == 0 and times[-1] == 1 and times == sorted(times)
    assert times[5] == pytest.approx(0.3 * 0.5 / (1 - 0.7 * 0.5)) and times[5] < 0.5
    assert warped_times(4) == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("changes", [{}, {"norm": "layer", "feed_forward": "gelu", "rotary": False, "qk_norm": True},
                                     {"patch": 2}, {"path": "cosine", "predicts": "noise"}, {"path": "ddpm", "predicts": "noise"}])  # fmt: skip
def test_samples_depend_on_seed_and_number_alone(changes):
    model, labels, ids = generator(**changes), torch.arange(6) % 5, torch.arange(6) + 10
    how = FlowSampling(steps=3, guidance_scale=2.0, seed=3)
    whole = model.sample(labels, ids, how)
    assert whole.shape == (6, 24, 3)
    parts = torch.cat([model.sample(labels[i : i + 2], ids[i : i + 2], how) for i in (0, 2, 4)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model.sample(labels, ids + 1, how), whole, atol=1e-2)
    assert not torch.allclose(model.sample(labels, ids, how.replace(seed=4)), whole, atol=1e-2)


def test_one_step_is_noise_plus_velocity_in_the_latents_own_units():
    model = generator()
    model.normalise_by(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 2.0]))
    labels, ids = torch.tensor([3, 1]), torch.tensor([7, 8])
    noise = normal_grid(0, ids, 0, (24, 3))
    with torch.no_grad():
        expected = noise + model.network(noise, torch.zeros(2), labels)
    found = model.sample(labels, ids, FlowSampling(steps=1))
    torch.testing.assert_close(found, expected * model.deviation + model.mean)
    torch.testing.assert_close(model.normalised(found), expected)


def test_guidance_moves_from_no_class_and_only_in_its_interval():
    one, none = torch.randn(2, 4, 5), torch.randn(2, 4, 5)
    torch.testing.assert_close(guided(one, none, 3.0, None), none + 3 * (one - none))
    three = guided(one, none, 3.0, 3)  # as in the code of DiT
    torch.testing.assert_close(three[..., :3], none[..., :3] + 3 * (one - none)[..., :3])
    assert torch.equal(three[..., 3:], one[..., 3:])
    how = FlowSampling(steps=10, guidance_scale=2.0, guidance_from=0.3, guidance_until=0.7, solver="euler")
    config = FlowConfig(**SMALL)
    assert [guides(config, how, time) for time in times_of(how)] == [0.3 <= number / 10 < 0.7 for number in range(11)]
    model = generator()
    assert model.calls(how) == 10 + 4 and model.calls(how.replace(guidance_scale=1.0)) == 10
    assert model.calls(how.replace(solver="heun", guidance_scale=1.0)) == 19
    assert model.sampling_flops(how) == pytest.approx(1.4 * model.sampling_flops(how.replace(guidance_scale=1.0)))


def test_guidance_of_one_is_the_class_alone():
    model, labels = generator(), torch.tensor([2, 4])
    plain = model.sample(labels, sampling=FlowSampling(steps=4))
    near = model.sample(labels, sampling=FlowSampling(steps=4, guidance_scale=1.0 + 1e-6))
    torch.testing.assert_close(plain, near, rtol=1e-3, atol=1e-3)


def test_a_new_network_is_the_identity_and_says_nothing():
    model = FlowGenerator(FlowConfig(**SMALL), Vectors(layout=grid(3, 3), dim=2), 4)
    x, labels = torch.randn(2, 9, 2), torch.tensor([0, 1])
    assert model.network(x, torch.rand(2), labels).abs().max() == 0
    h = torch.randn(2, 9, 32)
    block = model.network.blocks[0]
    assert torch.equal(block(h, torch.randn(2, 32), (model.network.cos, model.network.sin)), h)


@pytest.mark.parametrize("space", [Vectors(layout=grid(4, 8), dim=3), Vectors(layout=Line(length=8), dim=3)])
def test_patches_gather_neighbours_and_come_apart_again(space):
    network = generator(space, patch=2).network
    x = torch.randn(2, space.layout.positions, 3)
    gathered = network._gathered(x)
    torch.testing.assert_close(network._spread(gathered), x)
    if space.layout.kind == "grid":
        square = x.view(2, 4, 8, 3)[:, :2, 2:4]  # the second patch: two rows, two columns
        torch.testing.assert_close(gathered[:, 1], square.reshape(2, 12))
    assert network(x, torch.rand(2), torch.tensor([0, 1])).shape == x.shape


def test_held_out_losses_are_keyed_by_the_image():
    model, latents, labels = generator(), torch.randn(20, 24, 3), torch.arange(20) % 5
    ids = torch.arange(20) + 40
    with torch.no_grad():
        whole = model.held_out(latents, labels, ids)
        part = model.held_out(latents[5:8], labels[5:8], ids[5:8])
        noise = normal_grid(0, ids[7:8], 0, (24, 3))
        error, *_ = model(latents[7:8], noise, torch.tensor([0.75]), labels[7:8])
    torch.testing.assert_close(whole["matching_loss"][5:8], part["matching_loss"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole["matching_loss"][7:8], error, rtol=1e-4, atol=1e-5)
    assert list(whole)[1:-1] == [f"matching_loss_at_{0.05 + 0.1 * i:.2f}" for i in range(10)]
    assert torch.equal(whole["matching_loss_at_0.75"], whole["matching_loss"][[7, 17]])


@pytest.mark.parametrize("images", [3, 40, 300])
def test_held_out_images_are_the_same_whatever_views_a_cache_has(images):
    """A cache with two views has rows 0, 2, 4...: still image 0, 1, 2..., and so all ten times; three images, too, have ten."""

    class Cache:
        manifest = num_images = None
        central_view = 0

        def __init__(self, views):
            self.num_images, self.num_views = images, views

        def batch(self, rows):
            numbers = torch.from_numpy(rows // self.num_views)
            generator = torch.Generator().manual_seed(0)
            return {"latents": torch.randn(images, 24, 3, generator=generator)[numbers], "labels": numbers % 5}

    model = generator()
    found = [held_out_losses(model, Cache(views), torch.device("cpu")) for views in (1, 2, 10)]
    assert len(found[0]) == 12
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert all(other[name] == pytest.approx(found[0][name], rel=1e-5) for name in other)


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="writes vectors, but these latents are 7x7 tokens"):
        FlowGenerator(FlowConfig(**SMALL), token_grid(7, 7, 8), 3)
    with pytest.raises(UserError, match="generator.patch 2: latents lie on 7x7, which it does not divide"):
        FlowGenerator(FlowConfig(**SMALL, patch=2), Vectors(layout=grid(7, 7), dim=2), 3)
    with pytest.raises(UserError, match="needs a generator trained with label dropout"):
        generator(label_dropout=0.0).sampler(FlowSampling(guidance_scale=2.0))
    with pytest.raises(UserError, match="guidance_from must be less"):
        FlowSampling(guidance_from=0.5, guidance_until=0.5)
    with pytest.raises(UserError, match="steps"):
        FlowSampling(steps=0)
    with pytest.raises(UserError, match=r"channels \[1\] are the same in all images"):
        generator().normalise_by(torch.zeros(3), torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(UserError, match=r"labels must lie in 0...4, found 0...9"):
        generator().sample(torch.tensor([0, 9]))


@pytest.mark.parametrize("path", PROCESSES)
@pytest.mark.parametrize("kind", ["velocity", "noise", "clean"])
def test_the_loss_of_a_network_that_takes_data_for_noise(path, kind):
    """Of data that are noise, no linear prediction from x_t is better than what the closed form says."""
    process, t = PROCESSES[path], torch.tensor([[0.15], [0.5], [0.85]], dtype=torch.float64)
    data, noise = torch.randn(2, 3, 100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, target = process.at(data, noise, t), process.target(kind, data, noise, t)
    slope = (x * target).mean(1, keepdim=True) / x.square().mean(1, keepdim=True)
    least = (target - slope * x).square().mean(1, keepdim=True)
    torch.testing.assert_close(process.blind_loss(kind, t), least, rtol=0.02, atol=0)


def test_the_wrong_family_is_refused_before_anything_is_encoded(monkeypatch, tmp_path):
    def encode(*arguments, **more):
        raise AssertionError("encoded first")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vistok.verbs.cache_latents.cache_tokens", encode)
    for recipe, tokenizer, words in (
        ("fashion_flow", "fashion-crt", "a flow generator writes vectors"),
        ("fashion_ar", "fashion-flow", "tokens"),
    ):
        done = CliRunner().invoke(app, ["train", "generator", recipe, "--tokenizer", tokenizer])
        assert done.exit_code != 0 and words in str(done.exception) and not isinstance(done.exception, AssertionError)


def test_published_sizes():
    """Parameters of LightningDiT-XL/1 on 16x16 vectors of 32 numbers: 675 M, as published."""
    counts = {
        name: count_params(
            on_meta(lambda n=name: FlowGenerator(flow_size(n), Vectors(layout=grid(16, 16), dim=32), 1000))
        )
        for name in SIZES
    }
    assert counts["xl"] / 1e6 == pytest.approx(675, rel=0.01)
    assert list(counts) == sorted(counts, key=counts.get)


@pytest.mark.parametrize("times", ["logit_normal", "uniform"])
def test_an_images_noise_and_time_are_its_own(times):
    """Whatever the micro-batch: losses of two halves are those of the whole; another pass brings others."""
    run = override(find_recipe("debug_flow"), [f'generator.times="{times}"', "generator.label_dropout=0"])
    objective = train_generator.build_objective(
        run, LatentFacts(Vectors(layout=grid(4, 6), dim=3), 5), torch.device("cpu")
    )
    for weight in objective.model.network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    batch = {"latents": torch.randn(8, 24, 3), "labels": torch.arange(8) % 5, "positions": torch.arange(8) + 100}
    halves = [{name: value[part] for name, value in batch.items()} for part in (slice(4), slice(4, 8))]
    whole, *parts = (objective._loss(one, 0).total for one in (batch, *halves))
    torch.testing.assert_close(whole, torch.stack(parts).mean(), rtol=1e-4, atol=1e-5)
    again = objective._loss({**batch, "positions": batch["positions"] + 8}, 0).total
    assert abs(float((again - whole).detach())) > 1e-3


@pytest.fixture(scope="module")
def flow_runs(fashion_root, tmp_path_factory, quiet):
    runs = tmp_path_factory.mktemp("flow")
    settings = [f'data.root="{fashion_root}"', "data.max_images=300"]
    tokenizer = train_tokenizer.prepare(override(find_recipe("debug_kl"), settings), runs).train(quiet).path
    caches = {split: cache_tokens(tokenizer, split, quiet) for split in ("train", "val")}
    job = train_generator.prepare(find_recipe("debug_flow"), caches["train"], caches["val"], tokenizer, runs)
    return tokenizer, caches, job.train(quiet).path


def vistok(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return done.exit_code, done.output


def test_a_run_on_vectors_from_images_to_scores(flow_runs, tmp_path, fashion_root):
    tokenizer, caches, run = flow_runs
    model = load_generator(run)
    mean, deviation = caches["train"].channel_statistics
    torch.testing.assert_close(model.mean, mean)
    torch.testing.assert_close(model.deviation, deviation)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = [row["matching_loss"] for row in rows if row["kind"] == "validation"]
    assert measured[-1] < measured[0] and 1 < measured[0] < 2.2  # of zero: the noise, and at most as much of means
    assert {"matching_loss_at_0.05", "matching_loss_raw"} <= rows[-1].keys() | rows[-2].keys()
    code, said = vistok("sample", run, "--out", tmp_path / "a.png", "--count", 20, "--steps", 4, "--solver", "euler")
    assert code == 0 and "4 calls" in said and (tmp_path / "a.png").is_file()
    code, said = vistok("evaluate", "generator", run, "--count", 50, "--data", fashion_root, "--steps", 3)
    assert code == 0 and "gFMD" in said and "3 calls" in said
    code, said = vistok("evaluate", "tokenizer", tokenizer, "--data", fashion_root)
    assert code == 0 and "PSNR" in said and "codes" not in said


def test_a_kl_tokenizer_draws_in_training_and_keeps_the_mean(flow_runs):
    model = load_tokenizer(flow_runs[0])
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    stored = model.stored(images)
    means, deviations = stored.chunk(2, dim=-1)
    assert torch.equal(model.encode(images), means) and (deviations > 0).all()
    z_e = torch.randn(64, 5, 2 * means.shape[-1])
    bottleneck = model.quantizer.train()
    drawn = bottleneck(z_e).decoded
    mean, log_variance = z_e.chunk(2, dim=-1)
    assert float(((drawn - mean) / (log_variance / 2).exp()).std()) == pytest.approx(1, abs=0.1)
    found = bottleneck(z_e).losses["kl_loss"] / bottleneck.config.weight
    p = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(p, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(found, expected)
    assert not math.isnan(float(bottleneck(z_e * 1e3).losses["kl_loss"]))


def test_noise_and_latents_given_are_checked():
    """Of another width they ended in torch's words, and NaN went through."""
    made, labels, how = generator(), torch.tensor([0, 1]), FlowSampling(steps=2, solver="euler")
    shape = (2, *made.space.shape)
    for call, noun in ((made.to_noise, "latents"), (made.from_noise, "noise")):
        assert call(torch.zeros(shape), labels, how).shape == shape
        for wrong in (torch.zeros(*shape[:-1], shape[-1] + 1), torch.zeros(2, shape[1] + 1, shape[2])):
            with pytest.raises(UserError, match=rf"{noun} \(2, .*this generator takes \(2, "):
                call(wrong, labels, how)
        with pytest.raises(UserError, match=f"{noun} with values that are not finite"):
            call(torch.full(shape, math.nan), labels, how)
