"""Measure what factorising the demo network's activations finds on the demo sets.

For every demo set it prints the IoU of the k = 1 mask with the object and, for larger k, the mean
over factors of the IoU with the single best part. Beside it stand two references that know no
parts: the k = 1 mask itself, and random factors. scikit-learn's NMF is used, so that these
numbers do not depend on the project's own solver.

    python scripts/measure_demo.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import NMF
from torch.nn.functional import interpolate

from stages.algorithms.backbone.families.demo.network import (
    DEMO_CFG,
    DEMO_LAYER,
    DEMO_MEAN,
    DEMO_STD,
    WEIGHTS_PATH,
    build_demo_network,
)
from stages.datasets.demo.scenes import DEMO_SETS, KINDS, Scene, draw_scene

SIDE = 224


def relu_index(layer: str) -> int:
    """The place in ``features`` of the ReLU after convolution ``conv{block}_{i}``."""
    block, i = (int(n) for n in layer.removeprefix("conv").split("_"))
    index, at = 0, (1, 0)
    for width in DEMO_CFG:
        if width == "M":
            index, at = index + 1, (at[0] + 1, 0)
            continue
        index, at = index + 2, (at[0], at[1] + 1)
        if at == (block, i):
            return index - 1
    raise ValueError(f"no layer {layer} in {DEMO_CFG}")


@torch.no_grad()
def activations(scenes: list[Scene], weights: Path, layer: str) -> torch.Tensor:
    """The layer's output for every scene; float32 [n, channels, h, w]."""
    network = build_demo_network(len(KINDS)).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    images = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2).float() / 255
    images = (images - torch.tensor(DEMO_MEAN).view(3, 1, 1)) / torch.tensor(DEMO_STD).view(3, 1, 1)
    return network.features[: relu_index(layer) + 1](images)


def coefficient_maps(a: torch.Tensor, k: int, seed: int) -> np.ndarray:
    """Coefficients of every cell from NMF of the rows; float32 [n, k, h, w]."""
    n, channels, h, w = a.shape
    rows = a.permute(0, 2, 3, 1).reshape(-1, channels).numpy()
    found = NMF(k, init="nndsvda", random_state=seed, max_iter=200, tol=1e-4).fit_transform(rows)
    return found.reshape(n, h, w, k).transpose(0, 3, 1, 2)


def masks(maps: np.ndarray, percentile: float) -> np.ndarray:
    """Upsampled maps thresholded at a percentile over the whole set; bool [n, k, SIDE, SIDE].

    Zeros never belong to a mask: a factor that is off on more pixels than the
    percentile counts has threshold 0, which everything would pass.
    """
    size = (SIDE, SIDE)
    up = interpolate(torch.from_numpy(maps), size, mode="bilinear", align_corners=False).numpy()
    threshold = np.percentile(up, percentile, axis=(0, 2, 3))[:, None, None]
    return (up >= threshold) & (up > 0)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union, both summed over all images."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def part_scores(found: np.ndarray, parts: dict[str, np.ndarray]) -> list[tuple[str, float]]:
    """For each factor its best part and the IoU with it."""
    scores = []
    for j in range(found.shape[1]):
        each = {name: iou(found[:, j], truth) for name, truth in parts.items()}
        best = max(each, key=lambda name: each[name])
        scores.append((best, each[best]))
    return scores


def ceiling(parts: dict[str, np.ndarray], k: int, percentile: float) -> float:
    """The mean IoU of k perfect factors on k different parts, with masks of a fixed area.

    A mask holds a fixed share of all pixels whatever the part's size, so even one that contains
    the whole part scores no more than the smaller area over the larger. Factors that share
    a large part may exceed it.
    """
    area = 1 - percentile / 100
    shares = sorted((float(p.mean()) for p in parts.values()), key=lambda p: abs(p - area))
    return float(np.mean([min(p, area) / max(p, area) for p in shares[:k]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS_PATH)
    parser.add_argument("--layer", default=DEMO_LAYER)
    parser.add_argument("--images", type=int, default=24, help="images per set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="+", default=list(DEMO_SETS))
    parser.add_argument("--percentile", type=float, default=75, help="threshold of the masks")
    options = parser.parse_args()
    torch.set_num_threads(2)

    print(
        f"layer {options.layer}, {options.images} images per set, seed {options.seed},"
        f" percentile {options.percentile:g}"
    )
    print(f"{'set':10s} covers  zeros  k=1 object  k=1 part  random part  k: mean (each factor)")
    means: dict[int, list[float]] = {3: [], 4: []}
    for kind in options.sets:
        first = options.seed * 100_003
        scenes = [draw_scene(kind, first + i, SIDE, SIDE) for i in range(options.images)]
        parts = {name: np.stack([s.parts[name] for s in scenes]) for name in scenes[0].parts}
        whole = np.any(list(parts.values()), axis=0)
        a = activations(scenes, options.weights, options.layer)
        single = masks(coefficient_maps(a, 1, 0), options.percentile)
        rng = np.random.default_rng(0)
        noise = rng.random((len(a), 4, *a.shape[2:])).astype(np.float32)
        random = np.mean(
            [score for _, score in part_scores(masks(noise, options.percentile), parts)]
        )
        line = f"{kind:10s} {whole.mean():6.3f} {float((a == 0).float().mean()):6.3f}"
        line += f" {iou(single[:, 0], whole):11.3f} {part_scores(single, parts)[0][1]:9.3f}"
        line += f" {random:12.3f}"
        for k in means:
            found = masks(coefficient_maps(a, k, 0), options.percentile)
            scores = part_scores(found, parts)
            means[k].append(float(np.mean([score for _, score in scores])))
            each = ", ".join(f"{name} {score:.2f}" for name, score in scores)
            best = ceiling(parts, k, options.percentile)
            line += f"  {k}: {means[k][-1]:.3f} (perfect {best:.3f}: {each})"
        print(line)
    print("mean over sets:", ", ".join(f"k={k} {np.mean(v):.3f}" for k, v in means.items()))


if __name__ == "__main__":
    main()
