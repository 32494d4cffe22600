"""What scripts carry: read back by other means than it was written."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.report.packed import base64_of, packed_grid, run_lengths, script, whole_shares


def read_runs(content: bytes) -> list[bool]:
    """Runs as the format says: LEB128 lengths, outside and inside in turn."""
    found: list[bool] = []
    inside, value, shift = False, 0, 0
    for byte in content:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found += [inside] * value
            inside, value, shift = not inside, 0, 0
    assert shift == 0
    return found


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 300)), max_size=12))
def test_runs_come_back(parts: list[tuple[bool, int]]) -> None:
    mask = np.array([value for value, count in parts for _ in range(count)], bool)
    assert read_runs(run_lengths(mask)) == mask.tolist()


@pytest.mark.parametrize("count", [1, 127, 128, 16383, 16384, 2**21 - 1, 2**21])
def test_long_runs_take_as_many_bytes_as_they_need(count: int) -> None:
    content = run_lengths(np.zeros(count, bool))
    assert len(content) == next(n for n in (1, 2, 3, 4) if count < 2 ** (7 * n))
    assert sum(value << 7 * i for i, value in enumerate(b & 127 for b in content)) == count
    assert run_lengths(np.ones(count, bool)) == b"\0" + content


def test_faint_heat_has_as_many_shades_as_strong_heat() -> None:
    grid = np.zeros((2, 3, 3))
    grid[..., 0] = np.arange(6).reshape(2, 3) / 5
    grid[..., 1] = grid[..., 0] / 100
    peaks, levels = packed_grid(grid)
    assert levels.shape == (3, 6) and peaks[2] == 0 and not levels[2].any()
    np.testing.assert_array_equal(levels[0], [0, 51, 102, 153, 204, 255])
    back = levels / 255 * (peaks / 65535)[:, None]
    for j in range(2):
        error = np.abs(back[j] - grid[..., j].ravel())
        assert error.max() <= 0.5 / 255 * grid[..., j].max() + 1 / 65535


def test_shares_are_clipped() -> None:
    given_ = np.array([-1, 0, 0.5, 1, 2, np.nan])
    assert whole_shares(given_).tolist() == [0, 0, 32768, 65535, 65535, 0]


def test_bytes_are_little_endian() -> None:
    assert base64.b64decode(base64_of(np.array([1, 258], ">u2"))) == b"\1\0\2\1"


def test_no_name_ends_the_script() -> None:
    name = "</script><!--\u2028\"'\\\ud800é"
    line = script("a/b", {"name": name})
    assert line.isascii() and b"<" not in line and line.count(b"\n") == 1
    assert line.startswith(b'DFF.put("a/b",') and line.endswith(b");\n")
    assert json.loads(line[len(b'DFF.put("a/b",') : -3]) == {"name": name}
    with pytest.raises(ValueError, match="JSON"):
        script("a", float("nan"))
