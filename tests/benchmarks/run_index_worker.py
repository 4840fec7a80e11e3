"""One reading of a run, in a process of its own: prints seconds and the peak of memory in MB.

Works with srft as it is and as it was before it had an index.
"""

import sys
import time
from pathlib import Path

from loguru import logger


def main(what: str, folder: Path) -> None:
    logger.remove()
    from srft.harness.facts import read_report
    from srft.harness.look.show import find_run
    from srft.harness.run.store import Round

    round_ = Round(folder / "round-000")
    began_s = time.perf_counter()
    if what == "report":
        read_report(folder)
    elif what == "show":
        find_run(folder, f"{1000:016x}")
    elif hasattr(round_, "index"):
        assert {episode: run.stop_reason for episode, run in round_.index().episodes.items()}
    else:
        assert {(run.task_id, run.attempt): run.stop_reason for run in round_.outlines.read()}
    seconds = time.perf_counter() - began_s
    status = Path("/proc/self/status").read_text()  # getrusage would count what the parent had before exec
    peak_kb = int(status.partition("VmHWM:")[2].split()[0])
    print(f"{seconds:.3f} {peak_kb / 1024:.1f}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
