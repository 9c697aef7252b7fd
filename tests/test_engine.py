"""The loop's promises: accumulation, resume, checkpoints, stopping, bad values."""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vistok.config import override
from vistok.engine.checkpoint import load_latest, save_checkpoint
from vistok.engine.config import OptimizerConfig
from vistok.engine.ema import EMA
from vistok.engine.log import MetricsLog, read_rows
from vistok.engine.optim import decay_groups
from vistok.engine.run_dir import RunDir
from vistok.engine.schedule import make_schedule
from vistok.engine.weights import load_weights, save_weights
from vistok.errors import Stopped, UserError
from vistok.recipes import find_recipe
from vistok.tokenizer.config import ConvTokenizerConfig
from vistok.tokenizer.networks.conv import ConvTokenizer
from vistok.units import Scale
from vistok.verbs import train_classifier, train_generator, train_tokenizer

GAN = ["losses.adversarial.weight=0.5", "losses.adversarial.start=4 steps", "losses.adversarial.ramp=4 steps",
       "losses.adversarial.channels=8", "losses.adversarial.num_layers=2"]  # fmt: skip


def toy_config(fashion_root, *settings, recipe="debug_crt"):
    return override(
        find_recipe(recipe),
        [f'data.root="{fashion_root}"', "data.max_images=200", "execution.evaluate_every=100", *settings],
    )


def state_of(run: Path):
    return {name: load_weights(run / "export" / name)[0] for name in ("model.safetensors", "raw.safetensors")}


def same_state(a, b):
    return all(torch.equal(a[file][name], b[file][name]) for file in a for name in a[file])


def rows_without_time(run: Path):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(run / "metrics.jsonl")]


def test_schedules():
    scale = Scale(1, 1, total_steps=100)
    wsd = make_schedule(OptimizerConfig(schedule="wsd", warmup="10 steps", warmup_start=0.1, decay="20 steps"), scale)
    assert [wsd(s) for s in (0, 5, 10, 80, 90, 100)] == pytest.approx([0.1, 0.55, 1, 1, 0.5, 0])
    cosine = make_schedule(OptimizerConfig(schedule="cosine", warmup="10 steps", warmup_start=0.0), scale)
    assert [cosine(s) for s in (0, 5, 10, 55, 100)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    constant = make_schedule(OptimizerConfig(warmup="0 steps"), scale)
    assert [constant(s) for s in (0, 99)] == [1, 1]


def test_only_linear_and_conv_weights_decay():
    model = ConvTokenizer(find_recipe("debug_vq").tokenizer)
    decayed, others = decay_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert any(p is model.quantizer.codebook for p in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_ema_follows_its_definition():
    source = torch.nn.Linear(2, 2)
    ema = EMA(source, 0.9)
    expected = source.weight.detach().clone()
    for step in range(200):
        with torch.no_grad():
            source.weight += 1
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * source.weight.detach()
        ema.update(step)
    torch.testing.assert_close(ema.module.weight, expected)


@pytest.mark.slow
def test_one_big_batch_equals_accumulated_ones(fashion_root, tmp_path, quiet):
    """Compared by AdamW's first moments after one step: the gradients, of both phases."""
    moments = []
    for micro in ("null", "4"):
        settings = [
            "length=1 steps",
            "execution.milestones=[1]",
            f"execution.micro_batch_size={micro}",
            *GAN,
            "losses.adversarial.start=0 steps",
        ]
        config = toy_config(fashion_root, *settings, "losses.adversarial.ramp=0 steps")
        run = train_tokenizer.prepare(config, tmp_path / micro).train(quiet)
        (_, state), _ = load_latest(run.checkpoints)
        moments.append([
            value["exp_avg"] for phase in state["phases"].values() for value in phase["optimizer"]["state"].values()
        ])  # fmt: skip
    assert len(moments[0]) == len(moments[1]) > 50
    for a, b in zip(*moments, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("recipe", ["debug_crt", "debug_classifier"])
def test_stopped_and_resumed_equals_uninterrupted(recipe, fashion_root, tmp_path, quiet, monkeypatch):
    task = train_tokenizer if recipe == "debug_crt" else train_classifier
    settings = GAN if recipe == "debug_crt" else []
    config = toy_config(fashion_root, "execution.log_every=1", *settings, recipe=recipe)
    whole = task.prepare(config, tmp_path / "whole").train(quiet).path

    job = task.prepare(config, tmp_path / "parts")
    stop_after(monkeypatch, 9)
    with pytest.raises(Stopped, match="after step 9 of 20"):
        job.train(quiet)
    monkeypatch.undo()
    parts = task.prepare(config, tmp_path / "parts").train(quiet).path
    assert same_state(state_of(whole), state_of(parts))
    assert rows_without_time(whole) == rows_without_time(parts)


def stop_after(monkeypatch, steps, times=1):
    """Ask for a stop, as Ctrl-C does, in this step."""
    from vistok.engine import loop

    original = loop.take_step

    def count(run, batch, step, statistics):
        original(run, batch, step, statistics)
        for _ in range(times if step + 1 == steps else 0):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "take_step", count)


def test_generator_with_dropout_resumes_equally(toy_runs, tmp_path, quiet, monkeypatch):
    tokenizer, caches, _ = toy_runs
    config = override(find_recipe("debug_ar"), ["length=12 steps", "generator.dropout=0.2", "execution.log_every=1"])

    def prepare(runs):
        return train_generator.prepare(config, caches["train"], caches["val"], tokenizer, runs)

    whole = prepare(tmp_path / "whole").train(quiet).path
    stop_after(monkeypatch, 5)
    with pytest.raises(Stopped):
        prepare(tmp_path / "parts").train(quiet)
    monkeypatch.undo()
    parts = prepare(tmp_path / "parts").train(quiet).path
    assert same_state(state_of(whole), state_of(parts))
    assert rows_without_time(whole) == rows_without_time(parts)


def test_a_stopped_run_leaves_no_process_behind(fashion_root, tmp_path, quiet, monkeypatch):
    """Not even while its exception is kept, as Python keeps the last one until it ends: it would wait for them for ever."""
    job = train_tokenizer.prepare(toy_config(fashion_root, "execution.num_workers=1", recipe="debug_vq"), tmp_path)
    stop_after(monkeypatch, 1)
    with pytest.raises(Stopped) as kept:
        job.train(quiet)
    assert kept.value.__traceback__ is not None and not multiprocessing.active_children()


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once_and_harms_nothing(fashion_root, tmp_path, quiet, monkeypatch):
    config = toy_config(fashion_root, "execution.log_every=1", "execution.checkpoint_minutes=1e-6")
    whole = train_tokenizer.prepare(config, tmp_path / "whole").train(quiet).path
    job = train_tokenizer.prepare(config, tmp_path / "parts")
    stop_after(monkeypatch, 7, times=2)
    with pytest.raises(Stopped, match="at once"):
        job.train(quiet)
    monkeypatch.undo()
    assert [row["step"] for row in read_rows(job.run_dir.metrics)][-1] == 6  # step 7 was under way
    parts = train_tokenizer.prepare(config, tmp_path / "parts").train(quiet).path
    assert same_state(state_of(whole), state_of(parts))
    assert rows_without_time(whole) == rows_without_time(parts)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_how_to_go_on(number, fashion_root, tmp_path):
    command = [sys.executable, "-m", "vistok", "train", "tokenizer", "debug_vq", "--data", str(fashion_root),
               "--runs", str(tmp_path / "runs"), "--set", "length=100000 steps", "--set", "data.max_images=100"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after step" in said and "To continue, repeat the command" in said and "Traceback" not in said
    (run,) = (tmp_path / "runs").iterdir()
    found, warnings = load_latest(run / "checkpoints")
    assert found is not None and not warnings


@pytest.mark.slow
@pytest.mark.parametrize("job", ["tokenizer", "cache"])
def test_a_full_disk_loses_nothing(job, toy_runs, tmp_path):
    """On a file system of a few megabytes, in a mount namespace of its own."""
    program = [sys.executable, str(Path(__file__).parent / "full_disk.py"), job, str(toy_runs[0]), str(tmp_path)]
    done = subprocess.run(["unshare", "-Urm", *program], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot be written: the disk is full" in done.stdout and done.stdout.strip().endswith("equal")


@pytest.mark.slow
def test_a_quota_is_a_full_disk_too(fashion_root, tmp_path):
    """No file above 20 kB: the first checkpoint does not fit."""
    command = [sys.executable, "-m", "vistok", "train", "tokenizer", "debug_vq", "--data", str(fashion_root),
               "--runs", str(tmp_path), "--set", "length=2 steps", "--set", "data.max_images=20",
               "--set", "execution.tensorboard=false"]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "vistok: " in done.stderr and "the disk is full or its quota is used up" in done.stderr
    assert not list(tmp_path.rglob("*.partial"))


def test_finished_run_is_left_alone(toy_runs, quiet, fashion_root):
    tokenizer = toy_runs[0]
    before = {path: path.stat().st_mtime_ns for path in tokenizer.rglob("*") if path.is_file()}
    config = override(find_recipe("debug_crt"), [f'data.root="{fashion_root}"', "data.max_images=400"])
    assert train_tokenizer.prepare(config, tokenizer.parent).train(quiet).path == tokenizer
    assert before == {path: path.stat().st_mtime_ns for path in tokenizer.rglob("*") if path.is_file()}


def test_run_directory_holds_what_it_promises(toy_runs):
    for run in (toy_runs[0], toy_runs[2]):
        for name in ("config.json", "resolved.json", "provenance.json", "finished.json"):
            assert json.loads((run / name).read_text())["schema_version"] == 1
        rows = read_rows(run / "metrics.jsonl")
        assert {"train", "validation"} == {row["kind"] for row in rows} - {"alarm"}
        assert all({"step", "images", "flops", "seconds"} <= set(row) for row in rows if row["kind"] != "alarm")
        assert list((run / "samples").glob("*.png"))
        assert not list((run / "checkpoints").iterdir())  # nothing resumes from a finished run
        assert json.loads((run / "resolved.json").read_text())["train_flops"] > 0
        _, header = load_weights(run / "export" / "model.safetensors")
        assert len(header["class_names"]) == 10 and header["config"]


def checkpoint(value):
    return {"numbers": [1, 2.5, None, True], "by_number": {3: torch.full((2,), float(value))}, "text": "x"}


def test_checkpoint_round_trip_and_keeping(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, checkpoint(step), keep=2)
    assert len(list(tmp_path.glob("*.safetensors"))) == len(list(tmp_path.glob("*.json"))) == 2
    (step, state), warnings = load_latest(tmp_path)
    assert step == 3 and not warnings
    assert state["numbers"] == [1, 2.5, None, True] and torch.equal(state["by_number"][3], torch.full((2,), 3.0))


def damage(kind, path):
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "flipped":
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "unfinished":
        path.with_suffix(".json").unlink()
    elif kind == "half deleted":
        path.unlink()
    elif kind == "no JSON":
        path.with_suffix(".json").write_bytes(b"\xff[1")
    elif kind == "other JSON":
        path.with_suffix(".json").write_text("[1]")
    elif kind == "other version":
        path.with_suffix(".json").write_text(json.dumps({"schema_version": 99, "step": 2, "sha256": ""}))


DAMAGES = ["truncated", "flipped", "empty", "unfinished", "half deleted", "no JSON", "other JSON", "other version"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_checkpoint_is_noticed_and_the_one_before_used(kind, tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, checkpoint(step), keep=2)
    damage(kind, tmp_path / "step-00000002.safetensors")
    (step, _), warnings = load_latest(tmp_path)
    assert step == 1
    assert len(warnings) == 1 and "step-00000002" in warnings[0]
    damage(kind, tmp_path / "step-00000001.safetensors")
    found, warnings = load_latest(tmp_path)
    assert found is None and len(warnings) == 2


@pytest.mark.slow
def test_a_checkpoint_of_another_architecture_is_passed_over(fashion_root, tmp_path, quiet, monkeypatch):
    config = toy_config(fashion_root, "execution.checkpoint_minutes=1e-6")
    job = train_tokenizer.prepare(config, tmp_path)
    stop_after(monkeypatch, 3)
    with pytest.raises(Stopped):
        job.train(quiet)
    monkeypatch.undo()
    (step, state), _ = load_latest(job.run_dir.checkpoints)
    weights = state["phases"]["autoencoder"]["modules"][0]
    state["phases"]["autoencoder"]["modules"][0] = {**weights, "decoder.more": torch.zeros(3)}
    save_checkpoint(job.run_dir.checkpoints, 9, state, keep=5)
    said = []
    monkeypatch.setattr(type(quiet), "say", lambda self, text: said.append(text))
    train_tokenizer.prepare(config, tmp_path).train(quiet)
    (warning,) = [line for line in said if "step-00000009" in line]
    named = "/phases/autoencoder/modules/0/decoder.more is only in the checkpoint"
    kept = job.run_dir.checkpoints / "set-aside-1"
    assert warning == (
        f"warning: checkpoint step-00000009.safetensors has a different architecture ({named}) and is skipped; "
        f"it is kept in {kept}"
    )
    assert sorted(path.suffix for path in kept.iterdir()) == [".json", ".safetensors"]
    assert any("resuming from step 3 of 20" in line for line in said)


@pytest.mark.parametrize("left", ["step-00000005.shards", "step-00000005.shards.partial"])
def test_what_a_killed_save_in_the_other_form_left_takes_nothing_along(left, tmp_path):
    """Both forms share the name of their JSON."""
    (tmp_path / left).mkdir()
    save_checkpoint(tmp_path, 5, checkpoint(5), keep=1)
    (step, _), warnings = load_latest(tmp_path)
    assert step == 5 and not warnings


def test_an_abandoned_later_checkpoint_does_not_push_out_the_new_one(tmp_path):
    for step in (100, 200):
        save_checkpoint(tmp_path, step, checkpoint(step), keep=2)
    damage("unfinished", tmp_path / "step-00000200.safetensors")
    save_checkpoint(tmp_path, 150, checkpoint(150), keep=1)
    found, warnings = load_latest(tmp_path)
    assert found[0] == 150 and not warnings


def test_weights_are_checked(tmp_path):
    file = tmp_path / "w.safetensors"
    digest = save_weights(file, {"a": torch.arange(4.0)}, {"model": "x"})
    state, header = load_weights(file)
    assert header["digest"] == digest and torch.equal(state["a"], torch.arange(4.0))
    damage("flipped", file)
    with pytest.raises(UserError, match="damaged"):
        load_weights(file)
    damage("truncated", file)
    with pytest.raises(UserError, match="damaged, or not what its name says"):
        load_weights(file)
    with pytest.raises(UserError, match="not found"):
        load_weights(tmp_path / "none.safetensors")


def test_metrics_resume_without_gaps_or_doubles(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for step in range(1, 6):
        log.write("train", step, {"loss": step, "bad": float("nan")})
    log.close()
    with open(path, "a") as file:
        file.write('{"kind": "train", "st')  # cut by a crash
    log = MetricsLog(path, 3)
    log.write("train", 4, {"loss": 40})
    log.close()
    assert [(row["step"], row["loss"]) for row in read_rows(path)] == [(1, 1), (2, 2), (3, 3), (4, 40)]
    assert "bad" not in path.read_text()


def test_a_damaged_row_costs_no_other(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"kind": "train", "step": step, "loss": 1.0}) for step in range(1, 5)]
    path.write_bytes("\n".join([lines[0], '{"kind": "tr', lines[2], "[1]", lines[3]]).encode() + b"\n\xff\xfe\n")
    assert [row["step"] for row in read_rows(path)] == [1, 3, 4]


def test_a_run_that_starts_anew_has_one_row_for_step_0(fashion_root, tmp_path, quiet):
    config = toy_config(fashion_root, "optimizer.lr=1e30", "optimizer.clip_norm=1e30", "optimizer.warmup=0 steps")
    for _ in range(2):  # it stops before any checkpoint, so the second time is a new start
        job = train_tokenizer.prepare(config, tmp_path)
        with pytest.raises(UserError, match="not finite"):
            job.train(quiet)
    assert [row["step"] for row in read_rows(job.run_dir.metrics)].count(0) == 1


def test_micro_batches_are_refused_where_they_would_change_the_result(fashion_root, tmp_path):
    config = toy_config(fashion_root, 'crt.variant="l2_pre_normalized"', "execution.micro_batch_size=4")
    with pytest.raises(UserError, match="micro_batch_size null"):
        train_tokenizer.prepare(config, tmp_path)


def test_run_directory_is_locked(tmp_path):
    with (
        RunDir(tmp_path / "run"),
        pytest.raises(UserError, match="another process is writing it"),
        RunDir(tmp_path / "run"),
    ):
        pass
    with RunDir(tmp_path / "run"):
        pass


def test_non_finite_loss_stops_with_step_and_term(fashion_root, tmp_path, quiet):
    config = toy_config(fashion_root, "optimizer.lr=1e30", "optimizer.clip_norm=1e30", "optimizer.warmup=0 steps")
    job = train_tokenizer.prepare(config, tmp_path)
    with pytest.raises(UserError, match=r"step \d+: .*not finite.*learning rate (1e\+30|9\.\d+e\+29)"):
        job.train(quiet)
    assert not job.run_dir.finished


@pytest.mark.slow
def test_bfloat16_trains(fashion_root, tmp_path, quiet):
    config = toy_config(fashion_root, 'precision="bfloat16"', "length=8 steps", "execution.log_every=1")
    run = train_tokenizer.prepare(config, tmp_path).train(quiet)
    losses = [row["autoencoder/pixel_loss"] for row in read_rows(run.metrics) if row["kind"] == "train"]
    assert losses[-1] < losses[0]
    assert all(value.dtype == torch.float32 for value in state_of(run.path)["raw.safetensors"].values())


def test_adversarial_phase_starts_when_it_should(fashion_root, tmp_path, quiet):
    config = toy_config(fashion_root, *GAN, "length=10 steps", "execution.log_every=1")
    job = train_tokenizer.prepare(config, tmp_path)
    assert [start for start, _ in job.plan.flops_per_step] == [0, 4]
    assert job.plan.flops_per_step[1][1] > job.plan.flops_per_step[0][1]
    rows = [row for row in read_rows(job.train(quiet).metrics) if row["kind"] == "train"]
    for row in rows:
        step = row["step"] - 1
        assert ("discriminator/discriminator_loss" in row) == (step >= 4)
        if step == 4:
            assert row["autoencoder/adversarial_loss"] == 0  # the ramp begins at 0
            assert row["discriminator/discriminator_loss"] == pytest.approx(1.0, abs=0.1)
    assert rows[-1]["autoencoder/adversarial_loss"] != 0


@pytest.mark.slow
def test_the_discriminator_may_learn_alone_first(fashion_root, tmp_path, quiet):
    """Its warm-up changes nothing in the tokenizer before the adversarial loss begins, and costs its FLOPs."""
    settings = (*GAN, "length=8 steps", "execution.log_every=1")
    runs = [
        train_tokenizer.prepare(
            toy_config(fashion_root, *settings, f"losses.adversarial.warmup={warmup} steps"), tmp_path
        )
        for warmup in (0, 3)
    ]
    assert [start for start, _ in runs[1].plan.flops_per_step] == [0, 1, 4]
    before, alone, both = (flops for _, flops in runs[1].plan.flops_per_step)
    assert before < alone < both
    plain, warmed = ([r for r in read_rows(job.train(quiet).metrics) if r["kind"] == "train"] for job in runs)
    for a, b in zip(plain, warmed, strict=True):
        step = a["step"] - 1
        assert ("discriminator/discriminator_loss" in b) == (step >= 1)
        assert ("autoencoder/adversarial_loss" in b) == (step >= 4)
        if step < 5:  # at step 4 the ramp is still 0
            assert a["autoencoder/pixel_loss"] == b["autoencoder/pixel_loss"]
    assert warmed[4]["discriminator/discriminator_loss"] < 0.99 * plain[4]["discriminator/discriminator_loss"]


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms():
    """Losses that are linear in the layer's weights: their gradients are known."""
    from vistok.tokenizer.losses import norm_ratio

    layer = torch.nn.Parameter(torch.ones(3, 4))
    reconstruction, adversarial = (6.0 * layer).sum(), (0.5 * layer).sum()
    found = norm_ratio(reconstruction, adversarial, layer, lambda mean: mean, 1e-4)
    assert float(found) == pytest.approx(6 * 12**0.5 / (0.5 * 12**0.5 + 1e-4), rel=1e-6)
    assert not found.requires_grad
    assert float(norm_ratio(reconstruction, 0.0 * layer.sum(), layer, lambda mean: mean, 1e-4)) == 1e4  # at most


def test_an_adaptive_run_logs_its_weight_and_refuses_micro_batches(fashion_root, tmp_path, quiet):
    settings = (*GAN, "length=7 steps", "execution.log_every=1", "losses.adversarial.adaptive=true")
    rows = read_rows(train_tokenizer.prepare(toy_config(fashion_root, *settings), tmp_path).train(quiet).metrics)
    weights = [row["autoencoder/adaptive_weight"] for row in rows if "autoencoder/adaptive_weight" in row]
    assert len(weights) == 3 and all(0 < weight <= 1e4 for weight in weights)
    with pytest.raises(UserError, match="adaptive compares gradients of the whole batch"):
        train_tokenizer.prepare(toy_config(fashion_root, *settings, "execution.micro_batch_size=4"), tmp_path)


def test_full_size_tokenizer_counts_as_the_reference():
    """Encoder 69.2 and decoder 126.4 GMAC, 29.3 and 42.4 M parameters (taming's f16 network)."""
    from vistok.nn.flops import count_flops, count_params, on_meta

    model = on_meta(lambda: ConvTokenizer(ConvTokenizerConfig()))
    images = torch.empty(1, 3, 256, 256, device="meta")
    latents = torch.empty(1, 256, 16, 16, device="meta")
    assert count_flops(lambda: model.encoder(images)) / 2e9 == pytest.approx(69.2, abs=0.1)
    assert count_flops(lambda: model.decoder(latents)) / 2e9 == pytest.approx(126.4, abs=0.1)
    assert count_params(model.encoder) / 1e6 == pytest.approx(29.3, abs=0.1)
    assert count_params(model.decoder) / 1e6 == pytest.approx(42.45, abs=0.1)


def test_flops_are_those_of_the_executed_steps(fashion_root):
    """The regularized arm at equal FLOPs takes fewer steps, by what the regularizer costs."""
    plain = train_tokenizer.plan(find_recipe("debug_vq"), 1000)
    config = override(find_recipe("debug_crt"), [f"length={plain.train_flops * 10!r} flops"])
    regularized = train_tokenizer.plan(config, 1000)
    assert (
        regularized.train_flops <= 10 * plain.train_flops < regularized.train_flops * (1 + 1 / regularized.total_steps)
    )
    assert regularized.total_steps < 10 * plain.total_steps


def test_an_average_takes_codes_that_begin_as_they_are():
    from vistok.config import make
    from vistok.tokenizer.bottlenecks.config import BOTTLENECKS, VQConfig

    quantizer = make(BOTTLENECKS, VQConfig(codebook_size=8, code_dim=2, start_after=1)).train()
    ema = EMA(quantizer, 0.99)
    quantizer(torch.randn(2, 16, 2, generator=torch.Generator().manual_seed(0)))
    quantizer.after_step(0, 0)
    ema.update(0)
    assert torch.equal(ema.module.codebook, quantizer.codebook) and bool(ema.module.begun)
    with torch.no_grad():
        quantizer.codebook.add_(1.0)
    quantizer(torch.randn(2, 16, 2, generator=torch.Generator().manual_seed(1)))
    quantizer.after_step(0, 1)
    ema.update(1)
    assert not torch.equal(ema.module.codebook, quantizer.codebook)  # from there on it is an average again


def test_a_run_that_ends_before_its_codes_begin_is_refused(fashion_root, tmp_path):
    with pytest.raises(
        UserError, match="has 4 steps and would end before its codes begin.* --set tokenizer.quantizer.start_after=1$"
    ):
        train_tokenizer.prepare(
            toy_config(fashion_root, "length=4 steps", "tokenizer.quantizer.start_after=4"), tmp_path
        )


def test_the_regularizer_waits_for_reconstructions(fashion_root, tmp_path, quiet):
    config = toy_config(
        fashion_root, "length=8 steps", "execution.log_every=1", "crt.start_explained=0.2", 'crt.ramp="0 steps"',
        "tokenizer.quantizer.start_after=2", "tokenizer.shortcut=true",
    )  # fmt: skip
    run = train_tokenizer.prepare(config, tmp_path).train(quiet)
    rows = [row for row in read_rows(run.metrics) if row["kind"] == "train"]
    explained = [row["autoencoder/explained_share"] for row in rows]
    weights = [row["autoencoder/crt_weight"] for row in rows]
    # `explained_share` is as the step before left it.
    assert weights == [4 if max(explained[: number + 1]) >= 0.2 else 0 for number in range(8)]
    assert 0 in weights and 4 in weights
    # Codes cost nothing before they begin.
    assert [row["autoencoder/codebook_loss"] > 0 for row in rows] == [False] * 2 + [True] * 6
