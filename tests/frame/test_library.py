"""The instance library: what its files hold, and that ``certify`` catches every kind of lie."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rralloc as rr
from rralloc import io, library, registry
from rralloc.cli import main
from rralloc.errors import ScenarioError
from rralloc.library import Claim, Instance, Method, Verdict, check, check_file, load_instance

FOLDER = Path(__file__).parents[2] / "library"
ALL = {i.name: i for i in library.load(FOLDER)}
PARTS = {"FrozenPhases", "FrozenSet", "WMMSESurrogate", "DinkelbachSurrogate"} | {
    "SINRProductSurrogate"
}
"""Steps of an algorithm, made at its iterates; they are no scenarios of their own."""
QUICK = (
    *("waterfilling-plain", "mads-integer", "sumrate-strong", "otaselection-six-antennas"),
    *("otabound-two-antennas", "spfl-unbiased-common", "minmaxlatency-dead-device"),
    *("sumrate-promises-too-high", "mads-priceless", "otaselectionimperfect-four-antennas"),
)


# -- what is there ---------------------------------------------------------------------------------


def test_every_problem_has_its_instances() -> None:
    covered = {type(i.problem).__name__ for i in ALL.values()}
    public = {
        n for n, c in registry.problem_classes().items() if c.__module__.startswith("rralloc")
    }
    assert public - PARTS <= covered


def test_instances_are_small_distinct_and_say_why_they_are_there() -> None:
    assert len(ALL) >= 90
    assert len({i.problem for i in ALL.values()}) == len(ALL)
    for name, instance in ALL.items():
        assert (FOLDER / f"{name}.json").stat().st_size < 60_000
        assert instance.size <= 20
        assert name.startswith(f"{type(instance.problem).__name__.lower()}-")
        assert instance.why.endswith(".")
        assert name in instance.made_by


def test_regimes_that_break_solvers_are_there() -> None:
    regimes = [i.regime for i in ALL.values()]
    for regime, least in {"20 orders": 10, "starved": 9, "degenerate": 20, "infeasible": 7}.items():
        assert sum(regime in r for r in regimes) >= least, regime
    spfl = [i.problem for i in ALL.values() if isinstance(i.problem, rr.problems.SPFL)]
    kinds = {(p.criterion, p.fading) for p in spfl}
    assert len(kinds) == 8


def test_stored_optima_are_those_of_the_specification() -> None:
    published = {
        "spfl-unbiased-independent": 0.4272094469,
        "spfl-unbiased-common": 0.2315190635,
        "spfl-sign-unbiased-independent": 0.2222152174,
        "spfl-sign-unbiased-common": 0.1673599640,
        "spfl-plain-independent": 0.3910698873,
        "spfl-plain-common": 0.3651667659,
        "spfl-plain-independent-20": 0.5191350079,
        "spfl-optimal-scaling-common": 0.1615753927,
        "spfl-optimal-scaling-independent": 0.2183781603,
        "spfl-optimal-scaling-common-20": 0.1705675857,
        "spfl-plain-alone": 0.45189479,
        "madshorizon-80-rounds": 33766.6250108184,
        "minmaxlatency-plain": 0.6883072809,
        "taucontrol-plain": 5.853130759,
        "sumrate-dccp37": 4.68603536,
        "mads-race-to-sleep": 11.98358695,
    }
    for name, value in published.items():
        assert ALL[name].claim.objective == pytest.approx(value, rel=3e-8), name


def test_files_read_back_bit_for_bit() -> None:
    for name, instance in ALL.items():
        again = library.from_dict(name, json.loads(io.dumps(library.to_dict(instance))))
        assert again.problem == instance.problem
        assert library.to_dict(again) == library.to_dict(instance)
        document = io.read_json(FOLDER / f"{name}.json")
        assert document == library.to_dict(instance)


# -- checks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUICK)
def test_a_sound_instance_is_certified(name: str) -> None:
    verdict = check(ALL[name])
    assert verdict.regressions == ()
    assert verdict.news == ()
    assert verdict.certified
    assert verdict.gap <= (1e-9 if ALL[name].convex else 1e-3)


def changed(name: str, change: Any, folder: Path) -> Path:
    """A copy of an instance's file with ``change`` applied to its document."""
    document = json.loads((FOLDER / f"{name}.json").read_text())
    change(document)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document))
    return path


def _set(*keys: str, to: Any) -> Any:
    def change(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return change


LIES = {
    "point": (
        "waterfilling-plain",
        _set("best", "x", "power_w", to=[2.0, 1.1, 0.5, 0.0]),
        r"feasible is claimed, the violation is 0\.2",
    ),
    "objective": (
        "waterfilling-plain",
        _set("best", "objective", to=3.3465),
        r"objective 3\.3465 is claimed, the point has 3\.34643",
    ),
    "scenario": (
        "waterfilling-plain",
        _set("scenario", "data", "power_budget_w", to=3.5),
        r"digest: the document says",
    ),
    "bound": (
        "spfl-plain-common",
        lambda d: d["best"].update(bound=d["best"]["objective"], gap=0.0),
        r"bound .* is claimed, .* is what can be proven",
    ),
    "bound past the objective": (
        "waterfilling-plain",
        _set("best", "bound", to=3.0),
        r"better than the claimed bound",
    ),
    "gap": ("waterfilling-plain", _set("best", "gap", to=1e-3), r"gap 0\.001 is claimed"),
    "status": (
        "spfl-unbiased-poor-compensation",
        _set("best", "status", to="global"),
        r"global is claimed, the proven gap is nan",
    ),
    "default": (
        "waterfilling-plain",
        _set("best", "default", "objective", to=3.4),
        r"the default solver closed-form reaches 3\.346.*; it reached 3\.4",
    ),
    "infeasible": (
        "mads-integer",
        _set("best", to={"status": "infeasible", "reason": "so they say"}),
        r"infeasible is claimed; closed-form has a feasible point",
    ),
    "prover": (
        "sumrate-strong",
        _set("best", "prove", "settings", to={"cells": 10}),
        r"is what can be proven",
    ),
    "class": ("mads-integer", _set("class", "problem", to="SPFL"), r"is another problem"),
    "schema": (
        "mads-integer",
        _set("schema", to="rralloc/result/1"),
        r'where "rralloc/instance/1"',
    ),
    "field": ("mads-integer", lambda d: d.pop("why"), r"why is missing"),
    "shape": (
        "mads-integer",
        lambda d: d["best"]["x"]["kept"].pop(),
        r"best\.x\.kept: shape \(7,\), but the scenario asks for \(8,\)",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_a_regression_that_says_what_is_wrong(lie: str, tmp_path: Path) -> None:
    name, change, words = LIES[lie]
    verdict = check_file(changed(name, change, tmp_path))
    assert not verdict.ok
    assert not verdict.certified
    assert any(_search(words, r) for r in verdict.regressions), verdict.regressions


def _search(words: str, text: str) -> bool:
    import re

    return re.search(words, text) is not None


def test_a_point_for_an_infeasible_instance_is_a_lie(tmp_path: Path) -> None:
    problem = ALL["minmaxlatency-dead-device"].problem
    x = {"bandwidth_hz": np.full(4, 2.5e5)}
    value = float(problem.objective(x))
    claim = Claim(x, value, float("nan"), float("nan"), rr.Status.FEASIBLE)
    words = "feasible is claimed"
    assert any(words in w for w in library.judge(problem, claim))


def test_a_better_point_is_news_and_no_failure(tmp_path: Path) -> None:
    """The file holds equal power; the solver finds water-filling."""

    def poorer(document: dict[str, Any]) -> None:
        problem = ALL["waterfilling-plain"].problem
        x = np.full(4, 0.75)
        value, bound = float(problem.objective({"power_w": x})), document["best"]["bound"]
        document["best"] |= {"x": {"power_w": x.tolist()}, "objective": value}
        document["best"] |= {"gap": 1 - value / bound, "status": "feasible"}
        witness = rr.solve(problem).duals["water_level_w"]
        document["best"]["witness"] = {"water_level_w": float(witness)}

    verdict = check_file(changed("waterfilling-plain", poorer, tmp_path))
    assert verdict.ok
    assert not verdict.certified  # a convex instance with a gap
    assert "reaches 3.3464316" in verdict.news[0]


def test_a_solver_that_breaks_is_a_row(tmp_path: Path) -> None:
    def unknown(document: dict[str, Any]) -> None:
        document["best"]["prove"] = {"solver": "oracle", "settings": {}}

    verdict = check_file(changed("mads-integer", unknown, tmp_path))
    assert not verdict.ok
    assert "no solver is named 'oracle'" in verdict.regressions[0]
    assert "No such file" in check_file(tmp_path / "nothing.json").regressions[0]


def test_files_may_be_checked_elsewhere() -> None:
    paths = [FOLDER / f"{n}.json" for n in QUICK[:3]]
    with ThreadPoolExecutor(2) as executor:
        verdicts = library.check_all(paths, executor=executor)
    assert [v.name for v in verdicts] == list(QUICK[:3])
    assert all(v.certified for v in verdicts)


def test_shares_count_what_they_promise() -> None:
    small, convex = "not convex, K <= 8", "convex"
    verdicts = [Verdict(str(i), convex, certified=i > 0) for i in range(20)]
    verdicts += [Verdict(str(i), small, certified=i > 1) for i in range(10)]
    verdicts += [Verdict("big", "not convex, larger"), Verdict("none", "infeasible")]
    assert library.shares(verdicts)[convex] == (19, 20)
    (short,) = library.shortfalls(verdicts)
    assert short == "not convex, K <= 8: 8 of 10 certified, 90% promised"
    assert library.shortfalls(verdicts[:20]) == []
    assert library.shortfalls([Verdict("x", convex)]) != []


def test_size_and_convexity_decide_what_is_promised() -> None:
    kinds = {n: ALL[n].kind for n in ("waterfilling-plain", "sumrate-ten", "sumrate-six")}
    assert kinds == {
        "waterfilling-plain": "convex",
        "sumrate-ten": "not convex, larger",
        "sumrate-six": "not convex, K <= 8",
    }
    assert ALL["minmaxlatency-dead-device"].kind == "infeasible"
    assert ALL["minmaxlatency-dead-device"].infeasible


# -- commands --------------------------------------------------------------------------------------


def test_certify_passes_and_fails(tmp_path: Path, capsys: Any) -> None:
    for name in QUICK[:3]:
        shutil.copy(FOLDER / f"{name}.json", tmp_path)
    assert main(["certify", str(tmp_path), "--jobs", "1", "--all"]) == 0
    out = capsys.readouterr().out
    assert "3 instances" in out
    assert "0 regressions" in out
    assert "1 of   1 certified (100.0%)" in out
    assert "ok   waterfilling-plain" in out
    changed("waterfilling-plain", LIES["point"][1], tmp_path)
    assert main(["certify", str(tmp_path), "--jobs", "1"]) == 1
    out = capsys.readouterr().out
    assert "BAD  waterfilling-plain" in out
    assert "regression: feasible is claimed" in out
    assert "SHORT convex: 0 of 1" in out


def test_certify_reports_a_shortfall_without_any_regression(tmp_path: Path, capsys: Any) -> None:
    shutil.copy(FOLDER / "spfl-unbiased-poor-compensation.json", tmp_path)
    assert main(["certify", str(tmp_path), "--jobs", "1"]) == 1
    out = capsys.readouterr().out
    assert "0 regressions" in out
    assert "SHORT not convex, K <= 8: 0 of 1 certified, 90% promised" in out


def test_certify_a_broken_file_is_a_row_and_a_missing_folder_an_error(
    tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "broken.json").write_text("{")
    assert main(["certify", str(tmp_path)]) == 1
    assert "not a JSON file" in capsys.readouterr().out
    assert main(["certify", str(tmp_path / "nowhere")]) == 2
    assert "is not there" in capsys.readouterr().err


def test_certify_judges_a_result(tmp_path: Path, capsys: Any) -> None:
    problem, path = ALL["sumrate-symmetric"].problem, tmp_path / "result.json"
    sol = rr.solve(problem, "branch-and-bound")  # its tree is not kept in the file
    io.save_result(sol, path)
    assert main(["certify", str(path)]) == 0
    assert "every claim of the file stands" in capsys.readouterr().out
    document = json.loads(path.read_text())
    document["objective"] = 4.5
    path.write_text(json.dumps(document))
    assert main(["certify", str(path)]) == 1
    assert "FALSE objective 4.5 is claimed" in capsys.readouterr().out


def test_certify_of_a_scenario_says_to_solve_it_first(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "s.json"
    io.save_scenario(ALL["sumrate-symmetric"].problem, path)
    assert main(["certify", str(path)]) == 2
    assert "s.json is a scenario; solve it first" in capsys.readouterr().err


def test_certify_sees_through_a_result_without_points(tmp_path: Path, capsys: Any) -> None:
    problem, path = rr.problems.WaterFilling.random(K=3, batch=4, rng=0), tmp_path / "result.json"
    io.save_result(rr.solve(problem), path)
    document = json.loads(path.read_text())
    document |= {"status": ["none"] * 4, "bound": [1.0] * 4}
    path.write_text(json.dumps(document))
    assert main(["certify", str(path)]) == 1
    assert "FALSE bound" in capsys.readouterr().out


def test_library_lists_and_explains(capsys: Any) -> None:
    assert main(["library", "--folder", str(FOLDER)]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == len(ALL) + 1
    assert main(["library", "sumrate-dccp37", "--folder", str(FOLDER)]) == 0
    out = capsys.readouterr().out
    assert "local methods answer 3.4503" in out
    assert "best known 4.68603536478, found by multistart" in out
    assert "branch-and-bound" in out
    assert main(["library", "sumrate-promises-too-high", "--folder", str(FOLDER)]) == 0
    assert "infeasible: Each promise" in capsys.readouterr().out
    assert main(["library", "nothing", "--folder", str(FOLDER)]) == 2
    assert "nothing.json: No such file" in capsys.readouterr().err


def test_an_empty_folder_is_no_library(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"has no \*\.json file"):
        library.load(tmp_path)


# -- reductions ------------------------------------------------------------------------------------


def test_reductions_never_exclude_a_feasible_point() -> None:
    """Bounds by way of other problems against points of the problem's own solvers."""
    from rralloc._reductions import REDUCTIONS

    draws = {
        "multicast-by-selection": [rr.problems.Multicast.random(K=4, N=2, rng=s) for s in range(3)],
        "admission-by-subsets": [rr.problems.OTABound.random(K=3, N=2, rng=s) for s in range(3)],
        "errors-by-selection": [
            rr.problems.OTASelectionImperfect.random(K=5, N=3, rng=s) for s in range(3)
        ],
    }
    for name, problems in draws.items():
        for problem in problems:
            sol = rr.solve(problem, rng=0)
            bound = REDUCTIONS[name](problem, sol.x, 10.0)
            sign = 1.0 if problem.sense == "max" else -1.0
            rng = np.random.default_rng(0)
            cloud = [problem.complete(problem.sample(rng)) for _ in range(50)]
            worth = [
                sign * float(problem.objective(x))
                for x in (sol.x, *cloud)
                if rr.verify(problem, x).ok()
            ]
            assert np.isnan(bound) or max(worth) <= sign * bound * (1 + sign * 1e-9) + 1e-12


def test_a_reduction_does_not_prove_what_is_false() -> None:
    """Asked about a poor beam, the tree finds a better one: no bound."""
    from rralloc._reductions import multicast_by_selection

    problem = rr.problems.Multicast.random(K=4, N=3, rng=0)
    best = rr.solve(problem, "low-rank-sdr")
    poor = {"beamformer": 1.1 * best.x["beamformer"]}
    assert np.isnan(multicast_by_selection(problem, poor, 10.0))


def test_method_words() -> None:
    assert str(Method("dual")) == "dual"
    assert str(Method("branch-and-bound", {"cells": 10})) == "branch-and-bound (cells=10)"
    held = load_instance(FOLDER / "waterfilling-plain.json")
    assert isinstance(held, Instance)
