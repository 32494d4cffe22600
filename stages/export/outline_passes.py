"""What `stages.export.outlines` has compiled, apart: Numba takes longer to load than help lasts."""

from typing import Any

import numpy as np

from stages.algorithms.compiled import compiled


@compiled
def traced(inside: Any, start: Any, through_pixels: Any):  # type: ignore[no-untyped-def]
    """Go once around the region, along the sides of its pixels with the inside to the right.

    `inside` has a border of nothing; (1, start) is its first pixel. Gives the pixels that were
    passed, or the middles of their sides, float64 [n, (x, y)]; corners are at whole numbers.
    """
    points = np.empty((256, 2), np.float64)
    n = 0
    x, y, dx, dy = start, 1, 1, 0  # along the top of the first pixel
    while True:
        # the pixel to the right of the side from (x, y) to (x + dx, y + dy)
        px = x if dx == 1 or dy == -1 else x - 1
        py = y if dx == 1 or dy == 1 else y - 1
        ax, ay = (px, py) if through_pixels else (x + dx / 2, y + dy / 2)
        if n == 0 or points[n - 1, 0] != ax or points[n - 1, 1] != ay:
            if n == len(points):
                points = np.concatenate((points, np.empty_like(points)))
            points[n, 0], points[n, 1] = ax, ay
            n += 1
        x, y = x + dx, y + dy
        ahead_x, ahead_y = px + dx, py + dy
        if inside[ahead_y - dx, ahead_x + dy]:  # across the corner belongs to it: 8-connected
            dx, dy = dy, -dx
        elif not inside[ahead_y, ahead_x]:
            dx, dy = -dy, dx
        if x == start and y == 1 and dx == 1:
            break
    if n > 1 and points[n - 1, 0] == points[0, 0] and points[n - 1, 1] == points[0, 1]:
        n -= 1
    return points[:n].copy()


@compiled
def simplified(line: Any, tolerance: Any):  # type: ignore[no-untyped-def]
    """Which corners of a closed line stay (Douglas and Peucker): bool [n].

    The first and the one farthest from it do; between two that stay, the farthest from the line
    through them does when it is more than `tolerance` away.
    """
    n = len(line)
    kept = np.zeros(n, np.bool_)
    away = ((line - line[0]) ** 2).sum(axis=1)
    opposite = int(np.argmax(away))
    kept[0] = kept[opposite] = True
    pending = [(0, opposite), (opposite, n)]  # n stands for the first again
    while pending:
        first, last = pending.pop()
        x0, y0 = line[first]
        x1, y1 = line[last % n]
        length = np.hypot(x1 - x0, y1 - y0)
        most, at = tolerance, -1
        for i in range(first + 1, last):
            x, y = line[i, 0] - x0, line[i, 1] - y0
            if length > 0:
                along = (x * (x1 - x0) + y * (y1 - y0)) / length
                across = (x * (y1 - y0) - y * (x1 - x0)) / length
                far = np.hypot(across, along - min(max(along, 0.0), length))
            else:
                far = np.hypot(x, y)
            if far > most:
                most, at = far, i
        if at >= 0:
            kept[at] = True
            pending.append((first, at))
            pending.append((at, last))
    return kept
