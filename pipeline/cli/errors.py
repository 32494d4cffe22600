"""What a user can cause and mend: one line and exit code 1. All else keeps its traceback."""

from pipeline.dvc import DvcError
from pipeline.params import ParamsError
from pipeline.resources import ResourceError
from stages.datasets import DatasetError
from stages.frame.errors import StageError
from store import StoreError

USER_ERRORS = (
    DatasetError,
    DvcError,
    ParamsError,
    ResourceError,
    StageError,
    StoreError,
)
