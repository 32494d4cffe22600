"""Curves as inline SVG, written as text: they take the page's font and colours, light or dark.

A figure of matplotlib takes a quarter of a second to make; a report of a thousand image sets has
four thousand.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH, HEIGHT = 403.2, 223.2
FONT = 10.0  # as all lengths, in units of the drawing
LETTER, BOLD = 0.56 * FONT, 0.62 * FONT  # widths of a letter, about
GAP = 7.0  # between a curve's end and its name
PAD = 3.0
DASHES = "6.7 2.9"
FAINT = "var(--faint)"


@dataclass
class Chart:
    """One plot: what is drawn is added, then `svg` fits the axes around it.

    Parameters
    ----------
    x, y : str
        What the axes show.
    margin_x, margin_y : float
        Room around the data, as a share of them.
    limits : (low, high)
        Of the upright axis; None: the data's.
    grid : bool
        Lines at the ticks, and spines.
    ticks_y : sequence of (value, text)
        Instead of round numbers.
    """

    x: str
    y: str
    margin_x: float = 0.08
    margin_y: float = 0.05
    limits: tuple[float | None, float | None] = (None, None)
    grid: bool = True
    ticks_y: Sequence[tuple[float, str]] | None = None
    _xs: list[float] = field(default_factory=list)
    _ys: list[float] = field(default_factory=list)
    _drawn: list[tuple[str, list[tuple[float, float]], str]] = field(default_factory=list)
    _texts: list[tuple[str, float, float, str]] = field(default_factory=list)
    _names: list[tuple[str, float, float, str]] = field(default_factory=list)

    def line(
        self,
        points: Iterable[tuple[float, float]],
        ink: str,
        *,
        dashed: bool = False,
        width: float = 1.8,
        marker: float = 0.0,
    ) -> None:
        """A line through points, with dots of a diameter `marker` on them."""
        found = self._seen(points)
        dashes = f' stroke-dasharray="{DASHES}"' if dashed else ""
        style = f'fill="none" stroke="{ink}" stroke-width="{width:g}"{dashes}'
        self._drawn.append(("line", found, f'{style} stroke-linejoin="round"'))
        if marker:
            self._drawn.append(("dots", found, f'r="{marker / 2 + 0.5:g}" fill="{ink}"'))

    def dot(self, x: float, y: float, diameter: float, style: str) -> None:
        """A dot, and SVG attributes that say how it is painted."""
        self._drawn.append(("dots", self._seen([(x, y)]), f'r="{diameter / 2:g}" {style}'))

    def text(self, text: str, x: float, y: float, ink: str) -> None:
        """A short text in the middle of a dot."""
        self._texts.append((text, x, y, ink))

    def bar(self, x: float, y: float, spread: float, ink: str) -> None:
        """An error bar of `spread` up and down."""
        found = self._seen([(x, y - spread), (x, y + spread)])
        self._drawn.append(("bar", found, f'fill="none" stroke="{ink}" stroke-width="1.5"'))

    def name(self, text: str, x: float, y: float, ink: str) -> None:
        """The name of a curve, behind its end."""
        self._names.append((text, x, y, ink))

    def _seen(self, points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        """Points as floats, taken into account by the axes; those that are no numbers fall out."""
        found = [(float(x), float(y)) for x, y in points]
        found = [(x, y) for x, y in found if math.isfinite(x) and math.isfinite(y)]
        self._xs += [x for x, _ in found]
        self._ys += [y for _, y in found]
        return found

    def svg(self) -> Markup:
        """The drawing; made from numbers, and from texts that are escaped."""
        low_x, high_x = _range(self._xs, self.margin_x)
        low_y, high_y = _range(self._ys, self.margin_y)
        low_y = low_y if self.limits[0] is None else self.limits[0]
        high_y = high_y if self.limits[1] is None else self.limits[1]
        if self.ticks_y is None:
            ticks_y = [(value, text) for value, text in ticks(low_y, high_y, 9)]
        else:
            ticks_y = list(self.ticks_y)
        ticks_x = ticks(low_x, high_x, 8, whole=True) if self.x else []
        label = max((len(text) for _, text in ticks_y), default=0) * LETTER
        left = PAD + (FONT + 4 if self.y else 0) + label + 4
        bottom = HEIGHT - PAD - (2 * FONT + 8 if self.x else 0)
        right = self._right(left, low_x, high_x)

        def place(x: float, y: float) -> tuple[float, float]:
            across = left + (right - left) * (x - low_x) / (high_x - low_x)
            return across, bottom - (bottom - PAD) * (y - low_y) / (high_y - low_y)

        parts = [
            f'<svg class="plot" aria-hidden="true" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" '
            f'xmlns="http://www.w3.org/2000/svg" font-size="{FONT:g}" fill="currentColor" '
            'style="font-family: var(--sans)">'
        ]
        for value, text in ticks_x:
            across, _ = place(value, low_y)
            if self.grid:
                parts.append(_stroke([(across, bottom), (across, PAD)]))
            parts.append(_text(across, bottom + FONT + 2.5, text, "middle"))
        for value, text in ticks_y:
            _, down = place(low_x, value)
            if self.grid:
                parts.append(_stroke([(left, down), (right, down)]))
            parts.append(_text(left - 4, down + 0.36 * FONT, text, "end"))
        if self.grid:
            parts.append(_stroke([(left, PAD), (left, bottom), (right, bottom)], 0.8))
        if self.x:
            parts.append(_text((left + right) / 2, HEIGHT - PAD - 2.5, self.x, "middle"))
        if self.y:
            middle = (PAD + bottom) / 2
            turned = f' transform="rotate(-90 {PAD + FONT:.1f} {middle:.1f})"'
            parts.append(_text(PAD + FONT, middle, self.y, "middle", turned))
        for kind, points, style in self._drawn:
            parts.append(_shape(kind, [place(*point) for point in points], style))
        for text, x, y, ink in self._texts:
            across, down = place(x, y)
            small = f' font-size="8" fill="{ink}"'
            parts.append(_text(across, down + 2.9, text, "middle", small))
        for text, x, y, ink in self._names:
            across, down = place(x, y)
            bold = f' font-weight="bold" fill="{ink}"'
            parts.append(_text(across + GAP, down + 0.36 * FONT, text, "start", bold))
        return Markup("".join(parts) + "</svg>")

    def _right(self, left: float, low: float, high: float) -> float:
        """Where the axes end, so that the names behind curves fit."""
        right = WIDTH - PAD
        for text, x, _, _ in self._names:
            # the end is at left + share (right - left), and the name behind it within the drawing
            share = (x - low) / (high - low)
            if share > 0:
                room = WIDTH - PAD - GAP - len(text) * BOLD - left
                right = min(right, left + room / share)
        return max(right, left + WIDTH / 4)


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[tuple[float, str]]:
    """Round numbers from `low` to `high` as (value, text): at most `most` steps of 1, 2, 2.5 or 5
    times a power of ten, or the next larger one; whole ones where asked for."""
    step = (high - low) / most
    power = 10.0 ** math.floor(math.log10(step))
    factors = [factor * power for factor in (1, 2, 2.5, 5, 10, 20)]
    if whole:
        factors = [one for one in factors if one >= 1 and one == int(one)] or [1.0]
    step = next((one for one in factors if one >= step * (1 - 1e-9)), factors[-1])
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step * 10**digits, 6) != round(step * 10**digits):  # 2.5
        digits += 1
    return [(i * step, f"{i * step:.{digits}f}") for i in range(first, last + 1)]


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    """The data's, with room around it."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        around = 0.05 * abs(low) or 0.05
        low, high = low - around, high + around
    room = margin * (high - low)
    return low - room, high + room


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _stroke(points: Sequence[tuple[float, float]], width: float = 0.6) -> str:
    return f'<path d="{_path(points)}" fill="none" stroke="{FAINT}" stroke-width="{width:g}"/>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _shape(kind: str, points: Sequence[tuple[float, float]], style: str) -> str:
    if kind == "dots":
        return "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" {style}/>' for x, y in points)
    if not points:
        return ""
    if kind == "bar":
        ends = "".join(f"M{x - 3:.1f} {y:.1f}h6" for x, y in points)
        return f'<path d="{_path(points)}{ends}" {style}/>'
    return f'<path d="{_path(points)}" {style}/>'
