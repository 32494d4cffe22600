"""Elementary functions of lines of float32, and area means.

Few arrays a loop, none of them written and read at a time, and no branches: then LLVM makes vectors
of them.
"""

import numpy as np

from stages.algorithms.inference.compiling import F, compiled

LOG2E, LN2 = F(1.4426950408889634), F(0.6931471805599453)


@compiled
def exponentials(x, bits, out):
    """``out = exp(x)`` for -80 <= x <= 80, to 2e-6 of it; `bits` is an int32 line of room."""
    for i in range(len(x)):
        power = x[i] * LOG2E
        whole = np.floor(power)
        f = (power - whole) * LN2
        bits[i] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        sum = F(1 / 5040)
        sum = sum * f + F(1 / 720)
        sum = sum * f + F(1 / 120)
        sum = sum * f + F(1 / 24)
        sum = sum * f + F(1 / 6)
        sum = sum * f + F(0.5)
        sum = sum * f + F(1)
        out[i] = sum * f + F(1)
    scale = bits.view(np.float32)
    for i in range(len(x)):
        out[i] *= scale[i]


@compiled
def logarithms(x, out):
    """``out = log(x)`` of normal numbers > 0, to about 1e-7."""
    bits = x.view(np.int32)
    mantissa = out.view(np.int32)
    for i in range(len(x)):  # of numbers in [0.70, 1.41)
        exponent = (bits[i] - np.int32(0x3F3504F3)) >> np.int32(23)
        mantissa[i] = bits[i] - (exponent << np.int32(23))
    for i in range(len(x)):
        exponent = (bits[i] - np.int32(0x3F3504F3)) >> np.int32(23)
        m = out[i] - F(1)
        t = m / (F(2) + m)  # log(1 + m) = 2 artanh(t)
        u = t * t
        sum = F(2 / 9)
        sum = sum * u + F(2 / 7)
        sum = sum * u + F(2 / 5)
        sum = sum * u + F(2 / 3)
        out[i] = F(exponent) * LN2 + t * (sum * u + F(2))


@compiled
def add_probabilities(values, unit, out):
    """Add a line of probabilities to `out`; they are whole numbers where `unit` is not below 0,
    each that many times its threshold: ``p = r / (1 + r)``, ``r = unit v``."""
    if unit < 0:
        for i in range(len(out)):
            out[i] += F(values[i])
        return
    for i in range(len(out)):
        ratio = unit * F(values[i])
        out[i] += ratio / (F(1) + ratio)


@compiled
def ratios_of(values, unit, floor, out):
    """``out = p / (1 - p)``, p clamped to [floor, 1 - floor]; values as `add_probabilities`."""
    least, most = floor / (F(1) - floor), (F(1) - floor) / floor
    if unit < 0:
        for i in range(len(out)):
            p = min(max(F(values[i]), floor), F(1) - floor)
            out[i] = p / (F(1) - p)
        return
    for i in range(len(out)):
        out[i] = min(max(unit * F(values[i]), least), most)


@compiled
def evidence_of(p, floor, ratio, out):
    """``out = logit(p)``, p clamped to [floor, 1 - floor]; `ratio` is a line of room."""
    for i in range(len(p)):
        clamped = min(max(p[i], floor), F(1) - floor)
        ratio[i] = clamped / (F(1) - clamped)
    logarithms(ratio, out)


@compiled
def signals_of(x, bits, out):
    """``out = 2 sigmoid(x) - 1``; x is room, then."""
    for i in range(len(x)):
        out[i] = min(max(-x[i], F(-80)), F(80))
    exponentials(out, bits, x)
    for i in range(len(x)):
        out[i] = F(2) / (F(1) + x[i]) - F(1)


@compiled
def powers(x, exponent, bits, room):
    """``x = x ** exponent`` of a line of numbers > 0; `bits` (int32) and `room` are lines."""
    logarithms(x, room)
    for i in range(len(room)):
        room[i] *= exponent
    exponentials(room, bits, x)


@compiled
def shrunk(plane, unit, out):
    """Area means of probabilities, or of a plane (`unit` -1), in as many pixels as `out` has, as
    torch's adaptive pooling; values as `add_probabilities`."""
    h, w = plane.shape
    line = np.empty(w, np.float32)
    for i in range(out.shape[0]):
        top, bottom = i * h // out.shape[0], -(-(i + 1) * h // out.shape[0])
        line[:] = 0
        for y in range(top, bottom):
            add_probabilities(plane[y], unit, line)
        for j in range(out.shape[1]):
            left, right = j * w // out.shape[1], -(-(j + 1) * w // out.shape[1])
            sum = F(0)
            for x in range(left, right):
                sum += line[x]
            out[i, j] = sum / F((bottom - top) * (right - left))


@compiled
def planes_of(image):
    """Float32 ``[3, h, w]`` in [0, 1] of uint8 ``[h, w, 3]``."""
    h, w = image.shape[:2]
    found = np.empty((3, h, w), np.float32)
    for y in range(h):
        for channel in range(3):
            line, out = image[y, :, channel], found[channel, y]
            for x in range(w):
                out[x] = F(line[x]) / F(255)
    return found
