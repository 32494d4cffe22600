"""The compiled loop of `stages.report.packed.runs_of_masks`."""

import numpy as np

from stages.algorithms.compiled import compiled


@compiled
def encode(bits, columns):
    """Lengths of the runs of every mask, each mask's bytes behind the other's.

    ``bits`` uint8 ``[pixels, bytes]``. Returns uint8 ``[n]``, and where each mask ends, int64
    ``[columns]``.
    """
    pixels, width = bits.shape
    runs = np.ones(8 * width, np.int64)
    before = np.zeros(width, np.uint8)
    for i in range(pixels):
        for part in range(width):
            changed = bits[i, part] ^ before[part]
            if changed:
                before[part] = bits[i, part]
                for bit in range(8):
                    runs[8 * part + bit] += (changed >> bit) & 1
    most = 1  # bytes of a length
    while pixels >> (7 * most):
        most += 1
    room = most * int(runs[:columns].max())
    found = np.empty((columns, room), np.uint8)
    used, since = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    before[:] = 0
    for i in range(pixels + 1):
        for part in range(width):
            # behind the last pixel all runs end
            changed = bits[i, part] ^ before[part] if i < pixels else np.uint8(255)
            if changed:
                before[part] = bits[min(i, pixels - 1), part]
                for column in range(8 * part, min(8 * part + 8, columns)):
                    if (changed >> (column % 8)) & 1:
                        length = i - since[column]
                        since[column] = i
                        while length > 127:
                            found[column, used[column]] = (length & 127) | 128
                            used[column] += 1
                            length >>= 7
                        found[column, used[column]] = length
                        used[column] += 1
    ends = np.cumsum(used)
    joined = np.empty(ends[-1], np.uint8)
    for column in range(columns):
        joined[ends[column] - used[column] : ends[column]] = found[column, : used[column]]
    return joined, ends
