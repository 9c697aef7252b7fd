"""Freed memory stays with the process, unless the user says otherwise."""

import os
import platform
import subprocess
import sys

import pytest

PAGES = 2**26 // 4096  # of a block of 64 MB, which glibc would give back
PROGRAM = """
import resource
from vistok.engine.config import ExecutionConfig
from vistok.engine.device import setup_device

setup_device(ExecutionConfig(device="cpu"))
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(2**26)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize(("chosen", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_a_block_is_used_again_without_asking_the_system(chosen, kept):
    settings = {name: value for name, value in os.environ.items() if "MALLOC" not in name and "TUNABLES" not in name}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**settings, **chosen})
    faults = int(done.stdout)
    assert faults < PAGES / 10 if kept else faults > PAGES / 2, (faults, PAGES)
