"""The demo's arms in processes of their own: progress from their logs, and what happens when one fails."""

import os
import subprocess
import sys
import time

import pytest

from vistok.demo import side_by_side
from vistok.demo.arm import Arm
from vistok.demo.side_by_side import run_side_by_side
from vistok.demo.sizes import ARMS, SIZES, shipped_tokenizer
from vistok.demo.stages import STAGE, WEIGHTS
from vistok.engine.log import Progress
from vistok.errors import Stopped, UserError
from vistok.runs.load import load_tokenizer


@pytest.fixture
def arms(tmp_path):
    return [Arm("short", arm, number, str(tmp_path), str(tmp_path)) for number in (0, 1) for arm in ARMS]


@pytest.fixture
def program(monkeypatch):
    """Let each arm be a program of Python, chosen by its name, instead of a training."""
    started = []

    def install(programs):
        def start(module, arguments, log, threads):
            log.parent.mkdir(parents=True, exist_ok=True)
            text = next(text for name, text in programs.items() if name in log.name)
            with open(log, "ab") as output:
                process = subprocess.Popen([sys.executable, "-c", text], stdout=output, stderr=output)
            started.append(process)
            return process

        monkeypatch.setattr(side_by_side.processes, "start", start)
        monkeypatch.setattr(side_by_side, "INTERVAL", 0.02)
        return started

    yield install
    assert all(process.poll() is not None for process in started)  # none outlives the command


class Counting(Progress):
    """Counts how far its bars came."""

    def __init__(self):
        super().__init__(quiet=True)
        self.tasks = []

    def task(self, name, total, done=0, expect=None):
        manager = super().task(name, total, done, expect)
        task = manager.__enter__()
        self.tasks.append(task)
        return _Open(task, manager)


class _Open:
    def __init__(self, task, manager):
        self.opened, self.manager = task, manager

    def __enter__(self):
        return self.opened

    def __exit__(self, *error):
        return self.manager.__exit__(*error)


def nothing():
    pass


def test_the_bar_follows_the_logs_to_its_end(arms, program):
    lines = "".join(f"print({STAGE + stage!r}); print('  noise');" for stage in arms[0].stages())
    started, progress = program({"": lines}), Counting()
    assert run_side_by_side(arms, progress, lambda: "done meanwhile") == "done meanwhile"
    assert len(started) == 4
    assert progress.tasks[0].pace.done == sum(WEIGHTS[stage] for stage in arms[0].stages()) * 4


def test_an_arm_that_fails_stops_the_others_and_shows_its_log(arms, program):
    program({"crt-0": "import sys; sys.exit('vistok: no room left')", "": "import time; time.sleep(60)"})
    began = time.monotonic()
    with pytest.raises(UserError, match=r"(?s)pair 1 of 3, with the regularizer failed: exit code 1.*no room left"):
        run_side_by_side(arms, Progress(quiet=True), nothing)
    assert time.monotonic() - began < 50


def test_stopping_the_command_stops_its_processes(arms, program, monkeypatch):
    program({"": "import time; time.sleep(60)"})

    def stop(one, bar):
        raise Stopped("stopped")

    monkeypatch.setattr(side_by_side._Running, "tell", stop)
    with pytest.raises(Stopped):
        run_side_by_side(arms, Progress(quiet=True), nothing)


def test_what_is_done_meanwhile_takes_one_core_and_its_failure_stops_the_arms(arms, program):
    started = program({"": "import time; time.sleep(60)"})

    def fails():
        assert len(started) == min(len(arms), os.cpu_count() - 1)
        raise UserError("no pictures")

    began = time.monotonic()
    with pytest.raises(UserError, match="no pictures"):
        run_side_by_side(arms, Progress(quiet=True), fails)
    assert time.monotonic() - began < 50


def test_shipped_pairs_differ_in_the_regularizer_alone():
    for seed in SIZES["short"].seeds:
        baseline, crt = (load_tokenizer(shipped_tokenizer(arm, seed)).info for arm in ARMS)
        kept = ("crt", "name", "execution")
        of_both = [{k: v for k, v in info.run_config.items() if k not in kept} for info in (baseline, crt)]
        assert of_both[0] == of_both[1] and of_both[0]["seed"] == seed
        assert baseline.run_config["crt"] is None and crt.run_config["crt"]["variant"] == "l2_post"
        assert crt.training.train_flops == pytest.approx(baseline.training.train_flops, rel=1e-3)
