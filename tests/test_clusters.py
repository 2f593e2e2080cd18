"""Sweeps on other processes and on a real dask scheduler: the same numbers, whoever is killed.

Every process here is real: a scheduler and workers over loopback TCP, pools by ``spawn``, drivers
in interpreters of their own. Who dies when is settled by gates (files), never by the clock.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import Everybody, OneByOne, make_link, make_task

import rralloc as rr
from rralloc.problems import WaterFilling

TESTS = Path(__file__).parent
PATIENCE = 60.0
"""Seconds after which a process that does not come is a failure, not a hang."""

# What a user's own module would be: jobs that leave marks, wait at gates and die on demand.
GUESTS = '''
import os
import time
from dataclasses import dataclass
from pathlib import Path

import toys
from rralloc.solver import Solver


def step_in(folder, name):
    """Note who works on what; die or wait where the folder says so."""
    folder = Path(folder)
    with (folder / "log").open("a") as log:
        log.write(f"{name} {os.getpid()}\\n")
    if (folder / f"fatal-{name}").exists():
        os._exit(1)
    deadline = time.monotonic() + 60
    if (folder / f"shut-{name}").exists():
        (folder / f"writing-{name}").write_text(str(os.getpid()))
        (folder / f"writing-{name}").rename(folder / f"inside-{name}")
    while (folder / f"shut-{name}").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(name)
        time.sleep(0.01)


class Marked(Solver):
    """Equal powers, after leaving a mark; the whole number of watts is the job's name."""

    name = "marked"
    rank = 1000
    folder: str

    def solve(self, problem, start, run):
        step_in(self.folder, int(problem.power_budget_w.min()))
        run.offer(problem.points()["equal"]())


class Held(Solver):
    """Equal powers from a solver that holds what cannot be pickled."""

    name = "held"
    rank = 1000
    lock: object

    def solve(self, problem, start, run):
        run.offer(problem.points()["equal"]())


@dataclass(frozen=True)
class Gated(toys.OneByOne):
    """One device after another; marks every training."""

    name: str = "gated"
    folder: str = ""

    def start(self, round, rng):
        step_in(self.folder, self.name)


def make_task(seed):
    return toys.make_task(seed)


def make_link(seed):
    return toys.make_link(seed)
'''

DRIVER = """
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import cluster_guests

import rralloc as rr
from rralloc.problems import WaterFilling

kind, where, folder, path = sys.argv[1:]


def main(executor):
    problems = {
        str(n): WaterFilling.random(K=4, batch=2, rng=n, power_budget_w=n) for n in range(1, 9)
    }
    marked = cluster_guests.Marked(folder=folder)
    table = rr.compare(problems, ["level", marked], executor=executor, path=path)
    print(json.dumps([vars(row) for row in table.rows]))


if __name__ == "__main__":
    if kind == "dask":
        from distributed import Client

        with Client(where, set_as_default=False) as client:
            main(client.get_executor(pure=False))
    else:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            main(pool)
"""


def until(true: Callable[[], Any], what: str, over: Callable[[], Any] = lambda: False) -> None:
    """Wait for a condition; no longer than what is waited for can still come."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not over():
        if true():
            return
        time.sleep(0.01)
    raise TimeoutError(what)


class Cluster:
    """A scheduler and workers of our own, each a process that can be killed."""

    def __init__(self, folder: Path, guests: Path, **settings: str) -> None:
        self.folder = folder
        path = [str(guests), str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
        self.environment = {
            **os.environ,
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s",  # how long the dead are called
            **settings,
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.client: Any = None

    def start(self, workers: int) -> Any:
        """The client, once all are there."""
        from distributed import Client

        told = self.folder / "scheduler.json"
        self._run("scheduler", "--port", "0", "--idle-timeout", "300", "--scheduler-file", told)
        until(lambda: told.exists() and told.read_text().endswith("}"), "no scheduler")
        self.address = json.loads(told.read_text())["address"]
        self.client = Client(self.address, timeout=PATIENCE, set_as_default=False)
        self.grow(workers)
        return self.client

    def grow(self, workers: int) -> None:
        """Start what is missing; a nanny would revive whom we kill."""
        alive = len(self.client.scheduler_info(n_workers=-1)["workers"])
        for _ in range(workers - alive):
            settings = ("--nthreads", "1", "--no-nanny", "--local-directory", self.folder / "dask")
            self._run("worker", self.address, *settings, "--death-timeout", "60")
        self.client.wait_for_workers(workers, timeout=PATIENCE)

    def _run(self, role: str, *words: object) -> None:
        command = [sys.executable, "-m", "dask", role, *map(str, words)]
        command += ["--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        with (self.folder / "dask.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
            )

    def stop(self) -> None:
        """Client first, so that it does not look for a scheduler that is gone; no process stays."""
        try:
            if self.client is not None:
                self.client.close()
        finally:
            for process in self.processes:  # asked politely, a worker may take its time to end
                process.kill()
                process.wait()


@contextlib.contextmanager
def running(folder: Path, workers: int, guests: Path, **settings: str) -> Iterator[Cluster]:
    cluster = Cluster(folder, guests, **settings)
    try:
        cluster.start(workers)
        yield cluster
    finally:
        cluster.stop()
    assert all(process.poll() is not None for process in cluster.processes)


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the guests' module, importable here and in every process started from here."""
    folder = tmp_path_factory.mktemp("guests")
    (folder / "cluster_guests.py").write_text(GUESTS)
    (folder / "driver.py").write_text(DRIVER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        yield folder
    sys.modules.pop("cluster_guests", None)


@pytest.fixture(scope="module")
def cluster(guests: Path) -> Iterator[Cluster]:
    with running(guests, 2, guests) as found:
        yield found


@pytest.fixture
def dask(cluster: Cluster) -> Any:
    """An executor on two workers. ``pure=False``: equal jobs are two jobs."""
    cluster.grow(2)
    return cluster.client.get_executor(pure=False)


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    folder = tmp_path / "gates"
    folder.mkdir()
    (folder / "log").touch()
    return folder


def spawned(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def guest(name: str, **settings: Any) -> Any:
    return guest_function(name)(**settings)


def guest_function(name: str) -> Any:
    return getattr(importlib.import_module("cluster_guests"), name)


def watered(count: int = 8) -> dict[str, WaterFilling]:
    """Small batches; the budget in watts tells which."""
    return {
        str(n): WaterFilling.random(K=4, batch=2, rng=n, power_budget_w=n)
        for n in range(1, count + 1)
    }


def plain(rows: list[Any]) -> list[dict[str, Any]]:
    """Rows without what the clock said."""
    named = [row if isinstance(row, dict) else vars(row) for row in rows]
    return [
        {k: None if v != v else v for k, v in row.items() if not k.endswith("seconds")}
        for row in named
    ]


def lines(path: Path) -> list[tuple[Any, ...]]:
    """What the file holds: problem, settings, first instance; a kill may cut a line short."""
    found = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            read = json.loads(line)
            found.append((read["digest"], read["settings"], read["first"]))
    return found


def logged(gates: Path) -> list[str]:
    return [line.split()[0] for line in (gates / "log").read_text().splitlines()]


@contextlib.contextmanager
def meanwhile(action: Callable[..., None], *args: Any) -> Iterator[None]:
    """Do something while the sweep runs, told by ``over`` when it ended; its failure is ours."""
    trouble: list[BaseException] = []
    ended = threading.Event()

    def guarded() -> None:
        try:
            action(*args, ended.is_set)
        except BaseException as why:
            trouble.append(why)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not trouble, trouble[0]


def kill_inside(gates: Path, name: str, over: Callable[[], bool]) -> None:
    """SIGKILL the process that waits at a gate, then open the gate for whoever comes next."""
    inside = gates / f"inside-{name}"
    until(inside.exists, name, over)
    time.sleep(0.2)  # a result on its way would be asked of the dead for some seconds, then redone
    os.kill(int(inside.read_text()), signal.SIGKILL)
    (gates / f"shut-{name}").unlink()


def same_runs(one: Any, two: Any) -> None:
    assert list(one.runs) == list(two.runs)
    assert one.seeds == two.seeds
    for name, runs in one.runs.items():
        for a, b in zip(runs, two.runs[name], strict=True):
            assert (a.policy, a.seed) == (b.policy, b.seed)
            for curve in ("accuracy", "loss", "seconds", "joules", "bits"):
                np.testing.assert_array_equal(getattr(a, curve), getattr(b, curve))


# -- the same numbers everywhere -----------------------------------------------------------------


def test_dask_gives_the_same_table(dask: Any, tmp_path: Path) -> None:
    names = ["closed-form", "level", "sca", "baseline:equal"]
    here = rr.compare(watered(), names)
    there = rr.compare(watered(), names, executor=dask, path=tmp_path / "rows.jsonl")
    assert plain(there.rows) == plain(here.rows)
    assert len(set(lines(tmp_path / "rows.jsonl"))) == 32


def test_what_cannot_travel_is_a_row(dask: Any) -> None:
    """Here it runs; a pool and dask cannot send it, which harms nobody else's row."""
    solvers = [guest("Held", lock=threading.Lock()), "level"]
    here = rr.compare(watered(2), solvers).rows
    assert all(row.solved == 2 for row in here)
    with spawned(1) as pool:
        for executor in (pool, dask):
            there = rr.compare(watered(2), solvers, executor=executor).rows
            assert [row.solved for row in there] == [0, 2, 0, 2]
            for row in (there[0], there[2]):
                assert row.stopped == "not run"
                assert row.message.startswith("failed: ")
                assert "TypeError" in row.message
            assert [row.objective for row in there[1::2]] == [row.objective for row in here[1::2]]


def test_dask_gives_the_same_training(dask: Any, tmp_path: Path) -> None:
    policies = {"all": Everybody(), "turns": OneByOne()}
    here = rr.fl.compare(make_task, make_link, policies, range(3), rounds=3)
    there = rr.fl.compare(
        make_task, make_link, policies, range(3), rounds=3, executor=dask, path=tmp_path
    )
    same_runs(here, there)
    assert len(list(tmp_path.glob("*.nc"))) == 6


# -- a worker dies -------------------------------------------------------------------------------


def test_a_killed_dask_worker_loses_nothing(dask: Any, gates: Path, tmp_path: Path) -> None:
    solvers = ["level", guest("Marked", folder=str(gates))]
    here = plain(rr.compare(watered(), solvers).rows)
    (gates / "log").write_text("")
    (gates / "shut-3").touch()
    path = tmp_path / "rows.jsonl"
    with meanwhile(kill_inside, gates, "3"):
        there = rr.compare(watered(), solvers, executor=dask, path=path)
    assert plain(there.rows) == here
    assert len(lines(path)) == len(set(lines(path))) == 16
    assert logged(gates).count("3") == 2  # by the dead and by the living
    again = rr.compare(watered(), solvers, executor=dask, path=path)
    assert plain(again.rows) == here
    assert logged(gates).count("3") == 2


def test_a_killed_dask_worker_loses_no_training(dask: Any, gates: Path, tmp_path: Path) -> None:
    policies = {"all": Everybody(), "gated": guest("Gated", folder=str(gates))}
    makers = [guest_function("make_task"), guest_function("make_link")]
    here = rr.fl.compare(*makers, policies, range(3), rounds=3)
    (gates / "shut-gated").touch()
    with meanwhile(kill_inside, gates, "gated"):
        there = rr.fl.compare(
            *makers, policies, range(3), rounds=3, executor=dask, path=tmp_path / "runs"
        )
    same_runs(here, there)
    assert len(list((tmp_path / "runs").iterdir())) == 6


def test_parts_of_a_batch_survive_a_killed_dask_worker(
    dask: Any, gates: Path, tmp_path: Path
) -> None:
    """The part that begins with the 31st of 100 instances kills; every part is one line."""
    batch = WaterFilling.random(K=4, batch=100, rng=0, power_budget_w=1.0 + np.arange(100))
    solvers = ["level", guest("Marked", folder=str(gates))]
    here = rr.compare(batch, solvers)
    (gates / "shut-31").touch()
    path = tmp_path / "parts.jsonl"
    with meanwhile(kill_inside, gates, "31"):
        there = rr.compare(batch, solvers, executor=dask, path=path, chunk=15)
    assert sorted(lines(path)) == sorted(set(lines(path)))
    firsts = [first for _, settings, first in lines(path) if settings.startswith("marked")]
    assert sorted(firsts) == [0, 15, 30, 45, 60, 75, 90]
    assert logged(gates).count("31") == 2
    whole = {row.solver: row for row in here.rows}
    for row in there.rows:
        assert (row.instances, row.solved) == (100, 100)
        assert row.objective == pytest.approx(whole[row.solver].objective, rel=1e-14)
    parts = rr.compare(batch, solvers, chunk=15)
    assert plain(there.rows) == plain(parts.rows)


def test_a_job_that_kills_its_dask_worker_is_a_row(
    guests: Path, gates: Path, tmp_path: Path
) -> None:
    """Dask gives up on it (here at once, by default after four workers); the next call tries it."""
    (gates / "fatal-1").touch()
    path = tmp_path / "rows.jsonl"
    marked = guest("Marked", folder=str(gates))
    with running(tmp_path, 2, guests, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as cluster:
        executor = cluster.client.get_executor(pure=False)
        (lost,) = rr.compare(watered(1), [marked], executor=executor, path=path).rows
        assert (lost.solved, lost.stopped) == (0, "not run")
        assert "KilledWorker" in lost.message
        (gates / "fatal-1").unlink()
        found = rr.compare(watered(), [marked], executor=executor, path=path)
    assert plain(found.rows) == plain(rr.compare(watered(), [marked]).rows)
    assert len(lines(path)) == len(set(lines(path))) == 8


def test_a_lost_scheduler_loses_nothing_written(guests: Path, gates: Path, tmp_path: Path) -> None:
    """What was not done becomes rows that say so; the next call does it."""
    (gates / "shut-5").touch()
    path = tmp_path / "rows.jsonl"
    solvers = [guest("Marked", folder=str(gates))]
    with running(tmp_path, 1, guests) as cluster:

        def kill(over: Callable[[], bool]) -> None:
            until((gates / "inside-5").exists, "5", over)
            until(lambda: path.exists() and len(lines(path)) == 4, "four lines", over)
            cluster.processes[0].kill()
            (gates / "shut-5").unlink()

        with meanwhile(kill):
            found = rr.compare(
                watered(), solvers, executor=cluster.client.get_executor(pure=False), path=path
            )
    lost = [row for row in found.rows if not row.solved]
    assert {row.stopped for row in lost} == {"not run"}
    assert all(row.message.startswith("failed: lost") for row in lost)
    assert len(lines(path)) == 8 - len(lost) == 4
    again = rr.compare(watered(), solvers, path=path)
    assert len(lines(path)) == 8
    assert plain(again.rows) == plain(rr.compare(watered(), solvers).rows)


# -- a pool breaks -------------------------------------------------------------------------------


def test_a_broken_pool_loses_nothing_written(guests: Path, gates: Path, tmp_path: Path) -> None:
    """A pool ends with its worker: the rest are rows that say so, done by the next call."""
    path = tmp_path / "rows.jsonl"
    solvers = ["level", guest("Marked", folder=str(gates))]
    (gates / "shut-3").touch()
    (gates / "fatal-4").touch()
    with spawned(1) as pool:
        # The pool's only worker takes jobs in their order; what the third waits for is written.
        def release(over: Callable[[], bool]) -> None:
            until((gates / "inside-3").exists, "3", over)
            until(lambda: path.exists() and len(lines(path)) == 5, "five lines", over)
            (gates / "shut-3").unlink()

        with meanwhile(release):
            broken = rr.compare(watered(), solvers, executor=pool, path=path)
    lost = [row for row in broken.rows if not row.solved]
    assert {row.stopped for row in lost} == {"not run"}
    assert all("BrokenProcessPool" in row.message for row in lost)
    assert 5 <= len(lines(path)) == 16 - len(lost) <= 7  # the last two may be lost on their way
    before = lines(path)
    (gates / "fatal-4").unlink()
    (gates / "log").write_text("")
    with spawned(1) as pool:
        found = rr.compare(watered(), solvers, executor=pool, path=path)
    assert lines(path)[: len(before)] == before
    assert len(lines(path)) == len(set(lines(path))) == 16
    marked = {digest for digest, settings, _ in before if settings.startswith("marked")}
    assert logged(gates) == [n for n, p in watered().items() if p.digest not in marked]
    assert plain(found.rows) == plain(rr.compare(watered(), solvers).rows)


def test_a_broken_pool_loses_no_finished_training(
    guests: Path, gates: Path, tmp_path: Path
) -> None:
    """Training says that the pool broke; runs that ended are on disk and not trained again."""
    policies = {"all": Everybody(), "gated": guest("Gated", folder=str(gates))}
    makers = [guest_function("make_task"), guest_function("make_link")]
    (gates / "fatal-gated").touch()
    settings = {"rounds": 3, "path": tmp_path / "runs"}
    with spawned(1) as pool, pytest.raises(BrokenProcessPool):
        rr.fl.compare(*makers, policies, range(3), executor=pool, **settings)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").iterdir()}
    assert len(kept) == 3
    (gates / "fatal-gated").unlink()
    found = rr.fl.compare(*makers, policies, range(3), **settings)
    assert len(list((tmp_path / "runs").iterdir())) == 6
    assert kept == {file: file.stat().st_mtime_ns for file in kept}
    same_runs(rr.fl.compare(*makers, policies, range(3), rounds=3), found)


# -- the driver dies -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dask", "pool"])
def test_a_killed_driver_is_resumed(
    kind: str, cluster: Cluster, guests: Path, gates: Path, tmp_path: Path
) -> None:
    cluster.grow(2)
    path = tmp_path / "rows.jsonl"
    words = [kind, cluster.address, str(gates), str(path)]
    command = [sys.executable, str(guests / "driver.py"), *words]
    (gates / "shut-5").touch()
    (gates / "shut-7").touch()
    # A batch system ends the whole job, workers of a pool too: a session of its own.
    with subprocess.Popen(
        command, env=cluster.environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as first:
        try:
            for gate in ("5", "7"):
                until((gates / f"inside-{gate}").exists, gate, lambda: first.poll() is not None)
            until(
                lambda: path.exists() and len(lines(path)) >= 8,
                "eight lines",
                lambda: first.poll() is not None,
            )
        finally:
            os.killpg(first.pid, signal.SIGKILL)
    (gates / "shut-5").unlink()
    (gates / "shut-7").unlink()
    until(lambda: not any(cluster.client.processing().values()), "idle workers")
    before = lines(path)
    assert len(before) <= 14
    (gates / "log").write_text("")
    solvers = ["level", guest("Marked", folder=str(gates))]
    if kind == "dask":
        second = subprocess.run(
            command, env=cluster.environment, stdout=subprocess.PIPE, check=True, timeout=PATIENCE
        )
        resumed = plain(json.loads(second.stdout))
    else:  # who began does not matter: what a pool left is done here, in one process
        resumed = plain(rr.compare(watered(), solvers, path=path).rows)
    after = lines(path)
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == 16
    marked = {digest for digest, settings, _ in before if settings.startswith("marked")}
    missing = sorted(n for n, p in watered().items() if p.digest not in marked)
    assert sorted(logged(gates)) == missing
    assert resumed == plain(rr.compare(watered(), solvers).rows)
