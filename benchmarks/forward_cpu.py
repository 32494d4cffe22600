"""Is there a faster forward pass of VGG-19 on a CPU than the plain one?

    python benchmarks/forward_cpu.py [--images 8] [--runs 5]

conv5_4 of random weights at 224 px, the same images in each way: eager float32 as extract has it,
channels last, traced and frozen, with oneDNN's graph fusion, `torch.compile`, and bfloat16 by
autocast, alone and compiled. In turn in one run; medians. `off` is the largest difference of an
activation, as a share of the largest activation. Compilation is not in the seconds but a column of
its own. Writes results/forward_cpu.json.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import torch
import torchvision
from torch import Tensor

from benchmarks.common import interleaved, report, seconds

Forward = Callable[[Tensor], Tensor]
BATCH = 4  # what a CPU is given at once
CONV5_4 = 36  # modules up to the rectified layer


def by_autocast(forward: Forward) -> Forward:
    """The same in bfloat16 where autocast thinks it safe."""

    def run(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(images)

    return run


def frozen(network: torch.nn.Module, example: Tensor, *, fused: bool) -> Forward:
    """Traced and frozen; with oneDNN's graph fusion or without."""
    torch.jit.enable_onednn_fusion(fused)
    try:
        found = torch.jit.freeze(torch.jit.trace(network, example))
        for _ in range(3):  # it is optimised in its first calls
            found(example)
    finally:
        torch.jit.enable_onednn_fusion(False)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    torch.manual_seed(0)
    network = torchvision.models.vgg19().features[:CONV5_4].eval()
    images = torch.rand((chosen.images, 3, 224, 224), generator=torch.Generator().manual_seed(0))
    example = images[:BATCH]

    made: dict[str, Callable[[], Forward]] = {
        "eager float32": lambda: network,
        "channels last": lambda: (
            lambda some: network(some.contiguous(memory_format=torch.channels_last))
        ),
        "traced, frozen": lambda: frozen(network, example, fused=False),
        "oneDNN graph": lambda: frozen(network, example, fused=True),
        "torch.compile": lambda: torch.compile(network),
        "bfloat16": lambda: by_autocast(network),
        "bfloat16, torch.compile": lambda: by_autocast(torch.compile(network)),
    }
    with torch.inference_mode():
        expected = network(example)
        ways: dict[str, Forward] = {}
        rows = []
        for name, make in made.items():

            def first(name: str = name, make: Callable[[], Forward] = make) -> None:
                ways[name] = make()
                ways[name](example)

            took = seconds(first)
            off = (ways[name](example).float() - expected).abs().max() / expected.abs().max()
            rows.append({"way": name, "first call s": took, "off": float(off)})

        def all_images(forward: Forward) -> Callable[[], None]:
            def run() -> None:
                for start in range(0, len(images), BATCH):
                    forward(images[start : start + BATCH])

            return run

        timings = interleaved({name: all_images(one) for name, one in ways.items()}, chosen.runs)
    base = statistics.median(timings["eager float32"])
    for row in rows:
        took = statistics.median(timings[row["way"]])
        row |= {"ms an image": 1000 * took / chosen.images, "times eager": base / took}
        row["all"] = timings[row["way"]]
    report("forward_cpu", "VGG-19 at 224 px on a CPU", rows, images=chosen.images, batch=BATCH)


if __name__ == "__main__":
    main()
