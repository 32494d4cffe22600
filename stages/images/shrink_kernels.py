"""One axis of many images of different sizes resized in one launch, in Triton."""

import triton
import triton.language as tl

# What a program looks up of its image: source, target, lines of a colour, positions, source strides
# of colour, line and tap, target strides of colour, line and position, its weights, taps.
FACTS = 12


@triton.jit(do_not_specialize=["tiles"])
def resample(facts, table, tiles, L: tl.constexpr, J: tl.constexpr, BITS: tl.constexpr):
    """Each new value is the rounded, weighted sum of `taps` old ones along one axis.

    `facts` int64 ``[images, 12]`` holds addresses; `table` int32 has, for each new position, the
    first old one and `taps` weights in units of 2^-BITS.
    """
    mine = facts + tl.program_id(0).to(tl.int64) * 12
    source = tl.load(mine).to(tl.pointer_type(tl.uint8))
    target = tl.load(mine + 1).to(tl.pointer_type(tl.uint8))
    lines, positions = tl.load(mine + 2), tl.load(mine + 3)
    colour, line, tap = tl.load(mine + 4), tl.load(mine + 5), tl.load(mine + 6)
    to_colour, to_line, to_position = tl.load(mine + 7), tl.load(mine + 8), tl.load(mine + 9)
    weights, taps = table + tl.load(mine + 10), tl.load(mine + 11)
    across = tl.cdiv(positions, J)
    tile = tl.program_id(1)
    while tile < tl.cdiv(3 * lines, L) * across:
        of = (tile // across) * L + tl.arange(0, L)
        at = (tile % across) * J + tl.arange(0, J)
        there, here = of < 3 * lines, at < positions
        own = weights + at * (taps + 1)
        first = tl.load(own, mask=here, other=0).to(tl.int64)
        begin = (of // lines) * colour + (of % lines) * line
        total = tl.full((L, J), 1 << (BITS - 1), tl.int32)
        for t in range(taps):
            weight = tl.load(own + 1 + t, mask=here, other=0)
            # beyond the last tap the weight is 0, and there may be no pixel
            used = there[:, None] & (weight != 0)[None, :]
            place = begin[:, None] + ((first + t) * tap)[None, :]
            total += tl.load(source + place, mask=used, other=0).to(tl.int32) * weight[None, :]
        level = tl.minimum(tl.maximum(total >> BITS, 0), 255).to(tl.uint8)
        goal = (of // lines) * to_colour + (of % lines) * to_line
        where = goal[:, None] + (at * to_position)[None, :]
        tl.store(target + where, level, mask=there[:, None] & here[None, :])
        tile += tiles
