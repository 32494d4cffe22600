"""Digests that are remembered between runs."""

import os
from pathlib import Path

import pytest

from stages.frame.fingerprint import file_digest
from stages.index.digests import SETTLED, kept_digests


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.txt" for i in range(3)]
    for path in paths:
        path.write_text(path.name)
        os.utime(path, (1e9, 1e9))
    return paths


def test_only_what_has_changed_is_read_again(files: list[Path], tmp_path: Path) -> None:
    memory, read = tmp_path / "work/digests.json", list[str]()

    def digest(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    def asked() -> list[str]:
        read.clear()
        found = kept_digests(files, digest, memory)
        assert found == [file_digest(path) for path in files]
        return sorted(read)

    assert asked() == ["0.txt", "1.txt", "2.txt"]
    assert asked() == []
    files[1].write_text("other")  # just now: not settled, so it is read until it is
    assert asked() == ["1.txt"]
    assert asked() == ["1.txt"]
    os.utime(files[1], (1e9 + SETTLED, 1e9 + SETTLED))
    assert asked() == ["1.txt"]
    assert asked() == []
    files[2].rename(tmp_path / "away")
    (tmp_path / "away").replace(files[2])  # the same file
    assert asked() == []
    other = tmp_path / "copy"
    other.write_text("2.txt")
    os.utime(other, (1e9, 1e9))
    other.replace(files[2])  # same size and time, another inode
    assert asked() == ["2.txt"]
    files[0].unlink()
    assert asked() == ["0.txt"]
    assert asked() == ["0.txt"], "what is not there is not remembered"
    memory.unlink()
    assert asked() == ["0.txt", "1.txt", "2.txt"]


@pytest.mark.parametrize("content", [b"", b"[[1]]", b"\xff\xfe", b'{"a": 1}', b"[[1, 2, 3, 4, 5]]"])
def test_a_damaged_memory_costs_time_alone(
    files: list[Path], tmp_path: Path, content: bytes
) -> None:
    memory = tmp_path / "digests.json"
    memory.write_bytes(content)
    expected = [file_digest(path) for path in files]
    assert kept_digests(files, file_digest, memory) == expected
    assert kept_digests(files, lambda path: "not asked", memory) == expected
