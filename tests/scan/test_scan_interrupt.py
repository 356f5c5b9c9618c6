"""An interrupted scan: it ends in the exception of the signal's handler, never in wrong numbers.

The handlers of signals run in the main thread between any two instructions of Python. So a timer is
set to many different moments of every scan, and each signal has to reach the caller.
"""

import gc
import importlib
import random
import signal
import sys
import threading
import time

import pytest
import torch
from scan_cases import CASES, SINGLE
from torch.utils._pytree import tree_leaves, tree_map

from lab.scan import interrupts, linear_scan, tropical
from lab.scan.cpu import launcher, memory, threads

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer on this system")

SHORTEST, LONGEST = 1e-5, 3e-3  # seconds until a signal
PATIENCE = 20  # seconds after which a signal counts as lost
SCANS = list(
    {case.name: case for case in reversed(CASES) if case.smooth and case.compiled}.values()
)


@pytest.fixture
def swallowed(monkeypatch):
    """What was raised where nobody could catch it; SIGALRM raises KeyboardInterrupt meanwhile."""
    seen = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda each: seen.append((each.exc_value, each.object))
    )
    # Destructors of what earlier tests left behind, and what test tools (hypothesis) are told about
    # the collector's work, are not ours, and lose interrupts of their own.
    gc.collect()
    gc.freeze()
    told = gc.callbacks[:]
    gc.callbacks.clear()
    usual = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield seen
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, usual)
    gc.callbacks.extend(told)
    gc.unfreeze()


@pytest.fixture(params=["one thread", "openmp", "pool"])
def shared_work(request, monkeypatch):
    """Two threads take part in the smallest of scans, in either way; or one does all."""
    monkeypatch.setattr(threads, "WORTH_SHARING", 0)
    monkeypatch.setattr(memory, "WORTH_KEEPING", 1)
    if request.param == "pool":
        monkeypatch.setattr(threads, "_on_openmp", None)
    usual = torch.get_num_threads()
    torch.set_num_threads(1 if request.param == "one thread" else 2)
    yield
    torch.set_num_threads(usual)


def interrupted_after(seconds, work):
    """Whether work(), done over and over, ends in a KeyboardInterrupt once the timer has fired."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            work()
    except KeyboardInterrupt:
        return True
    return False


def stress(work, seconds):
    """Interrupt work() at random moments for so long; how many signals came, and how many lost."""
    draw, signals, lost = random.Random(0), 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and lost == 0:
        signals += 1
        lost += not interrupted_after(draw.uniform(SHORTEST, LONGEST), work)
    return signals, lost


def there_and_back(case):
    """States and gradients of a scan, as a function of nothing."""
    kind = case.dtypes[0]
    drawn = case.arguments(kind, 3, 40, 24, seed=0)
    arguments = tree_map(lambda t: t.to(SINGLE[kind]) if t.is_floating_point() else t, drawn)
    inputs = [t.requires_grad_() for t in tree_leaves(arguments) if t.is_floating_point()]

    def run():
        outputs = [t for t in tree_leaves(case.fast(*arguments)) if t.is_floating_point()]
        ones = [torch.ones_like(t) for t in outputs]
        return [*outputs, *torch.autograd.grad(outputs, inputs, ones, allow_unused=True)]

    return run


@pytest.mark.parametrize("case", SCANS, ids=lambda case: case.name)
def test_every_signal_reaches_the_caller_and_no_number_is_wrong(case, shared_work, swallowed):
    run = there_and_back(case)
    expected = [t if t is None else t.clone() for t in run()]
    wrong = []

    def work():
        equal = [e is None or torch.equal(a, e) for a, e in zip(run(), expected, strict=True)]
        wrong.extend(place for place, same in enumerate(equal) if not same)

    signals, lost = stress(work, seconds=0.4)
    assert signals > 0
    assert (lost, wrong, swallowed) == (0, [], [])


def test_a_signal_while_a_kernel_compiles_waits_for_the_end_of_that(swallowed, monkeypatch):
    # numba calls back into Python from C and runs destructors, and its tables may be half filled.
    monkeypatch.setattr(launcher, "_folder", lambda: None)
    draw = random.Random(0)
    for _ in range(4):

        def fill(first, last, out):
            for item in range(first, last):
                out[item] = item

        kernel, out = threads.kernel(fill), torch.zeros(9)

        def work(kernel=kernel, out=out):
            threads.run(kernel, 9, out, work=0)
            time.sleep(0.001)

        assert interrupted_after(draw.uniform(0, 1), work)
        out.zero_()
        threads.run(kernel, 9, out, work=0)
        assert out.tolist() == list(range(9))
    assert swallowed == []


def test_handlers_wait_and_are_called_afterwards(swallowed):
    calls, early = [], []
    usual = signal.signal(signal.SIGUSR1, lambda number, frame: calls.append(number))
    mine = signal.getsignal(signal.SIGUSR1)

    def interrupted():
        with interrupts.handlers_wait():
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGALRM)
            early.append(list(calls))

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert (early, calls) == ([[]], [signal.SIGUSR1])
        assert signal.getsignal(signal.SIGUSR1) is mine
        assert signal.getsignal(signal.SIGALRM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGUSR1, usual)


def test_handlers_that_are_not_put_back_pass_calls_on():
    # As when another handler raises while they are put back.
    calls = []
    waiting = interrupts._Waiting(lambda number, frame: calls.append(number))
    waiting(1, None)
    assert calls == []
    waiting.make_up()
    waiting(2, None)
    assert calls == [1, 2]


def test_outside_the_main_thread_there_are_no_handlers_to_wait():
    seen = []

    def look():
        with interrupts.handlers_wait():
            seen.append(signal.getsignal(signal.SIGINT))

    usual = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [usual]


def test_the_memory_of_an_interrupted_scan_is_used_again(swallowed):
    memory.release()
    held = sum(block.size for block in memory._books.values())  # by results of earlier tests
    a = torch.rand(4, 300, 256)
    expected = linear_scan(a, a).clone()
    for _ in range(30):
        interrupted_after(1e-3, lambda: linear_scan(a, a))
    assert torch.equal(linear_scan(a, a), expected)
    assert sum(block.size for block in memory._books.values()) - held <= 4 * a.nbytes


def test_what_an_interrupted_import_left_does_not_stand_in_the_way_of_the_next():
    case = next(case for case in SCANS if case.name == "tropical_scan")
    expected = [t if t is None else t.clone() for t in there_and_back(case)()]
    first, again = tropical._fused, importlib.reload(tropical)._fused
    assert first is not again
    # torch's operator calls the new one, and the old one goes on working.
    arguments = case.arguments(torch.float32, 3, 40, 24, seed=0)
    with torch.profiler.profile():
        assert torch.equal(again(*arguments)[0], first(*arguments)[0])
    actual = there_and_back(case)()
    assert all(map(torch.equal, actual[:2], expected[:2]))
