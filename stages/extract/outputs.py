"""What comes out of the network for a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

# Per layer arrays [n, h, w, channels] or [n, h * w, channels], together the images of a batch.
Outputs = Mapping[str, Sequence[NDArray[Any]]]


class BeyondFloat16(Exception):
    """A value is too large for float16: a GPU's rows must come back as float32."""
