"""The formats of `dff export`: the registry that a new one joins."""

from collections.abc import Mapping

from stages.export.coco import Coco
from stages.export.exporter import Exporter
from stages.export.labelme import Labelme
from stages.export.masks import Masks
from stages.export.tables import Tables
from stages.export.voc import Voc
from stages.export.yolo import Yolo

EXPORTERS: Mapping[str, type[Exporter]] = {
    "coco": Coco,
    "yolo": Yolo,
    "voc": Voc,
    "labelme": Labelme,
    "masks": Masks,
    "csv": Tables,
}
