"""Train the demo network on procedural scenes and write its weights.

Supervision is the kind of each scene and nothing else: no part mask is looked at. Four things
make the features useful for finding parts. The kinds share features in changing combinations and
the score of a kind is the sum of its features' scores, so each part must be read; those scores add
up non-negative evidence only, so a channel cannot earn anything by firing where nothing is; random
crops and backdrops make every part speak for itself and the backdrop say nothing; and an L1 penalty
on the deepest activations, stronger on scenes of kind ``empty``, silences the rest.

    python scripts/train_demo_network.py
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from stages.algorithms.backbone.families.demo.network import (
    DEMO_CFG,
    DEMO_MEAN,
    DEMO_STD,
    WEIGHTS_PATH,
    DemoNetwork,
    build_demo_network,
)
from stages.datasets.demo.kinds import RECIPES
from stages.datasets.demo.scenes import KINDS, SETTINGS, draw_scene

SIDE = 224
CROP = 128
ZOOM = (128, 216)
"""Smallest and largest side of the square cut out of a scene; resized to ``CROP``."""

TRAIN_SEED = 1_000_000
"""Scenes for training have seeds from here on; the demo and the tests stay far below."""

VALID_SEED = 2_000_000


EMPTY = KINDS.index("empty")
EMPTY_L1 = 20.0
"""Weight of the sparsity penalty on empty scenes."""

EMPTY_TIMES = 10
"""The share of empty training scenes, in multiples of any other kind's."""

Job = tuple[str, int, str | None]


def _render(job: Job) -> np.ndarray:
    kind, seed, setting = job
    return draw_scene(kind, seed, SIDE, SIDE, setting).image


def training_jobs(per_kind: int) -> list[Job]:
    """Every kind in front of each backdrop in turn, and many scenes without an object."""
    return [
        (kind, TRAIN_SEED + i, SETTINGS[i % len(SETTINGS)])
        for kind in KINDS
        for i in range(per_kind * (EMPTY_TIMES if kind == "empty" else 1))
    ]


def render(jobs: list[Job], processes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw scenes: images uint8 [n, 3, SIDE, SIDE] and kinds int64 [n]."""
    with get_context("fork").Pool(processes) as pool:
        images = np.stack(list(pool.imap(_render, jobs, chunksize=32)))
    labels = torch.tensor([KINDS.index(kind) for kind, _, _ in jobs])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 images to float32 with the demo network's mean and deviation, channels last."""
    mean, std = torch.tensor(DEMO_MEAN).view(3, 1, 1), torch.tensor(DEMO_STD).view(3, 1, 1)
    scaled = (images.float() / 255 - mean) / std
    return scaled.to(memory_format=torch.channels_last)


def augment(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """One random zoom per batch, one random window, flip and brightness per image."""
    side = int(rng.integers(ZOOM[0], ZOOM[1] + 1))
    windows = []
    for image in images:
        y, x = rng.integers(0, SIDE - side + 1, 2)
        window = image[:, y : y + side, x : x + side]
        windows.append(window.flip(-1) if rng.random() < 0.5 else window)
    batch = normalise(torch.stack(windows))
    batch = interpolate(batch, (CROP, CROP), mode="bilinear", antialias=True)
    gain = torch.from_numpy(rng.uniform(0.8, 1.2, (len(batch), 1, 1, 1)).astype(np.float32))
    return batch * gain


def kind_features() -> torch.Tensor:
    """Which features each kind is made of; float32 [kinds, features] of zeros and ones."""
    listed: list[set[str]] = []
    for kind in KINDS:
        design = next(iter(getattr(RECIPES[kind].build, "keywords", {}).values()), None)
        tags = set()
        if design is not None:
            family = type(design).__name__
            chosen = {k: v for k, v in asdict(design).items() if isinstance(v, str)}
            tags = {family, *(f"{family} {k}: {v}" for k, v in chosen.items())}
        listed.append(tags)
    names = sorted(set().union(*listed))
    return torch.tensor([[float(name in tags) for name in names] for tags in listed])


class AdditiveHead(nn.Module):
    """Scores of kinds as sums of non-negative scores of their features; ``empty`` has none.

    Trained in place of the plain linear layer, to which :meth:`linear` reduces it.
    """

    SCALE = 16.0
    """Averages over a whole picture are small; without a gain the weights grow too slowly."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("members", kind_features())
        self.weight = nn.Parameter(0.1 * torch.rand(self.members.shape[1], channels))
        self.bias = nn.Parameter(torch.zeros(len(KINDS)))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Pooled activations [n, channels] to logits [n, kinds]."""
        return self.SCALE * pooled @ self.weight.T @ self.members.T + self.bias

    def linear(self) -> nn.Linear:
        """The same map as one linear layer."""
        layer = nn.Linear(self.weight.shape[1], len(self.bias))
        with torch.no_grad():
            layer.weight.copy_(self.SCALE * self.members @ self.weight)
            layer.bias.copy_(self.bias)
        return layer


def fold_batch_norm(trained: DemoNetwork, classes: int) -> DemoNetwork:
    """The same function without batch normalisation: its scale and shift go into the convs."""
    folded = build_demo_network(classes)
    source, target = list(trained.features), list(folded.features)
    pairs = [(c, n) for c, n in pairwise(source) if isinstance(c, nn.Conv2d)]
    convs = [layer for layer in target if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for (conv, norm), into in zip(pairs, convs, strict=True):
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            into.weight.copy_(conv.weight * scale[:, None, None, None])
            into.bias.copy_((conv.bias - norm.running_mean) * scale + norm.bias)
    folded.classifier.load_state_dict(trained.classifier.state_dict())
    return folded.eval()


@torch.no_grad()
def accuracy(network: DemoNetwork, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of whole scenes whose kind is the network's first choice."""
    network.eval()
    chunks = zip(images.split(32), labels.split(32), strict=True)
    hits = sum(int((network(normalise(x)).argmax(1) == y).sum()) for x, y in chunks)
    return hits / len(labels)


def train(
    images: torch.Tensor, labels: torch.Tensor, epochs: int, batch: int, l1: float, seed: int
) -> DemoNetwork:
    """Train with batch normalisation from scratch; prints one line per epoch."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = build_demo_network(len(KINDS), batch_norm=True).to(memory_format=torch.channels_last)
    # Start the deepest ReLUs mostly off, so that firing has to be earned.
    last_norm = [m for m in network.features if isinstance(m, nn.BatchNorm2d)][-1]
    nn.init.constant_(last_norm.bias, -0.7)
    network.classifier = AdditiveHead(last_norm.num_features)
    steps = len(images) // batch
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, epochs * steps, pct_start=0.2)
    for epoch in range(epochs):
        network.train()
        order = torch.from_numpy(rng.permutation(len(images))[: steps * batch]).view(steps, batch)
        losses, hits, active = 0.0, 0, 0.0
        for pick in order:
            x, y = augment(images[pick], rng), labels[pick]
            with torch.autocast("cpu", torch.bfloat16):
                deep = network.features(x)
            pooled = deep.float().mean((2, 3))
            logits = network.classifier(pooled)
            loss = cross_entropy(logits, y)
            # Eased in over the first quarter: a network that knows nothing would turn all off.
            ramp = min(1.0, 4 * schedule.last_epoch / (epochs * steps))
            weight = torch.where(y == EMPTY, EMPTY_L1, l1) * ramp
            optimiser.zero_grad()
            (loss + (weight * pooled.mean(1)).mean()).backward()
            optimiser.step()
            with torch.no_grad():
                network.classifier.weight.clamp_(min=0)
            schedule.step()
            losses += loss.item()
            hits += int((logits.argmax(1) == y).sum())
            active += float((deep > 0).float().mean())
        share = hits / (steps * batch)
        print(
            f"epoch {epoch + 1}/{epochs}: loss {losses / steps:.3f}, accuracy on crops {share:.3f},"
            f" active {active / steps:.3f}",
            flush=True,
        )
    network.classifier = nn.Sequential(network.classifier.linear())
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--per-kind", type=int, default=80, help="training scenes of each kind")
    parser.add_argument("--epochs", type=int, default=11)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--l1", type=float, default=1.0, help="weight of the sparsity penalty")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="for drawing; also torch threads")
    parser.add_argument("--out", type=Path, default=WEIGHTS_PATH)
    options = parser.parse_args()
    torch.set_num_threads(options.processes)

    started = time.perf_counter()
    images, labels = render(training_jobs(options.per_kind), options.processes)
    valid_jobs: list[Job] = [(kind, VALID_SEED + i, None) for kind in KINDS for i in range(8)]
    held_out = render(valid_jobs, options.processes)
    print(f"{len(images)} scenes drawn in {time.perf_counter() - started:.0f} s", flush=True)
    begun = time.perf_counter()
    trained = train(images, labels, options.epochs, options.batch, options.l1, options.seed)
    trained_for = time.perf_counter() - begun
    network = fold_batch_norm(trained, len(KINDS))
    # Half precision halves the file; the accuracy stated is that of the rounded weights.
    state = {name: value.half() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    record = {
        "validation_accuracy": round(accuracy(network, *held_out), 4),
        "validation_scenes": len(held_out[0]),
        "classes": list(KINDS),
        "cfg": list(DEMO_CFG),
        "parameters": sum(p.numel() for p in network.parameters()),
        "training_scenes": len(images),
        "epochs": options.epochs,
        "l1": options.l1,
        "seeds": {"torch": options.seed, "train": TRAIN_SEED, "validation": VALID_SEED},
        "training_seconds": round(trained_for),
        "torch": torch.__version__.split("+")[0],
    }
    torch.save(state, options.out)
    text = json.dumps(record, indent=2) + "\n"
    options.out.with_suffix(".json").write_text(text, encoding="utf-8")
    print(
        f"validation accuracy {record['validation_accuracy']:.3f}, {record['training_seconds']} s"
    )


if __name__ == "__main__":
    main()
