"""What comes out of the network for a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

# Arrays [n, h, w, channels] or [n, h * w, channels], together the images of a batch.
Blocks = Sequence[NDArray[Any]]
# Per layer those of each size.
Outputs = Mapping[str, Sequence[Blocks]]


class BeyondFloat16(Exception):
    """A value is too large for float16: a GPU's rows must come back as float32."""
