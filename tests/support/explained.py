"""A network whose classes are known in closed form, and a project around it."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.init import write_params
from tools import edit

CLASSES = ("reddish", "<b>green</b>", "blueish", "dark")
# Logits of the means of red, green and blue over an image: a linear head.
HEAD = np.array([[4.0, -1.0, 0.0], [0.0, 3.0, 1.0], [-2.0, 0.0, 5.0], [-1.0, -1.0, -1.0]])
NETWORK = f"""
import torch
from torch import nn


class Colours(nn.Module):
    pretrained_cfg = {{"mean": (0, 0, 0), "std": (1, 1, 1), "input_size": (3, 64, 64)}}

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(8)
        self.act = nn.ReLU()
        self.head = nn.Linear(3, 4)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor({HEAD.tolist()}))
            self.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.5]))

    def forward(self, images):
        return self.head(self.act(self.pool(images)).mean((2, 3)))


def build():
    return Colours()
"""
INK = {"r": (230, 10, 10), "g": (10, 220, 10), "b": (10, 10, 240)}


def colour_project(folder: Path, backbone: str = "", **options: str) -> Path:
    """A project on two sets of six images: red on the left of green, and blue on the left of green.

    The network is `Colours`, unless another one is named with its `weights` and `layer`.
    """
    rng = np.random.default_rng(0)
    for name, inks in (("red", "rg"), ("blue", "bg")):
        for i in range(6):
            pixels = rng.integers(0, 12, (64, 64, 3)).astype(np.uint8)
            split = 16 + 8 * int(rng.integers(0, 5))
            pixels[8:56, 8:split] = INK[inks[0]]
            pixels[8:56, split:56] = INK[inks[1]]
            path = folder / "photographs" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (folder / "net.py").write_text(NETWORK)
    (folder / "names.txt").write_text("\n".join(CLASSES) + "\n")
    project = folder / "project"
    write_params(
        project,
        str(folder / "photographs"),
        None,
        backbone=backbone or f"module:{folder / 'net.py'}:build",
        weights=options.get("weights", "DEFAULT"),
        layers=[options.get("layer", "act")],
    )
    params = project / "params.yaml"
    lines = params.read_text(encoding="utf-8").splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if line.startswith("  size: "))
    lines[at] = "  size: 64\n"
    params.write_text("".join(lines), encoding="utf-8")
    edit(project, "k: [1, 2, 3, 4]", "k: [2, 3]")
    edit(project, "long_side: 224", "long_side: 48")
    edit(project, "class_names: ''", "class_names: ../names.txt")
    return project
