"""Numbers and masks as text that a script can carry: small, and the same on every machine."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA = "data"  # the folder of all payloads
# What the payloads of a report are like; another number says that a page of another version, such
# as one that compares reports, must not read them. DFF.format in data.js.
FORMAT = 1
# Of the stage: bumped when a report's content changes. What an earlier one has is of its version.
VERSION = 9


def script(key: str, payload: object) -> bytes:
    """A classic script that hands a payload to the page under a key, in ASCII.

    A page that is opened from disk may load scripts, but neither modules nor data. Text goes in as
    JSON without ``<`` and with everything beyond ASCII escaped, so that no name can end the script.

    Raises
    ------
    ValueError
        For NaN or infinity, which JSON has not.
    """
    text = json.dumps(payload, separators=(",", ":"), allow_nan=False)
    line = f"DFF.put({json.dumps(key)},{text});\n"
    # a string may hold <, numbers and punctuation do not
    return line.replace("<", "\\u003c").encode("ascii")


def read_script(path: Path, key: str) -> Any:
    """The payload that `script` wrote into a file.

    Raises
    ------
    ValueError
        When it is of another key, or nothing that `script` writes.
    """
    text = path.read_text(encoding="ascii")
    start, end = f"DFF.put({json.dumps(key)},", ");\n"
    if not (text.startswith(start) and text.endswith(end)):
        raise ValueError("not of a report")
    return json.loads(text[len(start) : -len(end)])


def base64_of(values: NDArray[Any]) -> str:
    """The bytes of an array, little-endian and row-major, as base64."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(little.tobytes()).decode("ascii")


def whole_shares(shares: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Shares, clipped to [0, 1], as ``round(65535 share)``; NaN becomes 0."""
    return np.rint(np.clip(np.nan_to_num(shares), 0, 1) * 65535).astype(np.uint16)


def run_lengths(mask: NDArray[np.bool_]) -> bytes:
    """A mask as the lengths of its runs, row-major, outside and inside in turn.

    Parameters
    ----------
    mask : bool, any shape

    Returns
    -------
    bytes
        The first run is outside, and may be of length 0; what follows the last run is as far from
        it as the mask's end. Each length in groups of seven bits, the lowest first; a set highest
        bit says that more follow (LEB128).
    """
    if not mask.size:
        return b""
    return runs_of_masks(mask.reshape(-1, 1, 1).astype(np.uint8), 1)[0]


def runs_of_masks(bits: NDArray[np.uint8], columns: int) -> list[bytes]:
    """`run_lengths` of each of several masks of one image, given as bits.

    Parameters
    ----------
    bits : uint8 [h, w, bytes]
        As from `stages.algorithms.masks.pack_masks`; at least one pixel.
    columns : int
        Masks.
    """
    from stages.report.runs import encode  # compiled

    flat = np.ascontiguousarray(bits).reshape(-1, bits.shape[2])
    joined, ends = encode(flat, columns)
    content = joined.tobytes()
    return [content[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def packed_grid(
    shares: NDArray[np.floating],
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Coefficients of one image in whole numbers.

    Parameters
    ----------
    shares : float [h, w, columns]
        Coefficients as shares of the set's largest; those beyond [0, 1] are clipped.

    Returns
    -------
    peaks : uint16 [columns]
        The image's largest share of each column, ``65535 share``, rounded up.
    levels : uint8 [columns, h * w]
        ``round(255 share / peak)``: an image's own largest value, not the set's, is 255, so that
        faint heat has as many shades as strong heat.
    """
    planes = np.clip(np.moveaxis(shares, -1, 0).reshape(shares.shape[-1], -1), 0, 1)
    peaks = np.ceil(planes.max(axis=1) * 65535).astype(np.uint16)
    scale = np.where(peaks > 0, peaks, 1)[:, None] / 65535
    return peaks, np.rint(np.minimum(planes / scale, 1) * 255).astype(np.uint8)
