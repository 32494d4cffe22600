"""Compile the CUDA kernels for a compute capability, without a GPU: a line for each variant.

python compile_kernels.py 90
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from stages.algorithms.nmf import fused_kernels, solve_kernels, start_kernels
from stages.images import shrink_kernels

TYPES = {
    "survey": "values:*fp32 facts:*fp64 count:i32",
    "expand": "starts:*i32 columns:*i16 values:*fp32 out:*fp16 channels:i32",
    "products": "A:*A hi:*A lo:*A P:*fp32 rows:i32 columns:i32 channels:i32 scale:fp32",
    "solve": "P:*fp32 G:*fp32 inverse:*fp32 hi:*fp16 lo:*fp16 scales:*fp32 problems:*i32 "
    "firsts:*i32 sizes:*i32 pieces:*i64 first_piece:i32 row0:i32 grams:*fp32 columns:i32 "
    "stride:i32 most:i32 tol:fp32",
    "solve_few": "solve",
    "sums": "A:*A H:*A lo:*A scales:*fp32 partials:*fp32 pieces:*i64 first_piece:i32 "
    "row0:i32 columns:i32 stride:i32 channels:i32",
    "add_pieces": "partials:*fp32 total:*fp64 groups:*i64 first_group:i32 last_group:i32 "
    "first_piece:i32 size:i32",
    "factors": "HtA:*fp64 grams:*fp64 W:*fp64 out:*fp64 G:*fp64 inverse:*fp64 problems:*i32 "
    "firsts:*i32 sizes:*i32 channels:i32 most:i32 tol:fp32",
    "improve": "W:*fp64 HtA:*fp64 grams:*fp64 at_W:*fp64 last_W:*fp64 hi:*A lo:*A G:*fp32 "
    "inverse:*fp32 losses:*fp64 shares:*fp64 settled:*i32 problems:*i32 "
    "firsts:*i32 sizes:*i32 norm:*fp64 channels:i32 enough:fp32",
    "factor_grams": "W:*fp64 G:*fp32 inverse:*fp32 problems:*i32 firsts:*i32 sizes:*i32 "
    "channels:i32",
    "resample": "facts:*i64 table:*i32 tiles:i32",
}


def variants() -> "list[tuple[str, dict[str, object], dict[str, int]]]":
    """(kernel, constants, launch options) as `launches`, `fused_pass` and `placed` have them."""
    found: list[tuple[str, dict[str, object], dict[str, int]]] = [
        ("survey", {"EACH": 16384, "B": 1024}, {}),
        ("expand", {"B": 64}, {"num_warps": 1}),
        ("add_pieces", {"FRESH": False, "MOST": 64, "B": 32}, {}),
    ]
    staged = {"num_warps": 4, "num_stages": 3}
    for half in (True, False):
        for wide in (16, 64):
            tile = {"HALF": half, "BN": wide}
            width = 256 if half else 64
            deep = 64 if half else 32
            eight = {**staged, "num_warps": 8 if half and wide == 64 else 4}
            found.append(("products", {**tile, "BM": 128, "BC": deep}, eight))
            found.append(("sums", {**tile, "BC": width, "BR": deep}, staged))
    for K, M in ((4, 1), (8, 5), (16, 16)):
        found.append(("solve_few", {"HALF": True, "K": K, "M": M, "BR": 32}, {"num_warps": 1}))
    for K in (32, 64):
        found.append(("solve", {"HALF": True, "K": K, "BR": 32}, {}))
    found.append(("factors", {"K": 8, "B": 64}, {}))
    found.append(("improve", {"HALF": True, "K": 8, "C": 512}, {"num_warps": 8}))
    found.append(("resample", {"L": 16, "J": 64, "BITS": 22}, {}))
    found.append(("factor_grams", {"K": 8, "C": 512}, {"num_warps": 8}))
    return found


def main() -> None:
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    for name, constants, options in variants():
        modules = (fused_kernels, solve_kernels, start_kernels, shrink_kernels)
        kernel = next(getattr(one, name) for one in modules if hasattr(one, name))
        types = dict(entry.split(":") for entry in TYPES.get(TYPES[name], TYPES[name]).split())
        A = "fp16" if constants.get("HALF", True) else "fp32"
        names = kernel.arg_names
        signature = {
            one: "constexpr" if one in constants else types[one].replace("*A", f"*{A}")
            for one in names
        }
        given = {(names.index(one),): value for one, value in constants.items()}
        aligned = [
            one for one in names if signature[one].startswith("*") or one in ("channels", "stride")
        ]
        attributes = {(names.index(one),): [["tt.divisibility", 16]] for one in aligned}
        source = ASTSource(kernel, signature, given, attributes)
        built = triton.compile(source, target=target, options=options)
        print(name, constants, f"spilled {spilled(built.asm['cubin'])}", flush=True)


def spilled(binary: bytes) -> int:
    """Bytes of local memory a thread."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        usage = subprocess.run(
            [tool, "--dump-resource-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    found = re.search(r"LOCAL:(\d+)", usage)
    assert found, usage
    return int(found[1])


if __name__ == "__main__":
    main()
