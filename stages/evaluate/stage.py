"""evaluate: maps + ground truth -> scores, tables and plots.

Writes, all per layer, image set, k, seed and kind of maps (raw, refined):

- ``scores.parquet``: one row per factor of every annotated set: IoU, precision and accuracy with
  the object, the best part, the parts that belong to it (eq. 7, or its label) and the IoU with
  their union (eqs. 8, 9), CorLoc, border contact and compactness;
- ``coverage.parquet``: factor x region; ``labels.parquet``: IoU of labelled parts, the factors of
  one name united;
- ``partitions.parquet``: one row per factorization of every set, annotated or not: the overlap of
  its masks, and, of sets with parts, how they divide the parts (`stages.algorithms.partitions`);
- ``foreground.parquet``: the factor taken for the object, by ground truth and by shape alone, and
  the average precision of all its boxes;
- ``boxes.parquet``: the connected components of every mask (with what is certain, see
  `refine.certain`), but for specks (`least_area`), in
  pixels of its image, 0-based and half-open, with its score, the share of the image that the
  component takes, and the map's mean over it; ``detections/``: the largest ones in VOC's and
  COCO's formats;
- ``concepts.parquet``: one row per image and factor of every set, annotated or not: the name it
  has in the labels, mean and largest share, areas of the raw and refined mask as shares of the
  image, and, in pixels of the image, centroid and largest component's box of the refined one;
- ``measured.zarr``, of heat maps that are not stored: boxes, peaks, centroids and areas of their
  masks (`stages.artifacts.concept_maps`), in pixels of the maps;
- ``failures.parquet``: annotations that cannot be used, and doubtful ones that are scored;
- ``metrics.json`` (for `dvc metrics`), ``loss.csv``, ``quality.csv``, ``figure4.csv`` and
  ``choice.csv`` (for `dvc plots`), ``factors.csv`` and ``links.csv`` (`choice_tables`), each as
  Parquet beside it, too, ``artifact.json``.

The tables' columns are declared in `stages.artifacts.evaluation`.

IoU is dataset-wide (eq. 9), in per cent, at the size of the ground truth.
"""

from pathlib import Path

from stages.evaluate.needs import foretell
from stages.evaluate.params import EvaluateParams
from stages.frame.fingerprint import file_digest
from stages.frame.params import user_path
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from store import Staging


def sources(params: EvaluateParams, project: Path) -> str:
    """Digest of the labels; a file without any is as good as none."""
    from stages.naming.labels import read_labels

    path = user_path(params.labels, project)
    return file_digest(path) if read_labels(path).sets else ""


def run(params: EvaluateParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    # imported here: the other commands score nothing
    from stages.evaluate.write import write_evaluation

    write_evaluation(params, inputs, work, resources)


EVALUATE: Stage[EvaluateParams] = Stage(
    name="evaluate",
    version=11,
    params=EvaluateParams,
    reads={
        "index": Path("artifacts/index"),
        "factorize": Path("artifacts/factors.zarr"),
        "heatmaps": Path("artifacts/heatmaps.zarr"),
        "refine": Path("artifacts/refined.zarr"),
    },
    writes=Path("artifacts/evaluation"),
    run=run,
    files=("labels",),
    sources=sources,
    foretell=foretell,
)
