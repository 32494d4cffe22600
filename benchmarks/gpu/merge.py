"""The end of benchmarks/gpu.sh: one JSON file of all parts, and which of them failed.

``python -m benchmarks.gpu.merge`` reads ``OUT/parts.txt`` (part, exit code, start and end in
seconds) and the file that each part has written; ``--machine`` only says what runs here.
"""

import importlib.metadata
import json
import os
import sys
from typing import Any

import torch

from benchmarks.common import machine
from benchmarks.gpu.common import DEVICE, OUT, PHOTOGRAPHS, REHEARSAL

LIBRARIES = ("torchvision", "triton", "numba", "scipy", "scikit-learn", "scikit-image", "zarr")
STOPPED = {124: "stopped: out of time", 137: "killed: out of time, or of memory"}


def facts() -> dict[str, Any]:
    """What the figures were measured on, with the versions of the libraries."""
    found: dict[str, Any] = machine()
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    found["cuda"] = torch.version.cuda
    if torch.cuda.is_available():
        found["capability"] = list(torch.cuda.get_device_capability())
        found["gpu_bytes"] = torch.cuda.get_device_properties(0).total_memory
    return found


def read_part(name: str) -> dict[str, Any] | None:
    """What a part has written, and take its file away; None where there is none to be read."""
    path = OUT / f"{name}.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    path.unlink()
    return content


def state_of(code: int, content: dict[str, Any] | None) -> str:
    """``ok``, or in a few words what went wrong."""
    if code in STOPPED:
        return STOPPED[code] + (", figures incomplete" if content else "")
    if code:
        return f"failed: exit code {code}"
    return "ok" if content else "failed: wrote no figures"


def merge(listed: str) -> dict[str, Any]:
    """All parts in one: ``parts``, each with its seconds, exit code, state and figures."""
    parts = {}
    for line in listed.splitlines():
        name, code, start, end = line.split()
        content = read_part(name)
        parts[name] = {
            "state": state_of(int(code), content),
            "exit": int(code),
            "seconds": round(float(end) - float(start), 1),
            **{key: value for key, value in (content or {}).items() if key != "machine"},
        }
    return {
        "machine": facts(),
        "device": DEVICE,
        "rehearsal": REHEARSAL,
        "photographs": bool(PHOTOGRAPHS),
        "weights": bool(os.environ.get("DFF_GPU_WEIGHTS")),
        "parts": parts,
    }


def main() -> None:
    if "--machine" in sys.argv:
        print(", ".join(f"{name} {value}" for name, value in facts().items()))
        return
    listed = OUT / "parts.txt"
    merged = merge(listed.read_text() if listed.exists() else "")
    (OUT / "gpu.json").write_text(json.dumps(merged, indent=1) + "\n")
    listed.unlink(missing_ok=True)
    for name, part in merged["parts"].items():
        print(f"{name:<12}{part['seconds']:>7.1f} s  {part['state']}")
    failed = [name for name, part in merged["parts"].items() if part["state"] != "ok"]
    if not merged["parts"]:
        sys.exit("nothing has run")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    print(f"all {len(merged['parts'])} parts are well: {OUT / 'gpu.json'}")


if __name__ == "__main__":
    main()
