"""The compiled loops of `stages.drawing.overlays`: colours, masks and outlines of one picture.

All that they call lies in this file: Numba's cache on disk sees no change of another.
"""

import numpy as np

from stages.algorithms.compiled import compiled

# Sides of a cell, whose corners are four pixels' centres.
_TOP, _RIGHT, _BOTTOM, _LEFT = 0, 1, 2, 3
STEPS = 4096  # of a table of powers: finer than a level of 8 bits


@compiled
def heat(photo, strength, colours, powers, opacity, out):
    """See `heat_picture`: ``powers[i]`` is the heat of a strength of ``i / STEPS``."""
    factors, height, width = strength.shape
    one, least, steps = np.float32(1), np.float32(1e-9), np.float32(STEPS)
    sums = np.empty((4, width), np.float32)  # of squares, and of the three colours
    most = np.empty(width, np.float32)
    for y in range(height):
        sums[:] = 0
        most[:] = 0
        for j in range(factors):
            for x in range(width):
                value = powers[int(min(max(strength[j, y, x], np.float32(0)), one) * steps)]
                square = value * value
                most[x] = max(most[x], value)
                sums[0, x] += square
                for c in range(3):
                    sums[c + 1, x] += square * colours[j, c]
        for x in range(width):
            r, g, b = np.float32(photo[y, x, 0]), np.float32(photo[y, x, 1]), photo[y, x, 2]
            grey = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
            # the photograph's light and shade go on under the colour
            shade = np.float32(0.72) + np.float32(0.4 / 255) * grey
            cover = opacity * most[x]
            tint = cover * shade / max(sums[0, x], least)
            for c in range(3):
                faded = np.float32(0.75) * grey + np.float32(0.25) * photo[y, x, c]
                base = np.float32(40) + np.float32(0.72) * faded
                value = base * (one - cover) + sums[c + 1, x] * tint
                out[y, x, c] = np.uint8(min(max(value, np.float32(0)), np.float32(255)) + 0.5)


@compiled
def fill(photo, levels, colours, out):
    """The photograph a little darker, under the colours of where each level reaches 1, in turn."""
    factors, height, width = levels.shape
    values = np.empty((width, 3), np.float32)
    for y in range(height):
        for x in range(width):
            for c in range(3):
                values[x, c] = np.float32(0.82) * photo[y, x, c]
        for j in range(factors):
            for x in range(width):
                if levels[j, y, x] >= 1:
                    for c in range(3):
                        new = np.float32(0.42) * colours[j, c]
                        values[x, c] = np.float32(0.58) * values[x, c] + new
        for x in range(width):
            for c in range(3):
                out[y, x, c] = np.uint8(min(values[x, c], np.float32(255)) + 0.5)


@compiled
def light(photo, strength, powers, tint, out):
    """The photograph in the dark but for where a factor is: ``powers[i]`` is the light of a
    strength of ``i / STEPS``; ``tint`` float32 ``[3]`` the colour of the dark."""
    one, steps = np.float32(1), np.float32(STEPS)
    for y in range(strength.shape[0]):
        for x in range(strength.shape[1]):
            r, g, b = np.float32(photo[y, x, 0]), np.float32(photo[y, x, 1]), photo[y, x, 2]
            grey = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
            lit = powers[int(min(max(strength[y, x], np.float32(0)), one) * steps)]
            for c in range(3):
                dark = (np.float32(0.30) * grey + np.float32(14)) * tint[c]
                value = dark * (one - lit) + photo[y, x, c] * lit
                out[y, x, c] = np.uint8(value + np.float32(0.5))


@compiled
def ink(picture, cover, colour):
    """Put a colour onto a picture, as much as the cover says, and clear the cover."""
    for y in range(cover.shape[0]):
        for x in range(cover.shape[1]):
            share = cover[y, x]
            if share > 0:
                cover[y, x] = 0
                for c in range(3):
                    value = picture[y, x, c] * (np.float32(1) - share) + colour[c] * share
                    picture[y, x, c] = np.uint8(value + np.float32(0.5))


@compiled
def outlines(level):
    """Closed lines around where a map reaches 1, interpolated between pixels' centres.

    Nothing lies beyond the edges: a mask that touches one is closed along it. Where the corners of
    a cell that reach 1 lie across from each other, the lines part them.

    Returns points float64 [n, (x, y)], the first pixel's centre being (0.5, 0.5), and the ends of
    the lines int64 [lines]: the last point of each is its first one again.
    """
    height, width = level.shape
    walled = np.zeros((height + 2, width + 2), np.float32)
    for y in range(height):
        for x in range(width):
            walled[y + 1, x + 1] = level[y, x]
    # whether a line has gone through the side from a corner to the right, and to below it
    seen = np.zeros((height + 2, width + 2, 2), np.bool_)
    points, ends = np.empty((1024, 2), np.float64), np.empty(16, np.int64)
    n = lines = 0
    for row in range(height + 1):
        for column in range(1, width + 1):
            inside, below = walled[row, column] > 1, walled[row + 1, column] > 1
            if inside == below or seen[row, column, 1]:
                continue
            # a new line: through this cell's left side first, and on until it is met again
            y, x, side, first = row, column, _LEFT, n
            while True:
                if n == len(points):
                    points = np.concatenate((points, np.empty_like(points)))
                if side in (_TOP, _BOTTOM):
                    at_y, at_x, across = y + (side == _BOTTOM), x, 0
                    a, b = walled[at_y, x], walled[at_y, x + 1]
                else:
                    at_y, at_x, across = y, x + (side == _RIGHT), 1
                    a, b = walled[y, at_x], walled[y + 1, at_x]
                if seen[at_y, at_x, across]:
                    break
                seen[at_y, at_x, across] = True
                part = (1.0 - np.float64(a)) / (np.float64(b) - np.float64(a))
                points[n, 0] = at_x - 0.5 + (part if across == 0 else 0.0)
                points[n, 1] = at_y - 0.5 + (part if across == 1 else 0.0)
                n += 1
                side = opposite(walled, y, x, side)
                if side == _TOP:
                    y, side = y - 1, _BOTTOM
                elif side == _BOTTOM:
                    y, side = y + 1, _TOP
                elif side == _LEFT:
                    x, side = x - 1, _RIGHT
                else:
                    x, side = x + 1, _LEFT
            points[n] = points[first]
            n += 1
            if lines == len(ends):
                ends = np.concatenate((ends, np.empty_like(ends)))
            ends[lines] = n
            lines += 1
    return points[:n], ends[:lines]


@compiled
def opposite(walled, y, x, side):
    """Through which side a line leaves the cell that it has entered through another."""
    a, b = walled[y, x] > 1, walled[y, x + 1] > 1
    c, d = walled[y + 1, x] > 1, walled[y + 1, x + 1] > 1
    top, right, bottom, left = a != b, b != d, c != d, a != c
    if top and right and bottom and left:
        if a:  # around the first corner and the last
            return (_LEFT, _BOTTOM, _RIGHT, _TOP)[side]
        return (_RIGHT, _TOP, _LEFT, _BOTTOM)[side]
    if top and side != _TOP:
        return _TOP
    if right and side != _RIGHT:
        return _RIGHT
    if bottom and side != _BOTTOM:
        return _BOTTOM
    return _LEFT


@compiled
def stroke(level, width, dash, least, cover):
    """Draw the outlines of a level into a cover, where they have at least so many points.

    Lines are `width` pixels wide; of a `dash` above 0, every other stretch of that length is drawn.
    """
    points, ends = outlines(level)
    start = 0
    for end in ends:
        if end - start >= least:
            along, last = 0.0, np.inf
            if dash > 0:  # what is left over behind the last whole stretch is not drawn
                total = 0.0
                for i in range(start, end - 1):
                    away = points[i + 1] - points[i]
                    total += np.hypot(away[0], away[1])
                last = dash * int(total / dash)
            for i in range(start, end - 1):
                x, y = points[i]
                across, down = points[i + 1, 0] - x, points[i + 1, 1] - y
                length = np.hypot(across, down)
                if dash <= 0:
                    segment(x, y, x + across, y + down, width, cover)
                    continue
                at = 0.0
                while at < length and along + at < last:
                    number = int((along + at) / dash)
                    to = min(length, (number + 1) * dash - along)
                    if to <= at:  # rounding: the next stretch begins here
                        number += 1
                        to = min(length, (number + 1) * dash - along)
                    if number % 2 == 0 and length > 0:
                        p, q = at / length, to / length
                        segment(
                            x + p * across, y + p * down, x + q * across, y + q * down, width, cover
                        )
                    at = to
                along += length
        start = end


@compiled
def segment(x0, y0, x1, y1, width, cover):
    """Raise a cover to what a piece of a line with round ends covers of each pixel, nearly: by the
    distance of the pixel's centre."""
    reach = width / 2 + 0.5
    most = min(width, 1.0)
    across, down = x1 - x0, y1 - y0
    square = across * across + down * down
    top = max(0, int(np.floor(min(y0, y1) - reach)))
    bottom = min(cover.shape[0], int(np.ceil(max(y0, y1) + reach)))
    left = max(0, int(np.floor(min(x0, x1) - reach)))
    right = min(cover.shape[1], int(np.ceil(max(x0, x1) + reach)))
    for row in range(top, bottom):
        for column in range(left, right):
            dx, dy = column + 0.5 - x0, row + 0.5 - y0
            part = 0.0
            if square > 0:
                part = min(max((dx * across + dy * down) / square, 0.0), 1.0)
            dx, dy = dx - part * across, dy - part * down
            away = dx * dx + dy * dy
            if away < reach * reach:
                share = min(reach - np.sqrt(away), most)
                if share > cover[row, column]:
                    cover[row, column] = share
