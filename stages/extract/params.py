"""Params of the extract stage."""

from dataclasses import dataclass
from typing import Literal

from stages.frame.params import check_choices, param
from stages.images.resize import Resize


@dataclass(frozen=True)
class ExtractParams:
    """Which network looks at the images, and where it is tapped."""

    backbone: str = param("demo", "demo, vgg19, or any torchvision classification model")
    weights: str = param("bundled", "bundled (demo), DEFAULT or IMAGENET1K_V1, or a weights file")
    layers: tuple[str, ...] = param(("conv4_2",), "layers to tap; `dff show-model NAME` lists them")
    resize: Resize = param("squash", "squash (to size x size) or long_side (aspect ratio kept)")
    size: int = param(224, "pixels of the network's input, long side")
    batch: int = param(16, "images per job; a CPU takes four at a time, a GPU up to 256")
    decode: Literal["cpu", "gpu"] = param(
        "cpu", "cpu, or gpu: JPEG files on the GPU, where there is one"
    )
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = param(
        "float32", "float32; faster: bfloat16 (1-2 % off); on a GPU float16, tf32 (0.5 %)"
    )
    dtype: Literal["float16", "float32"] = param(
        "float16", "on disk; float16 keeps values it cannot hold as float32"
    )

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise ValueError("layers: name at least one layer, each once")
        check_choices(self)
        if not 32 <= self.size <= 4096:
            raise ValueError(f"size: {self.size} is not between 32 and 4096 pixels")
        if self.batch < 1:
            raise ValueError(f"batch: {self.batch} must be at least 1")
