"""Commands leave busy processors to other programs, a run keeps its number of threads, and threads that wait are noticed."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from vistok.config import override
from vistok.engine import processors
from vistok.engine.log import Progress
from vistok.engine.processors import Waiting, cores, leave_room, others, told, without_choice
from vistok.recipes import find_recipe
from vistok.verbs import train_tokenizer


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of four cores; returns what lets so many threads of other programs run at each look."""
    stat = tmp_path / "stat"
    monkeypatch.setattr(processors, "_STAT", stat)
    monkeypatch.setattr(processors, "_ours", False)
    monkeypatch.setattr(processors, "cores", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    looks: list[int] = []

    def run(*threads: int) -> None:
        looks[:] = threads
        stat.write_text(f"cpu 1 2 3\nprocs_running {threads[0] + 1}\nprocs_blocked 0\n")

    def next_look(seconds: float) -> None:
        if len(looks) > 1 and seconds:
            run(*looks[1:])

    monkeypatch.setattr(processors, "time", SimpleNamespace(sleep=next_look, monotonic=time.monotonic))
    run(0)
    return run


@pytest.mark.parametrize("busy, threads", [(0, None), (1, "3"), (3, "1"), (9, "1")])
def test_busy_processors_are_left_to_others(machine, busy, threads):
    machine(busy)
    leave_room()
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_what_runs_for_a_moment_does_not_count(machine):
    machine(3, 3, 0, 0, 0)
    leave_room()
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_users_number_stands(machine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    machine(3)
    leave_room()
    assert os.environ["OMP_NUM_THREADS"] == "4" and without_choice(os.environ)["OMP_NUM_THREADS"] == "4"
    assert told(1, False) is None and processors.threads_of({"cpu": "a", "cores": 4, "threads": 2}, "a") is None


def test_a_child_chooses_anew(machine):
    machine(3)
    leave_room()
    assert "OMP_NUM_THREADS" not in without_choice(os.environ)


def test_where_nothing_is_known_nothing_is_chosen(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(processors, "_STAT", tmp_path / "none")
    leave_room()
    assert others() == 0 and "OMP_NUM_THREADS" not in os.environ


def test_this_machine_is_seen_as_it_is():
    assert 1 <= cores() <= (os.cpu_count() or 1)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        assert others() >= 2  # three that never sleep, whatever else runs; a look may catch one that has not begun
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.fixture
def run(fashion_root, tmp_path):
    config = override(find_recipe("debug_vq"), [f'data.root="{fashion_root}"', "data.max_images=200", "length=4 steps"])
    return lambda: train_tokenizer.prepare(config, tmp_path / "runs")


def test_a_run_goes_on_with_the_threads_that_it_began_with(run, machine, capsys):
    machine(3)
    leave_room()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    job = run()
    assert job.config.execution.threads is None
    path = job.train(Progress()).path
    assert "1 of 4 processors, as other programs are busy" in capsys.readouterr().err.replace("\n", " ")
    record = json.loads((path / "provenance.json").read_text())
    assert record["threads"] == 1
    (path / "provenance.json").write_text(json.dumps({**record, "threads": 2}))
    try:
        assert "2 of 4 processors, as when it began" in run()._set_threads()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_threads_that_wait_are_noticed(monkeypatch):
    now, waited = [0.0], [0.0]
    monkeypatch.setattr(processors, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(processors, "_waited", lambda: waited[0])
    waiting = Waiting()
    now[0], waited[0] = 10.0, 9.0
    assert waiting.advice(4) is None  # too early to tell
    now[0], waited[0] = 40.0, 12.0
    assert waiting.advice(4) is None  # little
    now[0], waited[0] = 80.0, 5.0
    assert waiting.advice(2) is None  # a thread has ended
    now[0], waited[0] = 120.0, 85.0
    assert waiting.advice(1) is None  # nothing helps
    assert "--set execution.threads=2" in waiting.advice(4)
    now[0], waited[0] = 160.0, 165.0
    assert waiting.advice(4) is None  # it was said


def test_a_thread_that_shares_its_processor_has_waited():
    code = (
        "import os, time; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); other = os.fork()\n"
        "end = time.monotonic() + 1\n"
        "while time.monotonic() < end: pass\n"
        "if not other: os._exit(0)\n"
        "from vistok.engine.processors import _waited; print(_waited())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.1
