"""Freed memory that stays with the process: counted in page faults, in processes of their own."""

import json
import os
import platform
import subprocess
import sys

import pytest

from lab.files import PROJECT

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it tells glibc")

CHILD = """
import json, resource, runpy, sys
heap = runpy.run_path(sys.argv[1])  # by its path: importing torch would take most of the time

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        # Above the 32 MiB from which glibc always maps an array anew.
        b"x" * 40_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

first = faults()
kept = heap["keep_freed_memory"]()
b"x" * 40_000_000
later, held = faults(), resident()
returned = heap["release"]()
print(json.dumps([first, kept, later, returned, held - resident()]))
"""


TRAINED = """
import json
import torch
from lab.mixers import OscDPLR
from lab.seeding import stream
from lab.tasks import KnownOscillators
from lab.train import fit
from lab.train.heap import keep_freed_memory

model = OscDPLR(2, d_output=1, generator=stream(0, "init"), dtype=torch.float64)
task = KnownOscillators.draw(1, stream(0, "task"))
history = fit(model, task, seed=0, steps=20, batch=64, length=64, lr=0.02, device="cpu")
print(json.dumps([keep_freed_memory(), history.loss.tolist()]))
"""


def plain():
    """The environment without what configures the allocator."""
    configured = ("GLIBC_TUNABLES", "MALLOC_")
    return {name: v for name, v in os.environ.items() if not name.startswith(configured)}


def child(**environment):
    """Page faults before and after memory is kept, whether it is, and what is returned."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(PROJECT / "lab/train/heap.py")],
        env=plain() | environment, capture_output=True, text=True, check=True,
        timeout=120,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_arrays_of_the_next_update_find_their_pages():
    first, kept, later, returned, size = child()
    assert kept
    # 20 arrays of 40 MB have 195,000 pages of 4 KiB, or 400 of 2 MiB.
    assert first > 300
    assert later < first / 10
    assert returned
    assert size > 30e6


@pytest.mark.parametrize("environment", [
    {"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}, {"MALLOC_TOP_PAD_": "0"},
])  # fmt: skip
def test_whoever_configures_the_allocator_decides(environment):
    first, kept, later, _, _ = child(**environment)
    assert not kept
    assert later > first / 2


def test_losses_are_the_same_with_memory_that_is_kept():
    found = []
    for environment in ({}, {"MALLOC_TOP_PAD_": "0"}):
        done = subprocess.run(
            [sys.executable, "-c", TRAINED], cwd=PROJECT, env=plain() | environment,
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        found.append(json.loads(done.stdout))
    (with_it, losses), (without_it, others) = found
    assert with_it
    assert not without_it
    assert losses == others
    assert losses[-1] < losses[0]
