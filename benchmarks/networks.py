"""What layers of many networks give, and what a forward pass to them costs.

    python benchmarks/networks.py [--photographs FOLDER] [--weights NAME=FILE ...] [NAME ...]

For every network its usual layer: grid and channels at 224 pixels (or what the network takes), time
of processors for one image on one thread, and what is stored: share of values that are not zero,
whether some are below zero, bytes of a row. That the grid is the one that was foretold is checked
against real passes at that size and at `OTHER`, which networks of one size do not take.

Weights are random but where a file is given: what a share of non-zeros is worth depends on that.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from PIL import Image

from benchmarks.common import report
from stages.algorithms.backbone import (
    Backbone,
    channels,
    default_layer,
    family_of,
    forward_bytes,
    grid_shape,
    load_backbone,
)
from stages.images.resize import normalise, resize_rgb
from store.chunk import encode

NAMES = (
    "demo",
    "squeezenet1_1",
    "resnet50",
    "vgg19",
    "timm/resnet50",
    "timm/convnext_tiny",
    "timm/tf_efficientnet_lite0",
    "timm/efficientnet_b0",
    "timm/regnety_016",
    "timm/mobilenetv3_large_100",
    "timm/swin_tiny_patch4_window7_224",
    "timm/vit_small_patch16_224",
    "timm/vit_small_patch16_224.dino",
    "timm/vit_small_patch14_dinov2.lvd142m",
    "timm/vit_small_patch14_reg4_dinov2.lvd142m",
    "timm/eva02_tiny_patch14_224",
    "timm/deit_small_patch16_224",
    "timm/maxvit_tiny_tf_224",
    "timm/vit_tiny_r_s16_p8_224",
    "timm/resnext50_32x4d",
    "timm/densenet121",
    "timm/inception_v3",
    "timm/mobilenetv2_100",
    "timm/swinv2_tiny_window8_256",
    "timm/pvt_v2_b1",
    "timm/mobilevit_s",
    "timm/beit_base_patch16_224",
    "timm/cait_xxs24_224",
    "timm/fastvit_t8",
)
OTHER = (160, 256)  # height and width of images on which the rule of grids is tried, too
IMAGES = 4  # at once, as extract has them on a CPU
USUAL = 224  # pixels of a side


def photographs(folder: Path | None) -> list[np.ndarray]:
    """Four photographs, or noise with some structure."""
    if folder:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".png"))
        return [np.array(Image.open(path).convert("RGB")) for path in paths[:IMAGES]]
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (IMAGES, 24, 24, 3), np.uint8)
    return [resize_rgb(one, (256, 256)) for one in coarse]


def checked(name: str, network: Backbone, layer: str, side: int) -> str:
    """Sizes at which a real pass gave the grid that was foretold.

    Raises
    ------
    AssertionError
        It gave another one.
    """
    done = []
    for height, width in ((side, side), OTHER):
        try:
            foretold = grid_shape(name, layer, height, width)
        except ValueError:  # a network of one size
            continue
        maps = network(torch.zeros(2, 3, height, width))[layer]
        assert maps.shape == (2, *foretold, channels(name, layer)), (name, height, width)
        done.append(f"{height}x{width}")
    return ", ".join(done)


def measured(name: str, weights: str, images: list[np.ndarray], runs: int) -> dict[str, Any]:
    """One network's line."""
    layer, trained = default_layer(name), family_of(name).side(name)
    try:
        side, (h, w) = USUAL, grid_shape(name, layer, USUAL, USUAL)
    except ValueError:
        side, (h, w) = trained, grid_shape(name, layer, trained, trained)
    network = load_backbone(name, [layer], weights)
    pixels = np.stack([resize_rgb(one, (side, side)) for one in images])
    batch = torch.from_numpy(normalise(pixels, network.mean, network.std)).permute(0, 3, 1, 2)
    found = network(batch)[layer].numpy().reshape(-1, channels(name, layer))
    times = []
    for _ in range(runs):
        start = time.process_time()
        network(batch)
        times.append(time.process_time() - start)
    rows = found.astype(np.float32)
    return {
        "network": name,
        "layer": layer,
        "px": side,
        "grid": f"{h}x{w}",
        "grid rule checked": checked(name, network, layer, side),
        "channels": channels(name, layer),
        "CPU ms an image": 1000 * min(times) / len(images),
        "peak MiB": forward_bytes(name, (layer,), len(images), side, side)[0] / 2**20,
        "non-zero, %": 100 * np.count_nonzero(rows.astype(np.float16)) / rows.size,
        "below 0": bool((rows < 0).any()),
        "bytes a row": len(encode(rows, narrow=True)) / len(rows),
        "weights": weights if weights.startswith("random") else Path(weights).name,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    files = dict(one.split("=", 1) for one in chosen.weights)
    images = photographs(chosen.photographs)
    rows = []
    for name in chosen.names:
        weights = files.get(name, "bundled" if name == "demo" else "random:0")
        rows.append(measured(name, weights, images, chosen.runs))
        print(rows[-1], file=sys.stderr, flush=True)
    report("networks", "Layers of networks", rows, images=IMAGES, real=bool(chosen.photographs))


if __name__ == "__main__":
    main()
