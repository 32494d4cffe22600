"""Run `dff STAGE` in a process of its own that can be killed at any checkpoint or instant.

One server process imports everything once and forks for each run: starting Python with torch
takes seconds, a fork milliseconds. It has run no arithmetic, so there are no threads to lose.
"""

from pathlib import Path

from server import Server

SERVER = """
import importlib, os, signal, sys, time
from pathlib import Path
import pipeline.cli, stages.maps.write, stages.extract.stage, stages.extract.stream
import stages.factorize.stage, store.writer
# what stages import only when they run: seconds that a fork need not spend again
import filelock, numba, pandas, psutil, pyarrow.dataset, pyarrow.parquet, pydantic, skimage.measure
import scipy.stats, torchvision, zarr
from numba.core.registry import cpu_target
from PIL import Image
import stages.algorithms.backbone, stages.algorithms.nmf, stages.algorithms.mask_passes
import stages.algorithms.nmf.kernels.vector, stages.algorithms.interpolation_kernels
import stages.algorithms.inference.loop, stages.algorithms.apart, stages.algorithms.mean_field
import stages.algorithms.guided_filter, store.codec, store.smooth
from store.layout import Layout

os.fsync = os.fstat  # as in tests/conftest.py: what is killed is a process, not the machine
Image.init()  # its plugins, and what Numba loads with the first function
cpu_target.target_context.refresh()
cpu_target.typing_context.refresh()

staging = importlib.import_module("store.publication")
# shards of a few rows, so that there are many checkpoints on small images
ROWS = {"extract": 98, "factorize": 120, "heatmaps": 6000, "refine": 6000}

def run(stage, die_at, pause):
    rows = ROWS.get(stage, 100)
    layout = lambda *a, **k: Layout(rows // 2, rows)
    for module in (store.writer, stages.maps.write, stages.extract.stage):
        module.plan_layout = layout
    index = stages.artifacts.image_index.ImageIndex
    decode = index.rgb_at
    # decoding takes a while, so that a random instant mostly finds the network at work
    index.rgb_at = lambda *given: (time.sleep(pause), decode(*given))[1]
    states = stages.factorize.states
    states.SECONDS = 0  # every state goes to disk
    save = states.States._write
    states.States._write = lambda *state: (time.sleep(pause), save(*state))[1]
    replacing, count = staging.replacing, 0
    def dying(path):
        nonlocal count
        count += 1
        if count == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return replacing(path)
    staging.replacing = states.replacing = dying
    # all of it is computed: an earlier extraction leaves little to be killed in
    sys.argv = ["dff", stage, *(["--no-reuse"] if stage == "extract" else [])]
    log = os.open(f"{stage}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    pipeline.cli.main()

for line in sys.stdin:
    folder, stage, die_at, die_after, pause = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        code = 1
        try:
            run(stage, int(die_at), float(pause))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if float(die_after):
        time.sleep(float(die_after))
        os.kill(child, signal.SIGKILL)  # a child that has ended is still to be waited for
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Killable(Server):
    """A context in which stages can be run and killed."""

    def __init__(self) -> None:
        super().__init__(SERVER)

    def run(
        self,
        project: Path,
        stage: str,
        die_at: int = 0,
        die_after: float = 0,
        pause: float = 0,
    ) -> tuple[int, str]:
        """Exit code (-9: killed) and output of one run.

        It dies at its `die_at`-th checkpoint, or after so many seconds, wherever it is.
        `pause` are seconds that extract waits at each image, and factorize after each pass.
        """
        code = int(self.ask(f"{project}\t{stage}\t{die_at}\t{die_after}\t{pause}"))
        return code, (project / f"{stage}.log").read_text()
