"""The one door to Dask: a stage's work on the workers of a scheduler, wherever they are.

Dask brings scheduling, transport and retries. What a stage must know to be right is here:

- A task is pure: its arguments and the store decide its result, so what a lost worker had is done
  again by another. Nothing is put on workers but by tasks (`scatter` would not survive them).
- A worker whose code is another is refused by its digest.
- What a person must mend comes as one line, once; what may pass (a service that does not answer) is
  tried again by Dask.
"""

from stages.frame.cluster.start import check_cluster, clustered, local_cluster
from stages.frame.cluster.tasks import FORGETTING, own_address, own_memory
from stages.frame.cluster.work import Call, Cluster, Shared, Task

RECORD = "cluster.json"  # in a stage's scratch: what `dff status` says of the workers

__all__ = [
    "FORGETTING",
    "RECORD",
    "Call",
    "Cluster",
    "Shared",
    "Task",
    "check_cluster",
    "clustered",
    "local_cluster",
    "own_address",
    "own_memory",
]
