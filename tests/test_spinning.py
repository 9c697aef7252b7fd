"""Spinning is bounded before torch is loaded, for this process and those it starts, unless the user has chosen."""

import os
import subprocess
import sys

import pytest

from vistok.engine.processes import environment
from vistok.engine.spinning import bound_spinning

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def test_each_runtime_gets_its_bound(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    bound_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == "20000" and os.environ["KMP_BLOCKTIME"] == "1"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_user_chose_stands(name, monkeypatch):
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "7")
    bound_spinning()
    assert {other: os.environ.get(other) for other in NAMES} == {
        other: "7" if other == name else None for other in NAMES
    }


def test_a_task_of_a_study_is_bounded_too(monkeypatch):
    """Also on Ray, whose workers vistok does not start."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    assert all(environment(threads)["GOMP_SPINCOUNT"] == "20000" for threads in (None, 2))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert "GOMP_SPINCOUNT" not in environment(2)


def test_the_command_line_bounds_it_before_it_loads_torch():
    """`main` is the first to run; torch, which reads the variable once, comes later."""
    code = (
        "import os, sys; sys.argv = ['vistok', '--help']\n"
        "from vistok.cli import main\n"
        "assert 'torch' not in sys.modules\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    plain = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "20000 False"
