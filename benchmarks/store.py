"""The feature store against other ways of keeping the same rows: bytes, and rates of reading.

    python benchmarks/store.py [--photographs FOLDER --squeezenet WEIGHTS]

Rows are SqueezeNet 1.1 fire9 activations of photographs (flipped and cropped until there are
enough), or, without photographs, drawn with the same share of non-zeros. Every encoding holds the
same rows. `read` is one sequential reading of all of them from a warm page cache into what
factorization wants, scipy CSR with float32 values; for dense encodings that is the read alone,
with no conversion at all, which favours them. `map` is one image out of the middle, `set` a tenth
of the images, scattered. Encodings are timed in turn, several times over; figures are medians.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
import scipy.sparse
import torch
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from benchmarks.common import interleaved, report
from stages.algorithms.backbone import load_backbone
from stages.extract.plan import disk_order
from stages.images.decode import decode_rgb
from stages.images.resize import normalise, resize_rgb
from store import Ragged, RaggedWriter

CELLS = 169  # rows of one image: fire9 is 13 x 13
BLOCK = 16384
SHARD_ROWS, CHUNK_ROWS = 65536, 1024


def photographed_rows(folder: Path, weights: str, images: int) -> np.ndarray:
    """fire9 activations [rows, 512] float16 of photographs, flipped and cropped at random."""
    network = load_backbone("squeezenet1_1", ["features.12"], weights)
    files = [p for p in sorted(folder.rglob("*")) if p.suffix in (".jpg", ".bmp", ".png")]
    files = [p for p in files if not {"masks", "polygons", "SegmentationClass"} & set(p.parts)]
    rng = np.random.default_rng(0)
    rows = np.empty((images * CELLS, 512), np.float16)
    for start in range(0, images, 32):
        batch = []
        for number in range(start, min(start + 32, images)):
            rgb = decode_rgb(files[number % len(files)].read_bytes())
            turn = number // len(files)
            if turn % 2:
                rgb = rgb[:, ::-1]
            if turn > 1:
                h, w = (int(side * (0.6 + 0.3 * rng.random())) for side in rgb.shape[:2])
                y, x = rng.integers(rgb.shape[0] - h + 1), rng.integers(rgb.shape[1] - w + 1)
                rgb = rgb[y : y + h, x : x + w]
            pixels = resize_rgb(np.ascontiguousarray(rgb), (224, 224))
            batch.append(normalise(pixels, network.mean, network.std))
        found = network(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2))["features.12"]
        rows[start * CELLS : (start + len(batch)) * CELLS] = found.reshape(-1, 512).numpy()
    return rows


def drawn_rows(images: int, density: float, channels: int = 512) -> np.ndarray:
    """Rows of one density, without the clusters of real ones."""
    rng = np.random.default_rng(0)
    rows = np.zeros((images * CELLS, channels), np.float16)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        drawn = rng.gamma(1.5, 2.0, part.shape) * (rng.random(part.shape) < density)
        part[:] = drawn.astype(np.float16)
    return rows


@dataclass
class Encoding:
    """One way of keeping rows: its folder, and how it is read."""

    name: str
    folder: Path
    blocks: Callable[[], Iterator[Any]]
    map: Callable[[int], np.ndarray]
    scattered: Callable[[np.ndarray], Any]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def dense(name: str, folder: Path, rows: np.ndarray, **options: Any) -> Encoding:
    """A plain Zarr array of float16."""
    array = zarr.create_array(folder, shape=rows.shape, dtype=rows.dtype, **options)
    step = (options.get("shards") or (SHARD_ROWS,))[0]
    for start in range(0, len(rows), step):
        array[start : start + step] = rows[start : start + step]

    def scattered(images: np.ndarray) -> None:
        for image in images:
            array[image * CELLS : (image + 1) * CELLS]

    return Encoding(
        name,
        folder,
        lambda: (array[start : start + BLOCK] for start in range(0, len(rows), BLOCK)),
        lambda image: array[image * CELLS : (image + 1) * CELLS],
        scattered,
    )


def anndata_csr(folder: Path, rows: np.ndarray, **options: Any) -> Encoding:
    """CSR as AnnData lays it out: data, indices and indptr, three Zarr arrays."""
    group = zarr.open_group(folder, mode="w")
    matrix = scipy.sparse.csr_array(rows.astype(np.float32))
    parts = {
        "data": matrix.data.astype(np.float16),
        "indices": matrix.indices.astype(np.uint16),
        "indptr": matrix.indptr.astype(np.int64),
    }
    for name, values in parts.items():
        group.create_array(name, data=values, **options)
    data, indices, indptr = (group[name] for name in parts)
    pointers = indptr[:]

    def read(first: int, last: int) -> scipy.sparse.csr_array:
        low, high = int(pointers[first]), int(pointers[last])
        content = (
            data[low:high].astype(np.float32),
            indices[low:high].astype(np.int32),
            (pointers[first : last + 1] - low).astype(np.int32),
        )
        return scipy.sparse.csr_array(content, shape=(last - first, rows.shape[1]))

    def scattered(images: np.ndarray) -> None:
        for image in images:
            read(image * CELLS, (image + 1) * CELLS)

    return Encoding(
        "CSR as AnnData does",
        folder,
        lambda: (read(s, min(s + BLOCK, len(rows))) for s in range(0, len(rows), BLOCK)),
        lambda image: read(image * CELLS, (image + 1) * CELLS).toarray(),
        scattered,
    )


def ours(folder: Path, rows: np.ndarray, form: str) -> Encoding:
    """This store."""
    if not folder.exists():
        group = zarr.open_group(folder, mode="w", zarr_format=3)
        images = len(rows) // CELLS
        writer = RaggedWriter(
            group, np.full((images, 2), 13), np.arange(images), rows.shape[1], "f4", narrow=True
        )
        for start in range(0, len(rows), 16 * CELLS):
            writer.append(start, rows[start : start + 16 * CELLS])
        writer.close()
    ragged = Ragged.open(zarr.open_group(folder, mode="r"))
    return Encoding(
        f"this store, {form}",
        folder,
        lambda: ragged.select(range(len(ragged)), BLOCK, form).blocks(),
        ragged.map,
        lambda images: list(ragged.select(images, BLOCK, form).blocks()),
    )


def with_pipeline(encoding: Encoding, pipeline: str, name: str) -> Encoding:
    """The same files read through another of Zarr's codec pipelines."""
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        array = zarr.open_array(encoding.folder, mode="r")
    total = array.shape[0]
    return Encoding(
        name,
        encoding.folder,
        lambda: (array[start : start + BLOCK] for start in range(0, total, BLOCK)),
        lambda image: array[image * CELLS : (image + 1) * CELLS],
        lambda images: [array[i * CELLS : (i + 1) * CELLS] for i in images],
    )


def encodings(home: Path, rows: np.ndarray) -> list[Encoding]:
    width = rows.shape[1]
    sharded = {"chunks": (CHUNK_ROWS, width), "shards": (SHARD_ROWS, width)}
    zstd = [ZstdCodec(level=3), Crc32cCodec()]
    shuffled = [BloscCodec(cname="lz4", shuffle="bitshuffle"), Crc32cCodec()]
    found = [
        dense("dense, Zarr's defaults", home / "default", rows),
        dense("dense, 64 MiB shards, zstd", home / "zstd", rows, compressors=zstd, **sharded),
        dense("dense, shards, blosc", home / "blosc", rows, compressors=shuffled, **sharded),
        dense("dense, shards, raw", home / "raw", rows, compressors=None, **sharded),
        anndata_csr(home / "csr", rows),
    ]
    try:
        import zarrs  # noqa: F401  (registers its pipeline)

        path = "zarrs.ZarrsCodecPipeline"
        found.insert(1, with_pipeline(found[0], path, "  the same through zarrs"))
        found.insert(5, with_pipeline(found[4], path, "  the same through zarrs"))
    except ImportError:
        print("zarrs is not installed: left out")
    return [*found, ours(home / "ours", rows, "sparse"), ours(home / "ours", rows, "dense")]


def measure(rows: np.ndarray, label: str, runs: int) -> list[dict[str, Any]]:
    images = len(rows) // CELLS
    scattered = np.sort(np.random.default_rng(1).choice(images, images // 10, replace=False))
    with tempfile.TemporaryDirectory() as temporary:
        cases = encodings(Path(temporary), rows)
        timed = interleaved({f"{i}": lambda e=e: sum(1 for _ in e.blocks()) for i, e in
                             enumerate(cases)}, runs + 1)  # fmt: skip
        chosen = np.random.default_rng(2).choice(images, 200)
        maps = interleaved({f"{i}": lambda e=e: [e.map(int(n)) for n in chosen] for i, e in
                            enumerate(cases)}, runs)  # fmt: skip
        sets = interleaved({f"{i}": lambda e=e: e.scattered(scattered) for i, e in
                            enumerate(cases)}, runs)  # fmt: skip
        for number, encoding in enumerate(cases):  # the same rows, or no comparison
            found = np.asarray(encoding.map(images // 2)).reshape(CELLS, -1)
            middle = images // 2 * CELLS
            assert np.array_equal(found, rows[middle : middle + CELLS]), cases[number].name
        read = {name: statistics.median(times[1:]) for name, times in timed.items()}
        return [
            {
                "rows": label,
                "encoding": encoding.name,
                "bytes : dense float16": encoding.bytes / rows.nbytes,
                "read, s": read[f"{i}"],
                "GB/s of float16": rows.nbytes / read[f"{i}"] / 1e9,
                "times default": read["0"] / read[f"{i}"],
                "map, ms": 1000 * statistics.median(maps[f"{i}"]) / len(chosen),
                "set, s": statistics.median(sets[f"{i}"]),
            }
            for i, encoding in enumerate(cases)
        ]


class Overlapping:
    """As much of an index as the order on disk needs: 20 sets that overlap as VOC's classes do."""

    def __init__(self, images: int) -> None:
        rng = np.random.default_rng(0)
        shares = np.array([8.0, *rng.uniform(0.8, 2.5, 19)])  # one class is much the largest
        self.sets: dict[str, list[int]] = {f"class {i:02d}": [] for i in range(20)}
        for image in range(images):
            count = rng.choice([1, 2, 3, 4], p=[0.6, 0.25, 0.1, 0.05])
            chosen = rng.choice(20, count, replace=False, p=shares / shares.sum())
            for number in chosen:
                self.sets[f"class {number:02d}"].append(image)

    def size(self, image_id: int) -> tuple[int, int]:
        return (224, 224)


def read_sets(rows: np.ndarray, runs: int) -> list[dict[str, Any]]:
    """Reading every one of 20 overlapping sets, in our order on disk and in that of the names."""
    images = len(rows) // CELLS
    index = Overlapping(images)
    order = disk_order(index, "squash", 224)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as temporary:
        ragged = Ragged.open(
            zarr.open_group(ours(Path(temporary) / "g", rows, "sparse").folder, mode="r")
        )
        wanted = {
            "the whole, once": [np.arange(images)],
            "sets, in the order on disk": [
                np.array(order.positions(ids)) for ids in index.sets.values()
            ],
            "sets, images in order of name": [np.array(ids) for ids in index.sets.values()],
        }

        def read(chosen: list[np.ndarray]) -> None:
            for entries in chosen:
                for _ in ragged.select(entries, BLOCK, "sparse").blocks():
                    pass

        timed = interleaved({n: lambda c=c: read(c) for n, c in wanted.items()}, runs + 1)
    rates = {
        name: CELLS * sum(map(len, chosen)) / statistics.median(timed[name][1:])
        for name, chosen in wanted.items()
    }
    return [
        {
            "reading": name,
            "images": sum(map(len, chosen)),
            "runs on disk per set": float(
                np.mean([1 + int((np.diff(entries) > 1).sum()) for entries in chosen])
            ),
            "million rows/s": rates[name] / 1e6,
            "of sequential": rates[name] / rates["the whole, once"],
        }
        for name, chosen in wanted.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--squeezenet", default="", help="weights of squeezenet1_1")
    parser.add_argument("--images", type=int, default=5439)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    if chosen.photographs:
        rows = photographed_rows(chosen.photographs, chosen.squeezenet, chosen.images)
        source = "photographs"
    else:
        rows, source = drawn_rows(chosen.images, 0.064), "drawn"
    density = 100 * np.count_nonzero(rows) / rows.size
    table = measure(rows, f"{source}, {density:.1f} %", chosen.runs)
    half = drawn_rows(chosen.images // 4, 0.5)
    table += measure(half, "drawn, 50.0 %", chosen.runs)
    report("sets", "Image sets that overlap", read_sets(rows, chosen.runs), runs=chosen.runs)
    report("store", f"{len(rows)} x {rows.shape[1]} rows and {len(half)} at half density", table,
           runs=chosen.runs, images=chosen.images)  # fmt: skip


if __name__ == "__main__":
    main()
