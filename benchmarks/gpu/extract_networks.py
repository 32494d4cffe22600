"""Random networks that behave like trained ones, and the rate of their bare forward passes."""

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision

from benchmarks.gpu.common import DEVICE, REHEARSAL, median, size
from benchmarks.gpu.extract_parts import Row
from stages.algorithms.backbone import Backbone, load_backbone
from stages.algorithms.backbone.graph import run as run_network
from stages.algorithms.backbone.precision import PRECISIONS, convolutions

# The bias of the last operation before the tapped ReLU.
LAST_BIAS = {
    "vgg19": ["features.34.bias"],
    "resnet101": ["layer4.2.bn3.bias"],
    "squeezenet1_1": [f"features.12.expand{kind}.bias" for kind in ("1x1", "3x3")],
}
NON_ZERO = 0.25
BATCHES = (4,) if REHEARSAL else (128, 256)


def saved_weights(folder: Path, name: str, layer: str, images: torch.Tensor) -> str:
    """A weights file of a random network whose activations are as sparse as real ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = torchvision.models.get_model(name)
    # Batch norms need statistics, as trained ones have: with none, values grow from block to block.
    for module in whole.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all that it sees
    pixels = images.to(DEVICE).permute(0, 3, 1, 2).float() / 255 - 0.5
    with torch.no_grad():
        whole.train().to(DEVICE)(pixels)
    state = {k: v.cpu() for k, v in whole.state_dict().items() if not k.startswith("classifier")}
    path = folder / f"{name}.pth"
    torch.save(state, path)
    network = load_backbone(name, [layer], str(path), DEVICE)
    maps, _ = network.maps(images.to(DEVICE))
    shift = float(np.quantile(maps[layer].cpu().numpy(), 1 - NON_ZERO))
    for key in LAST_BIAS[name]:
        state[key] = state[key] - shift
    torch.save(state, path)
    return str(path)


def forward_rates(network: Backbone, images: torch.Tensor, full: bool) -> Row:
    """Images per second of the pruned network, by batch and by how it is launched."""
    row: Row = {}
    network.maps(images[:2])  # libraries wake
    for batch in BATCHES:
        pixels = images[torch.arange(batch) % len(images)].permute(0, 3, 1, 2)
        inputs = (pixels.float() / 255 - 0.5).to(network.dtype)
        inputs = inputs.contiguous(memory_format=torch.channels_last)

        def bare(inputs: torch.Tensor = inputs) -> None:
            with convolutions(network.tf32):
                run_network(network._network, inputs)

        row[f"forward {batch}/s"] = batch / median(bare, runs=3)
        if batch == BATCHES[-1] and full and DEVICE == "cuda":
            row[f"cuDNN tries {batch}/s"] = batch / tuned(bare)
            row[f"graph {batch}/s"] = batch / graphed(bare)
        if batch == BATCHES[0] and network.dtype == torch.float32:
            row[f"NCHW {batch}/s"] = batch / planar(network, inputs)
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
    row["forward/s"] = max(value for key, value in row.items() if key.startswith("forward"))
    return row


def planar(network: Backbone, inputs: torch.Tensor) -> float:
    """Seconds of a pass with channels first."""
    inputs = inputs.contiguous()
    network._network.to(memory_format=torch.contiguous_format)
    try:
        with convolutions(network.tf32):
            return median(lambda: run_network(network._network, inputs), runs=3)
    finally:
        network._network.to(memory_format=torch.channels_last)


def tuned(work: Callable[[], None]) -> float:
    """Seconds with cuDNN's own search for the fastest algorithms, which is not counted."""
    torch.backends.cudnn.benchmark = True
    try:
        return median(work, runs=3, warm=2)
    finally:
        torch.backends.cudnn.benchmark = False


def graphed(work: Callable[[], None]) -> float:
    """Seconds of a replay; NaN where it cannot be recorded."""
    try:
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
        return median(graph.replay, runs=3)
    except RuntimeError as error:
        print(f"no graph: {error}")
        return float("nan")


def difference(found: np.ndarray, exact: np.ndarray) -> Row:
    """How far activations are from those of float32 on a CPU."""
    apart = found.astype(np.float64) - exact
    return {
        "relative difference": float(np.linalg.norm(apart) / np.linalg.norm(exact)),
        "largest difference": float(np.abs(apart).max()),
        "largest value": float(exact.max()),
    }


def networks_alone(name: str, layer: str, weights: str, images: torch.Tensor) -> list[Row]:
    """One row per precision."""
    few = images[: size(8, 2)]
    exact = load_backbone(name, [layer], weights).maps(few)[0][layer].numpy().astype(np.float64)
    rows = []
    for precision in PRECISIONS:
        network = load_backbone(name, [layer], weights, DEVICE, precision)
        found = network.maps(few.to(DEVICE))[0][layer].float().cpu().numpy()
        full = precision in ("bfloat16", "float16")
        rates = forward_rates(network, images.to(DEVICE), full)
        rows.append(
            {"network": f"{name} {layer}", "precision": precision, **rates}
            | difference(found, exact)
        )
        del network
        gc.collect()
    return rows
