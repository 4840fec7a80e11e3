"""The viewer on 20,000 trajectories: the recorded runs repeated under new ids, with a rule's labels.

`srft view` runs as its own process, the index on disk. Each page is asked for over HTTP as a browser does; the median
counts, and the first and the slowest are named beside it. There is no peer: a viewer that has verdicts and weights is
not known to us.
"""

import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

import msgspec
from benchmarks.recorded_runs import NO_RUNS, recorded_runs
from benchmarks.rows import Bench, Row

from srft.critic.labels.labels import Evidence
from srft.critic.rules.rules import ToolErrorCritic
from srft.harness.run.search import FILE_NAME as SEARCH_INDEX

RUNS, QUICK_RUNS = 20_000, 2_000
ROUNDS = 10
GOAL_MS, GOAL_MB = 300.0, 500.0
SEARCHED = (
    "ValidationError",
    "import",
    "django",
    "migration",
    "TypeError",
    "separable",
    "test",
    "quantity",
    "the",
    "zzz",
)
"""In many texts, in some, in none."""


def viewer(bench: Bench) -> dict[str, Row]:
    if not (recorded := recorded_runs()):
        return {"viewer": Row(value=None, unit="ms", peer=NO_RUNS)}
    with tempfile.TemporaryDirectory(prefix="srft-bench-") as folder:
        count = QUICK_RUNS if bench.quick else RUNS
        written = write_runs(Path(folder), [run.trajectory for run in recorded], count)
        with _Server(Path(folder)) as server:  # makes the index
            first_start_s = server.start_s
        with _Server(Path(folder)) as server:
            indexed_s = server.wait_for_texts()
            index_mb = (Path(folder) / "round-000" / SEARCH_INDEX).stat().st_size / 1e6
            times = _ask(server, rounds=bench.rounds(ROUNDS))
            memory_mb = server.memory_peak_mb
    note = f"no peer; {count:,} trajectories, {written / 1e9:.1f} GB"
    rows = {
        f"viewer_{name}": Row(
            value=round(median(seconds) * 1e3, 1),
            unit="ms",
            peer=f"{note}; first {seconds[0] * 1e3:.0f}, slowest {max(seconds) * 1e3:.0f} ms",
            goal=f"<= {GOAL_MS:g} ms",
            met=median(seconds) * 1e3 <= GOAL_MS,
        )
        for name, seconds in times.items()
    }
    goal = f"<= {GOAL_MB:g} MB"
    rows["viewer_memory"] = Row(
        value=round(memory_mb, 1), unit="MB", peer=f"{note}; the peak", goal=goal, met=memory_mb <= GOAL_MB
    )
    rows["viewer_first_start"] = Row(value=round(first_start_s, 1), unit="s", peer=f"{note}; the index is made")
    rows["viewer_search_index"] = Row(
        value=round(indexed_s, 1), unit="s", peer=f"{note}; texts indexed beside the pages, {index_mb:,.0f} MB"
    )
    rows["viewer_later_start"] = Row(value=round(server.start_s, 1), unit="s", peer=f"{note}; the index is there")
    return rows


def write_runs(folder: Path, recorded: list, count: int) -> int:
    """The run directory; returns its bytes. Without fsync a line, which a collection of hours does not notice."""
    round_ = folder / "round-000"
    round_.mkdir()
    critic = ToolErrorCritic()
    written = 0
    with (round_ / "trajectories.jsonl").open("wb") as runs, (round_ / "labels.jsonl").open("wb") as labels:
        for number in range(count):
            attempt, place = divmod(number, len(recorded))
            run = msgspec.structs.replace(recorded[place], id=f"{number:016x}", attempt=attempt)
            written += runs.write(msgspec.json.encode(run) + b"\n")
            written += labels.write(msgspec.json.encode(critic.judge(run, Evidence())) + b"\n")
    return written


def _ask(server: "_Server", *, rounds: int) -> dict[str, list[float]]:
    """Name -> seconds of each round; the run that is opened is another one each time."""
    names = ("overview", "first_page", "filter", "sort_by_masked", "search", "search_phrase", "run", "version")
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        server.get("/", times["overview"])
        table = server.get("/table/round-000", times["first_page"])
        server.get("/table/round-000?outcome=unresolved&q=sympy&arm=srft", times["filter"])
        server.get(f"/table/round-000?sort=-masked&arm=srft&page={number + 1}", times["sort_by_masked"])
        # Each word another one, so that no order of an earlier round is asked for again.
        word = SEARCHED[number % len(SEARCHED)]
        server.get(f"/table/round-000?text={word}", times["search"])
        server.get(f"/table/round-000?text=%22{word}+{word}%22+or&outcome=unresolved", times["search_phrase"])
        server.get("/version", times["version"])
        links = re.findall(r'href="(/run/round-000/[^"]+)"', table)
        server.get(links[number * 7 % len(links)], times["run"])
    return times


class _Server:
    """`srft view` on a run. start_s: until it answers."""

    def __init__(self, run: Path) -> None:
        command = [sys.executable, "-m", "srft.harness.cli", "view", str(run), "--no-browser", "--port", "0"]
        began_s = time.perf_counter()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        address = self._process.stdout.readline().split()[0]
        self.start_s = time.perf_counter() - began_s
        self._address = address.partition("/?")[0]
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        self._opener.open(address).read()  # its key, for a cookie

    def wait_for_texts(self) -> float:
        """Until the texts are indexed; the seconds since the start."""
        began_s = time.perf_counter()
        while "are being indexed" in self.get("/table/round-000?text=zzz", []):
            time.sleep(0.5)
        return time.perf_counter() - began_s + self.start_s

    def get(self, address: str, times: list[float]) -> str:
        began_s = time.perf_counter()
        with self._opener.open(self._address + address.replace("&amp;", "&")) as answer:
            content: str = answer.read().decode()
        times.append(time.perf_counter() - began_s)
        return content

    @property
    def memory_peak_mb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]

    def __enter__(self) -> "_Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
