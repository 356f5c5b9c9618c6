"""What the compiled kernels rest on: torch's threads, rows cut between them, fresh memory."""

import gc
import multiprocessing
import os
import threading
from pathlib import Path

import pytest
import torch

from lab.scan import linear_scan
from lab.scan.cpu import memory, threads


@pytest.fixture(params=["openmp", "pool"])
def three_threads(request, monkeypatch):
    if request.param == "pool":
        monkeypatch.setattr(threads, "_on_openmp", None)
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(usual)


def shares(items, work=threads.WORTH_SHARING):
    """Who did which items: pairs of thread and range."""
    seen = []

    def kernel(first, last):
        seen.append((threading.get_native_id(), range(first, last)))

    threads.run(kernel, items, work=work)
    return seen


def test_every_item_is_done_once(three_threads):
    for items in (1, 2, 3, 10):
        done = sorted(item for _, share in shares(items) for item in share)
        assert done == list(range(items))


def test_small_work_stays_in_the_calling_thread(three_threads):
    assert shares(10, work=threads.WORTH_SHARING - 1) == [(threading.get_native_id(), range(10))]


def test_one_torch_thread_means_one_thread():
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert shares(10) == [(threading.get_native_id(), range(10))]
    finally:
        torch.set_num_threads(usual)


def test_a_failure_in_any_share_reaches_the_caller(three_threads):
    def kernel(first, last):
        if last == 9:
            raise FloatingPointError("in the last share")

    with pytest.raises(FloatingPointError, match="in the last share"):
        threads.run(kernel, 9, work=threads.WORTH_SHARING)


@pytest.mark.skipif(
    threads._on_openmp is None or not Path("/proc/self/task").is_dir(),
    reason="torch's OpenMP team, or the list of threads, is out of reach here",
)
def test_the_threads_are_those_of_torch():
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.randn(1 << 20).exp()  # starts torch's team
        before = _native_threads()
        workers = {thread for thread, _ in shares(2)}
        assert len(workers) == 2
        assert workers <= before
    finally:
        torch.set_num_threads(usual)


def _native_threads():
    return {int(folder.name) for folder in Path("/proc/self/task").iterdir()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_scans_without_the_threads_it_lost(three_threads):
    ones = torch.ones(3, 400, 400)
    linear_scan(ones, ones)  # the parent's team has worked
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    # Only the scan runs in the child: torch's own operations would wait for lost threads, too.
    child = context.Process(
        target=lambda: queue.put(linear_scan(ones, ones)[2, -1, -1].item()), daemon=True
    )
    child.start()
    child.join(timeout=30)
    assert child.exitcode == 0, "the child did not end"
    assert queue.get() == 400


@pytest.mark.parametrize("count", [1, 2, 3, 16])
@pytest.mark.parametrize("batch", [1, 2, 5, 64])
@pytest.mark.parametrize("columns", [1, 16, 17, 100, 600, 768, 4096])
def test_rows_are_cut_between_cache_lines_and_only_for_want_of_sequences(count, batch, columns):
    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        width = threads.column_width(batch, columns, itemsize=4)
    finally:
        torch.set_num_threads(usual)
    assert columns % width == 0
    if width == columns:
        return
    pieces = columns // width
    assert batch % count
    assert batch < 4 * count
    assert width % 16 == 0
    assert 4 * width >= threads.NARROWEST
    # No more pieces than it takes: the next smaller number of equal ones would be too few.
    fewer = [p for p in range(1, pieces) if columns % p == 0 and columns // p % 16 == 0]
    assert max(fewer) * batch < count


@pytest.mark.parametrize(("batch", "expected"), [(1, 1024), (2, 2048), (3, 2048), (4, 4096)])
def test_wide_rows_are_shared_by_four_threads(batch, expected):
    usual = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert threads.column_width(batch, 4096, itemsize=4) == expected
        assert threads.column_width(batch, 200, itemsize=4) == 200
    finally:
        torch.set_num_threads(usual)


@pytest.fixture
def no_idle_memory():
    memory.release()
    yield
    memory.release()


LARGE = torch.zeros(memory.WORTH_KEEPING // 8 + 3, dtype=torch.float64)


def test_large_results_are_writable_memory_of_their_own(no_idle_memory):
    first, second = (memory.empty_like(LARGE, torch.float64) for _ in range(2))
    first.fill_(1)
    second.fill_(2)
    assert (first == 1).all()
    assert first.shape == LARGE.shape
    assert first.data_ptr() % memory.ALIGNMENT == 0
    assert memory.empty_like(LARGE, torch.complex64).dtype == torch.complex64


def test_memory_is_used_again_once_no_tensor_shows_it(no_idle_memory):
    first = memory.empty_like(LARGE, torch.float64)
    place, part = first.data_ptr(), first[5:]
    del first
    # A part of it is still there.
    assert memory.empty_like(LARGE, torch.float64).data_ptr() != place
    del part
    assert memory.empty_like(LARGE, torch.float64).data_ptr() == place


def test_idle_memory_is_bounded_and_can_be_returned(no_idle_memory, monkeypatch):
    monkeypatch.setattr(memory, "CAPACITY", 3 * memory.WORTH_KEEPING)
    several = [memory.empty_like(LARGE, torch.float64) for _ in range(6)]
    assert memory.release() == 0
    del several
    assert 2 * memory.WORTH_KEEPING < memory.release() <= memory.CAPACITY
    assert memory.release() == 0


def test_memory_that_ends_at_an_awkward_moment_goes_to_the_system(no_idle_memory):
    tensor = memory.empty_like(LARGE, torch.float64)
    with memory._lock:
        del tensor  # as when Python collects garbage in the middle of it; must not wait
    assert memory.release() == 0


def test_large_results_are_no_views_to_autograd(no_idle_memory):
    a = torch.rand(4, 300, 300)
    with torch.no_grad():
        h = linear_scan(a, a)
    h += torch.rand(300, requires_grad=True)  # an error for views made without gradients
    assert not h._is_view()


def test_what_numpy_derives_from_a_lease_gives_nothing_back(no_idle_memory):
    tensor = memory.empty_like(LARGE, torch.float64)
    leases = [each for each in gc.get_objects() if type(each) is memory._Lease]
    parts = [lease[:16] for lease in leases]
    del parts, leases
    assert memory.empty_like(LARGE, torch.float64).data_ptr() != tensor.data_ptr()


def test_results_survive_what_made_them(no_idle_memory):
    a, b = torch.full((2, 1, 700, 700), 0.5).unbind()
    h = linear_scan(a, b)
    kept = h.clone()
    for _ in range(3):
        linear_scan(a, 2 * b)  # takes and returns memory of the same size
    assert torch.equal(h, kept)
