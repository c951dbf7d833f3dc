from pathlib import Path

import pytest

from bitat_tf import files


def test_a_file_appears_whole(tmp_path):
    files.write_text(tmp_path / "a.txt", "first")
    files.write_bytes(tmp_path / "a.txt", b"second")
    assert (tmp_path / "a.txt").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")

    def fail_half_way():
        with files.atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "ordinary").write_text("")
    files.write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_names_the_file_that_could_not_be_written(tmp_path):
    def write():
        with files.atomic_path(tmp_path / "a.txt"), open("/dev/full", "w") as full:
            full.write("x")

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())
