"""Replicated or sharded over 1, 2 and 4 processes, killed and resumed with another number: the same training."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from parallel_jobs import LENGTH, job
from test_distributed import losses, only, said, torchrun
from vistok.config import override
from vistok.engine import parallel
from vistok.engine.checkpoint import find_latest
from vistok.engine.phase import only as only_phase
from vistok.engine.weights import load_weights
from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.verbs import train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

HERE = Path(__file__).parent
HALF = 'precision="bfloat16"'
SHARD = 'execution.parallel="shard"'
pytestmark = pytest.mark.slow
EVERY_STEP = "execution.milestones=[1, 2, 3, 4, 5, 6]"
MIDDLE = 4


@pytest.fixture(scope="module")
def alone(tmp_path_factory, fashion_root, toy_runs, quiet):
    """The runs of one process: {kind: run directory}."""
    out, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    torch.set_num_threads(1)
    runs = {kind: job(kind, fashion_root, toy_runs[0], out).train(quiet).path for kind in ("tokenizer", "generator")}
    half = job("generator", fashion_root, toy_runs[0], out / "half", HALF)
    runs["bfloat16"] = half.train(quiet).path
    torch.set_num_threads(threads)
    return runs


def run_jobs(processes, fashion_root, toy_runs, out, jobs, *launcher):
    order = {"root": str(fashion_root), "tokenizer": str(toy_runs[0]), "out": str(out), "jobs": jobs}
    return torchrun(HERE / "parallel_jobs.py", json.dumps(order), processes=processes, launcher=launcher)


@pytest.fixture(scope="module")
def four(tmp_path_factory, fashion_root, toy_runs):
    """Four processes: a replicated run, then a sharded one that dies in the middle."""
    out = tmp_path_factory.mktemp("four")
    jobs = {
        "replicated": {"kind": "generator", "settings": ["execution.recompute=true"]},
        "tokenizer": {"kind": "tokenizer", "settings": [SHARD, EVERY_STEP], "dies": MIDDLE},
    }
    done = run_jobs(4, fashion_root, toy_runs, out, jobs)
    assert done.returncode != 0 and (out / "tokenizer.died").exists(), said(done)
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory, fashion_root, toy_runs):
    """Two sharded processes, of which one is killed; torchrun's agent starts both again."""
    out = tmp_path_factory.mktemp("two")
    jobs = {
        "compiled": {"kind": "generator", "settings": [SHARD, HALF, "execution.compile=true"]},
        "tokenizer": {"kind": "tokenizer", "settings": [SHARD, EVERY_STEP], "dies": MIDDLE},
    }
    done = run_jobs(2, fashion_root, toy_runs, out, jobs, "--max-restarts", "1")
    assert done.returncode == 0, said(done)
    assert (out / "tokenizer.died").exists()
    return out


def assert_same_losses(a, b, tolerance=1e-5):
    first, second = losses(a), losses(b)
    assert len(first) == len(second) == LENGTH
    for x, y in zip(first, second, strict=True):
        assert x.keys() == y.keys()
        for name in x:  # the variance of latents, too, is the whole batch's
            allowed = tolerance * (100 if "grad_norm" in name or "variance" in name else 1)
            assert x[name] == pytest.approx(y[name], rel=allowed, abs=allowed), name


def test_four_replicated_processes_that_recompute_activations_are_one(alone, four):
    """Four sharded ones: see `test_one_process_goes_on_where_four_were_killed`, whose first steps are theirs."""
    assert_same_losses(alone["generator"], only(four / "replicated", "debug-*"))


def test_sharded_compiled_and_in_bfloat16(alone, two):
    """In processes of their own: the tests' checks of shapes and torch.compile do not go together."""
    assert_same_losses(alone["bfloat16"], only(two / "compiled", "debug-*"), tolerance=2e-3)


@pytest.mark.parametrize(("name", "first"), [("tokenizer", 0.25), ("replicated", 1.0)])
def test_weights_really_are_sharded(four, name, first):
    """Each process holds about its part; the small discriminator stays whole."""
    for shares in json.loads((four / f"{name}.shares").read_text()):
        assert shares[0] == pytest.approx(first, abs=0.1)
        assert shares[1:] in ([], [1.0])


def test_one_killed_process_of_two_and_the_agent_starts_both_again(alone, two):
    run = only(two / "tokenizer", "debug-*")
    assert_same_losses(alone["tokenizer"], run)
    assert json.loads((run / "provenance.json").read_text())["processes"] == 2


@pytest.mark.parametrize("settings", [[], [SHARD]])
def test_one_process_goes_on_where_four_were_killed(settings, alone, four, fashion_root, toy_runs, tmp_path, quiet):
    shutil.copytree(four / "tokenizer", tmp_path / "tokenizer")
    run = only(tmp_path / "tokenizer", "debug-*")
    assert find_latest(run / "checkpoints")[0].name == f"step-{MIDDLE:08d}.shards"
    again = job("tokenizer", fashion_root, toy_runs[0], tmp_path / "tokenizer", EVERY_STEP, *settings)
    assert again.train(quiet).path == run
    assert_same_losses(alone["tokenizer"], run)
    assert find_latest(run / "checkpoints")[0].name == f"step-{LENGTH:08d}.safetensors"


def test_two_processes_go_on_from_one_file(alone, four, fashion_root, toy_runs, tmp_path):
    """The other way: a checkpoint of one process, resumed by two sharded ones, here from its last step."""
    shutil.copytree(alone["generator"].parent, tmp_path / "generator", ignore=shutil.ignore_patterns("half"))
    run = only(tmp_path / "generator", "debug-ar-*")
    before = load_weights(run / "export/raw.safetensors")[0]
    shutil.rmtree(run / "export"), (run / "finished.json").unlink()
    jobs = {"generator": {"kind": "generator", "settings": [SHARD]}}
    done = run_jobs(2, fashion_root, toy_runs, tmp_path, jobs)
    assert done.returncode == 0, said(done)
    after = load_weights(run / "export/raw.safetensors")[0]
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_lost_shard_is_named_and_the_checkpoint_before_is_used(four, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    shutil.copytree(only(four / "tokenizer", "debug-*") / "checkpoints", checkpoints)
    lost = next((checkpoints / f"step-{MIDDLE:08d}.shards").glob("*.safetensors"))
    lost.unlink()
    path, ((passed, problem),) = find_latest(checkpoints)
    assert path.name == f"step-{MIDDLE - 1:08d}.shards"
    assert passed == lost.parent and problem == f"is missing 1 of 4 shards ({lost.name})"


@pytest.mark.parametrize(
    ("setting", "name"),
    [("tokenizer.quantizer.restart_after=3", "restart_after"), ("losses.adversarial.adaptive=true", "adaptive")],
)
def test_what_cannot_be_sharded_is_refused(setting, name, fashion_root, toy_runs, tmp_path):
    with pytest.raises(UserError, match=f"{name} needs whole weights within a step, but execution.parallel is 'shard'"):
        job("tokenizer", fashion_root, toy_runs[0], tmp_path, SHARD, "execution.micro_batch_size=null", setting)


def gradients(ready, batches=1):
    """Return one step's gradients of a job."""
    from vistok.engine.distributed import ALONE
    from vistok.rng import reseed_global

    training = ready.training(ALONE)
    (phase, *_) = training.phases
    batch = next(training.batches(range(1)))
    reseed_global(0, "step", 0, 0)
    with only_phase(phase, training.phases):
        phase.loss(batch, 0).total.backward()
    return [p.grad for module in phase.modules for p in module.parameters()]


@pytest.mark.parametrize("kind", ["tokenizer", "generator"])
def test_recomputed_activations_give_the_same_gradients(kind, fashion_root, toy_runs, tmp_path, monkeypatch):
    """Bit for bit, dropout included; and they really are computed again."""
    calls = []
    again = parallel.checkpoint
    monkeypatch.setattr(parallel, "checkpoint", lambda *a, **k: calls.append(1) or again(*a, **k))
    found = [
        gradients(job(kind, fashion_root, toy_runs[0], tmp_path, f"execution.recompute={flag}"))
        for flag in ("false", "true")
    ]
    assert len(calls) >= 2
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_sharded_flow_is_that_of_one_process_compiled_recomputed_and_in_bfloat16_too(fashion_root, tmp_path, quiet):
    settings = [f'data.root="{fashion_root}"', "data.max_images=100", "length=4 steps"]
    tokenizer = train_tokenizer.prepare(override(find_recipe("debug_kl"), settings), tmp_path / "kl").train(quiet).path
    for split in ("train", "val"):
        cache_tokens(tokenizer, split, quiet)
    whole = "execution.micro_batch_size=null"
    one = job("flow", fashion_root, tokenizer, tmp_path / "one", whole).train(quiet).path
    half = job("flow", fashion_root, tokenizer, tmp_path / "half", whole, HALF).train(quiet).path
    compiled = [SHARD, HALF, "execution.compile=true", "execution.recompute=true"]
    # In micro-batches: noise and times are the images' own.
    jobs = {"flow": {"kind": "flow", "settings": [SHARD]}, "compiled": {"kind": "flow", "settings": compiled}}
    done = run_jobs(2, fashion_root, (tokenizer,), tmp_path / "two", jobs)
    assert done.returncode == 0, said(done)
    assert_same_losses(one, only(tmp_path / "two" / "flow", "debug-flow-*"))
    assert_same_losses(half, only(tmp_path / "two" / "compiled", "debug-flow-*"), tolerance=2e-3)


def test_a_sharded_masked_generator_is_that_of_one_process(fashion_root, toy_runs, tmp_path, quiet):
    still, whole = "generator.dropout=0", "execution.micro_batch_size=null"
    one = job("masked", fashion_root, toy_runs[0], tmp_path / "one", still, whole).train(quiet).path
    jobs = {"masked": {"kind": "masked", "settings": [SHARD, still]}}  # in micro-batches: masks are the images' own
    done = run_jobs(2, fashion_root, toy_runs, tmp_path / "two", jobs)
    assert done.returncode == 0, said(done)
    assert_same_losses(one, only(tmp_path / "two" / "masked", "debug-masked-*"))


def test_two_processes_find_the_clusters_of_one(fashion_root, toy_runs, tmp_path, quiet):
    one = job("clusters", fashion_root, toy_runs[0], tmp_path / "one").train(quiet).path
    done = run_jobs(2, fashion_root, toy_runs, tmp_path / "two", {"clusters": {"kind": "clusters", "settings": []}})
    assert done.returncode == 0, said(done)
    two = only(tmp_path / "two" / "clusters", "debug-clusters-*")
    found = [load_weights(run / "export" / "model.safetensors")[0]["quantizer.centres"] for run in (one, two)]
    assert torch.equal(*found) and len(found[0].unique(dim=0)) == len(found[0])
    assert_same_losses(one, two)
