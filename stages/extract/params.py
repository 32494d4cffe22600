"""Params of the extract stage."""

from dataclasses import dataclass
from typing import Any, Literal

from stages.artifacts.activations import OWN
from stages.frame.params import check_choices, choice, fill_options, options_of, param
from stages.images.resize import Interpolation, Resize


@dataclass(frozen=True)
class AsTrained:
    """As those say who published the weights."""


@dataclass(frozen=True)
class OwnPreprocessing:
    """What a network of one's own wants of its images."""

    mean: tuple[float, ...] = param(
        (0.485, 0.456, 0.406), "of red, green, blue; they are the usual"
    )
    std: tuple[float, ...] = param((0.229, 0.224, 0.225), "the same; 1, 1, 1 for none")
    white: float = param(1.0, "what white is on the scale of mean and std: 1 or 255")
    channels: Literal["rgb", "bgr"] = param("rgb", "rgb, or bgr: blue first, as networks of Caffe")
    interpolation: Interpolation = param(
        "bilinear", "bilinear, bicubic or lanczos: how photographs are resized"
    )

    def __post_init__(self) -> None:
        check_choices(self)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3:
                raise ValueError(f"{name}: {list(values)} must be three numbers: red, green, blue")
        if min(self.std) <= 0:
            raise ValueError(f"std: {list(self.std)} must be above 0")
        if self.white <= 0:
            raise ValueError(f"white: {self.white} must be above 0")


PREPROCESSINGS: dict[str, type] = {"model": AsTrained, "own": OwnPreprocessing}


@dataclass(frozen=True)
class ExtractParams:
    """Which network looks at the images, and where it is tapped."""

    backbone: str = param(
        "demo", "demo, vgg19, timm/NAME, module:FILE.py:FUNCTION; docs/networks.md"
    )
    weights: str = param("bundled", "bundled (demo), DEFAULT or IMAGENET1K_V1, or a weights file")
    layers: tuple[str, ...] = param(("conv4_2",), "layers to tap; `dff show-model NAME` lists them")
    resize: Resize = param("squash", "squash (to size x size) or long_side (aspect ratio kept)")
    size: int | tuple[int, ...] = param(
        224, "pixels of the input's long side; several, as [224, 416], fit better"
    )
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

    preprocessing: str = choice(
        "model",
        PREPROCESSINGS,
        "model: mean and std as its weights want them; own: a section says which",
        usual_is_as_before=True,
    )
    options: Any = options_of("preprocessing")

    def __post_init__(self) -> None:
        fill_options(self)
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise ValueError("layers: name at least one layer, each once")
        check_choices(self)
        sizes = self.sizes
        if not sizes:
            raise ValueError("size: name at least one number of pixels")
        for size in sizes:
            if not 32 <= size <= 4096:
                raise ValueError(f"size: {size} is not between 32 and 4096 pixels")
        if list(sizes) != sorted(set(sizes)):
            raise ValueError(f"size: {list(sizes)} must be ascending, each number once")
        if self.backbone == OWN and len(sizes) > 1:
            raise ValueError(f"size: {list(sizes)}: your own activations are of one size; name one")
        if len(sizes) == 1:
            object.__setattr__(self, "size", sizes[0])  # [224] is what 224 is
        how = getattr(self.options, "interpolation", "bilinear")
        if self.decode == "gpu" and how != "bilinear":
            raise ValueError(
                f"decode: gpu: a GPU resizes bilinearly alone: set decode: cpu, or "
                f"own.interpolation: bilinear instead of {how}"
            )
        if self.batch < 1:
            raise ValueError(f"batch: {self.batch} must be at least 1")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every size at which the network sees each photograph, ascending."""
        return (self.size,) if isinstance(self.size, int) else tuple(self.size)

    @property
    def recorded_size(self) -> int | list[int]:
        """The size, or all of them, as JSON has it."""
        return list(self.sizes) if len(self.sizes) > 1 else self.sizes[0]
