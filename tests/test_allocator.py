"""Freed memory stays with the process, unless the user says otherwise."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path
from vistok.engine.config import ExecutionConfig
from vistok.engine.device import setup_device

def resident():  # in MB
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmRSS")) / 1e3

setup_device(ExecutionConfig(device="cpu"))
before = resident()
block = bytearray(2**26)
del block
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize(("chosen", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_a_freed_block_stays_with_the_process(chosen, kept):
    settings = {name: value for name, value in os.environ.items() if "MALLOC" not in name and "TUNABLES" not in name}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**settings, **chosen})
    left = float(done.stdout)
    assert left > 50 if kept else left < 10, left
