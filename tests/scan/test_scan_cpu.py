"""What the compiled kernels rely on: torch's threads, rows divided among them, fresh memory."""

import ctypes
import itertools
import multiprocessing
import os
from pathlib import Path

import pytest
import torch

from lab.scan import linear_scan, log_scan
from lab.scan.cpu import memory, threads

try:
    thread_id = ctypes.CDLL(None).gettid
    thread_id.argtypes = ()
except (AttributeError, OSError, TypeError):
    thread_id = None
knows_threads = pytest.mark.skipif(thread_id is None, reason="no gettid in the C library here")


@pytest.fixture(params=["openmp", "pool"])
def three_threads(request, monkeypatch):
    if request.param == "pool":
        monkeypatch.setattr(threads, "_on_openmp", None)
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(usual)


@threads.kernel
def count(first, last, seen):
    for item in range(first, last):
        seen[item] += 1


@threads.kernel
def note_thread(first, last, thread_of):
    for item in range(first, last):
        thread_of[item] = thread_id()


@threads.kernel
def fail(first, last, at):
    if first <= at < last:
        raise FloatingPointError("in one share")


def threads_of(items, work=threads.WORTH_SHARING):
    """Which thread did which item."""
    ids = torch.zeros(items, dtype=torch.int64)
    threads.run(note_thread, items, ids, work=work)
    return ids.tolist()


def test_every_item_is_done_once(three_threads):
    for items in (0, 1, 2, 3, 10):
        seen = torch.zeros(items)
        threads.run(count, items, seen, work=threads.WORTH_SHARING)
        assert seen.tolist() == [1] * items


@knows_threads
def test_each_thread_does_neighbouring_items(three_threads):
    done = threads_of(10)
    assert len(list(itertools.groupby(done))) == len(set(done)) <= 3


@knows_threads
def test_small_work_stays_in_the_calling_thread(three_threads):
    assert threads_of(10, work=threads.WORTH_SHARING - 1) == [thread_id()] * 10


@knows_threads
def test_one_torch_thread_means_one_thread():
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert threads_of(10) == [thread_id()] * 10
    finally:
        torch.set_num_threads(usual)


@pytest.mark.parametrize("at", [0, 4, 8])
def test_a_failure_in_any_share_reaches_the_caller(three_threads, at):
    # Compiled code has no traceback to hand on to another thread: there, what is missing tells.
    with pytest.raises(
        (FloatingPointError, RuntimeError), match=r"one share|finished 6 of 9 pieces"
    ):
        threads.run(fail, 9, at, work=threads.WORTH_SHARING)


def test_a_failure_of_the_only_share_is_raised_as_it_is():
    with pytest.raises(FloatingPointError, match="in one share"):
        threads.run(fail, 9, 0, work=0)


@pytest.mark.skipif(
    threads._on_openmp is None or not Path("/proc/self/task").is_dir() or thread_id is None,
    reason="torch's OpenMP team, or the list of threads, is out of reach here",
)
def test_the_threads_are_those_of_torch():
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.randn(1 << 20).exp()  # starts torch's team
        before = {int(folder.name) for folder in Path("/proc/self/task").iterdir()}
        workers = set(threads_of(2))
        assert len(workers) == 2
        assert workers <= before
    finally:
        torch.set_num_threads(usual)


def test_numpy_shows_the_memory_of_a_tensor_and_keeps_it():
    tensor = torch.arange(24, dtype=torch.float64).reshape(2, 3, 4)
    array = threads.as_array(tensor.mT)
    assert array.tolist() == tensor.mT.tolist()
    array[1, 2, 0] = -1
    assert tensor[1, 0, 2] == -1
    place = tensor.data_ptr()
    del tensor
    assert array.base.shown.data_ptr() == place
    with pytest.raises(ValueError, match="conjugated or negated"):
        threads.as_array(torch.ones(2, dtype=torch.complex64).conj())


def long_scans():
    """Scans around which torch's own operations are large enough for its threads."""
    a = torch.rand(400, 3, 400).transpose(0, 1).requires_grad_()
    loss = linear_scan(a, a).sum() + log_scan(a, a).mean()
    return loss.item(), *(part.sum().item() for part in torch.autograd.grad(loss, [a]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_scans_without_the_threads_it_lost(three_threads):
    torch.manual_seed(0)
    expected = long_scans()  # the parent's team has worked, for torch and for the scans
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def work():
        torch.manual_seed(0)
        queue.put(long_scans())

    child = context.Process(target=work, daemon=True)
    child.start()
    child.join(timeout=120)
    assert child.exitcode == 0, "the child did not end"
    assert queue.get() == pytest.approx(expected)


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
    assert first.data_ptr() % threads.LINE == 0
    assert memory.empty_like(LARGE, torch.complex64).dtype == torch.complex64


def test_memory_is_used_again_once_no_tensor_shows_it(no_idle_memory):
    first = memory.empty_like(LARGE, torch.float64)
    place, part = first.data_ptr(), first[5:]
    del first
    second = memory.empty_like(LARGE, torch.float64)
    assert second.data_ptr() != place  # a part of the first is still there
    del part
    assert memory.empty_like(LARGE, torch.float64).data_ptr() == place


def test_idle_memory_is_bounded_and_can_be_returned(no_idle_memory, monkeypatch):
    monkeypatch.setattr(memory, "CAPACITY", 3 * LARGE.nbytes)
    several = [memory.empty_like(LARGE, torch.float64) for _ in range(6)]
    assert memory.release() == 0
    del several
    assert memory.release() == memory.CAPACITY
    assert memory.release() == 0
    monkeypatch.setattr(memory, "CAPACITY", LARGE.nbytes - 1)
    memory.empty_like(LARGE, torch.float64)
    assert memory.release() <= memory.CAPACITY


def test_large_results_are_no_views_to_autograd(no_idle_memory):
    a = torch.rand(4, 300, 300)
    with torch.no_grad():
        h = linear_scan(a, a)
    h += torch.rand(300, requires_grad=True)  # an error for views made without gradients
    assert not h._is_view()


@pytest.mark.parametrize(
    "hold",
    [
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor.untyped_storage(),
        lambda tensor: tensor.detach()[7:],
        lambda tensor: tensor.view(torch.uint8),
        lambda tensor: torch.utils.dlpack.to_dlpack(tensor),
        lambda tensor: memoryview(tensor.numpy()),
    ],
    ids=["numpy", "storage", "part", "view", "dlpack", "buffer"],
)
def test_memory_is_not_used_again_while_anything_shows_it(no_idle_memory, hold):
    tensor = memory.empty_like(LARGE, torch.float64)
    place = tensor.data_ptr()
    held = hold(tensor)
    del tensor
    assert memory.empty_like(LARGE, torch.float64).data_ptr() != place
    assert held is not None


@pytest.mark.parametrize("change", ["numpy", "share", "grow", "shrink"])
def test_memory_that_was_changed_or_shared_is_not_used_again(no_idle_memory, change):
    tensor = memory.empty_like(LARGE, torch.float64)
    place = tensor.data_ptr()
    match change:
        case "numpy":  # torch will not resize it any more
            tensor.numpy()
        case "share":  # with another process
            tensor.share_memory_()
        case "grow":
            tensor.resize_(2 * len(LARGE))
        case "shrink":
            tensor.untyped_storage().resize_(8)
    moved = tensor.data_ptr()
    del tensor
    fresh = memory.empty_like(LARGE, torch.float64)
    assert fresh.untyped_storage().nbytes() == LARGE.nbytes
    assert fresh.untyped_storage().resizable()
    assert not fresh.is_shared()
    assert change == "numpy" or fresh.data_ptr() != moved or moved == place


@pytest.mark.parametrize("length", [4, 3000], ids=["small", "large"])
def test_results_and_inputs_can_be_resized(no_idle_memory, length):
    torch.manual_seed(0)
    a = torch.rand(1, length, 100)
    for _ in range(2):  # the second time in memory that was used before
        h = linear_scan(a, a)
        expected = h.flatten().clone()
        h.resize_(3, length, 100)
        assert torch.equal(h[0].flatten(), expected)
        h.fill_(1)  # what was added is there
        with pytest.warns(UserWarning, match="output with one or more elements was resized"):
            torch.add(torch.ones(4, length, 100), 1, out=h)
        assert (h == 2).all()
        assert h.shape == (4, length, 100)
    kept = a.clone()
    assert torch.equal(a.resize_(2, length, 100)[:1], kept)
    a.fill_(1)


@pytest.mark.parametrize("length", [4, 3000], ids=["small", "large"])
def test_results_are_right_whatever_the_default_device(no_idle_memory, length):
    a = torch.rand(1, length, 100, requires_grad=True)
    expected = linear_scan(a, a)
    (gradient,) = torch.autograd.grad(expected.sum(), [a])
    with torch.device("meta"):
        h = linear_scan(a, a)
        (actual,) = torch.autograd.grad(h.sum(), [a])
    assert torch.equal(h, expected)
    assert torch.equal(actual, gradient)


def test_large_results_within_inference_mode_and_after_it(no_idle_memory):
    a = torch.rand(1, 3000, 100)
    expected = linear_scan(a, a).clone()
    for _ in range(2):
        with torch.inference_mode():
            assert torch.equal(linear_scan(a, a), expected)
        weight = torch.ones(100, requires_grad=True)
        (linear_scan(a, a) * weight).sum().backward()


def test_many_results_of_one_size_are_found_in_both_directions(no_idle_memory):
    several = [memory.empty_like(LARGE, torch.float64) for _ in range(3 * memory.LOOKS)]
    places = {each.data_ptr() for each in several}
    several.pop()  # backward frees the last first
    several.append(memory.empty_like(LARGE, torch.float64))
    several.pop(0)  # and of another step, the first
    several.append(memory.empty_like(LARGE, torch.float64))
    assert {each.data_ptr() for each in several} == places


def test_results_survive_what_made_them(no_idle_memory):
    a, b = torch.full((2, 1, 700, 700), 0.5).unbind()
    h = linear_scan(a, b)
    kept = h.clone()
    for _ in range(3):
        linear_scan(a, 2 * b)  # takes and returns memory of the same size
    assert torch.equal(h, kept)
