import stat
from pathlib import Path

import pytest

from lab import evidence
from lab.files import PROJECT, write_bytes, write_text
from lab.records import committed, stale


def test_text_is_utf8_with_its_newlines_kept(tmp_path):
    write_text(tmp_path / "a.txt", "λ ≤ 1\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "λ ≤ 1\r\n".encode()


def test_nothing_but_the_file_is_left(tmp_path):
    for content in (b"first", b"second"):
        write_bytes(tmp_path / "a", content)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"second"


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    target = tmp_path / "a"
    write_bytes(target, b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("old", "expected"), [(None, 0o644), (0o600, 0o600), (0o755, 0o755)])
def test_permissions_are_those_of_the_old_file(tmp_path, old, expected):
    target = tmp_path / "a"
    if old is not None:
        target.touch()
        target.chmod(old)
    write_bytes(target, b"")
    assert stat.S_IMODE(target.stat().st_mode) == expected


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_bytes(tmp_path / "link", b"content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"content"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path}/missing"):
        write_bytes(tmp_path / "missing" / "a", b"")


def test_the_project_is_the_folder_that_holds_the_package_and_what_it_made():
    assert (PROJECT / "lab" / "files.py").is_file()
    assert committed.FOLDER == PROJECT / "executed"
    assert stale.results.__defaults__ == (PROJECT,)
    assert evidence.commit.__defaults__ == (PROJECT,)
