"""Compiled kernels on disk are private, recompiled if damaged, and never make a call fail."""

import errno
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import lab
from lab.scan.cpu import cache, launcher, threads

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes say nothing on this system")
SCAN = """
import torch
from lab.scan import linear_scan
from lab.scan.cpu import launcher
print(linear_scan(torch.ones(1, 5, 1), torch.ones(1, 5, 1))[0, -1, 0].item(), launcher._folder())
"""


@pytest.fixture
def private(tmp_path):
    folder = tmp_path / "private"
    folder.mkdir(0o700)
    return folder


def fresh(monkeypatch, folder):
    """A kernel that this process has not compiled yet, with its cache in the folder."""
    monkeypatch.setattr(launcher, "_folder", lambda: folder)

    def double(first, last, x, out):
        for item in range(first, last):
            out[item] = 2 * x[item]

    double.__module__ = "lab.scan.cpu.double"  # kernels of other packages are not kept
    return threads.kernel(double)


def doubled(kernel):
    """Run a kernel; returns whether its compiled form came from the cache."""
    x, out = torch.arange(9.0), torch.zeros(9)
    threads.run(kernel, 9, x, out, work=0)
    assert torch.equal(out, 2 * x)
    stats = launcher.launcher(kernel).stats
    return sum(stats.cache_hits.values()) == 1


def test_another_process_takes_over_what_one_has_compiled(private, monkeypatch):
    assert not doubled(fresh(monkeypatch, private))
    assert doubled(fresh(monkeypatch, private))
    assert len(list(private.iterdir())) == 1


@pytest.mark.parametrize("keep", [0, 1, 31, 32, 33, 1000, -1])
def test_a_file_that_was_cut_short_is_compiled_anew(private, monkeypatch, keep):
    doubled(fresh(monkeypatch, private))
    (file,) = private.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:keep])
    assert not doubled(fresh(monkeypatch, private))
    assert file.stat().st_size == pytest.approx(len(whole), rel=0.1)
    assert doubled(fresh(monkeypatch, private))


def test_any_flipped_bit_is_noticed(private, monkeypatch):
    doubled(fresh(monkeypatch, private))
    (file,) = private.iterdir()
    whole = file.read_bytes()
    kernels = fresh(monkeypatch, private)
    store = launcher.launcher(kernels)._cache
    context = launcher.launcher(kernels).targetctx
    (signature,) = signatures(kernels)
    assert store.load_overload(signature, context) is not None
    for place in range(0, len(whole), len(whole) // 200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        assert store.load_overload(signature, context) is None


def signatures(kernel):
    """The types that a kernel was compiled for; here it is run once for that."""
    doubled(kernel)
    return launcher.launcher(kernel).signatures


def test_a_file_under_the_name_of_another_is_not_taken(private, monkeypatch):
    kernel = fresh(monkeypatch, private)
    doubled(kernel)
    (single,) = private.iterdir()
    code = single.read_bytes()
    x, out = torch.arange(9.0).double(), torch.zeros(9).double()
    threads.run(kernel, 9, x, out, work=0)
    (double,) = set(private.iterdir()) - {single}
    double.write_bytes(code)
    out.zero_()
    threads.run(fresh(monkeypatch, private), 9, x, out, work=0)
    assert torch.equal(out, 2 * x)


def test_what_is_not_ours_is_not_unpickled(private, monkeypatch, tmp_path):
    class Opens:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "opened",))

    doubled(fresh(monkeypatch, private))
    (file,) = private.iterdir()
    file.write_bytes(pickle.dumps(Opens()))
    assert not doubled(fresh(monkeypatch, private))
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_full_or_closed_disk_costs_the_cache_and_not_the_scan(private, monkeypatch, number):
    def fail(path, content):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache, "write_bytes", fail)
    assert not doubled(fresh(monkeypatch, private))
    assert list(private.iterdir()) == []


def test_a_folder_that_is_gone_costs_the_cache_and_not_the_scan(private, monkeypatch):
    kernel = fresh(monkeypatch, private)
    private.rmdir()
    assert not doubled(kernel)


def test_without_any_folder_kernels_are_compiled_and_not_kept(monkeypatch):
    assert not doubled(fresh(monkeypatch, None))


@posix
@pytest.mark.parametrize("mode", [0o750, 0o770, 0o755, 0o707, 0o777, 0o1777])
def test_a_folder_that_is_open_to_others_is_refused(private, mode):
    assert cache.is_private(private)
    private.chmod(mode)
    assert not cache.is_private(private)


@posix
def test_the_folder_of_another_user_is_refused(private, monkeypatch):
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    assert not cache.is_private(private)


@posix
def test_a_link_to_a_private_folder_is_refused(private, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(private)
    assert not cache.is_private(link)


ROOT, OTHER = 0, 12345


@posix
@pytest.mark.parametrize(
    ("above", "kept"),
    [
        ([0o755, 0o755], True),
        ([0o1777, 0o755], True),  # as /tmp
        ([0o775, 0o755], False),  # the group can put another folder into the place of ours
        ([0o755, 0o777, 0o755], False),
        ([0o755, 0o1777, 0o755], True),
        ([0o755, 0o775, 0o700, 0o755], True),  # the group cannot get there
        ([0o755, 0o700, 0o775, 0o755], False),  # but it can replace what keeps it out
        ([0o775, 0o700, 0o755], False),  # what the user names should itself be closed
        ([0o755, (0o755, OTHER), 0o755], False),
        ([0o755, (0o700, OTHER), 0o755], False),
        ([(0o755, ROOT), (0o755, ROOT)], True),
    ],
)
def test_folders_above_must_not_let_others_replace_it(above, kept):
    # From the nearest to the topmost, each by its mode, and by its owner unless that is the user.
    pairs = [each if isinstance(each, tuple) else (each, os.geteuid()) for each in above]
    folders = [SimpleNamespace(st_mode=mode, st_uid=owner) for mode, owner in pairs]
    assert cache._is_kept(folders) is kept


def test_the_folder_that_the_user_chose_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen" / "here"))
    folder = cache.private_folder()
    assert folder.parent == tmp_path / "chosen" / "here"
    assert folder.name.startswith("kernels-")
    assert not folder.stat().st_mode & 0o077
    assert cache.private_folder() == folder


def unusable(tmp_path, what):
    chosen = tmp_path / what
    match what:
        case "file":
            chosen.write_text("")
        case "open to a group":
            chosen.mkdir()
            chosen.chmod(0o770)
        case "open folder of kernels":
            chosen.mkdir(0o700)
            folder = chosen / f"kernels-{cache._state()}"
            folder.mkdir()
            folder.chmod(0o777)
    return chosen


@posix
@pytest.mark.parametrize("what", ["file", "open to a group", "open folder of kernels"])
def test_where_there_is_no_private_folder_a_new_one_is_made(tmp_path, monkeypatch, what):
    chosen = unusable(tmp_path, what)
    before = sorted(chosen.rglob("*"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(chosen))
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    folder = cache.private_folder()
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [each for each in chosen.rglob("*") if not each.is_dir()] == []
    assert len(before) <= 1


def test_where_nothing_can_be_written_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(unusable(tmp_path, "file")))
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path / "missing"))
    assert cache.private_folder() is None


def test_a_home_that_is_no_path_is_no_folder_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda *_: Path("~/.cache/lab"))
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    assert cache.private_folder().parent == tmp_path


@posix
def test_scans_run_where_neither_checkout_nor_home_can_be_written(tmp_path):
    checkout, nowhere = Path(lab.__file__).parents[1], tmp_path / "file"
    nowhere.write_text("")
    environment = os.environ | {
        "HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere / "cache"), "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    environment.pop("NUMBA_CACHE_DIR", None)
    before = set(checkout.rglob("lab/scan/**/*"))
    done = subprocess.run(
        [sys.executable, "-c", SCAN], env=environment, capture_output=True, text=True, check=True
    )
    value, folder = done.stdout.split()
    assert (value, done.stderr) == ("5.0", "")
    assert Path(folder).parent == tmp_path
    assert not Path(folder).exists()  # it ended with the process
    assert set(checkout.rglob("lab/scan/**/*")) == before


def test_nothing_in_the_checkout_is_loaded():
    folder = launcher._folder()
    assert folder is None or not folder.is_relative_to(Path(lab.__file__).parents[1])
