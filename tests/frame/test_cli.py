"""The command line from outside: what it prints, what it writes, how it fails."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import rralloc as rr
from rralloc import io, registry, tables
from rralloc.cli import main
from rralloc.problems import InverseWaterFilling, WaterFilling


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.json"
    problem = WaterFilling(gain=[2.0, 1.0, 0.5, 0.1], power_budget_w=3.0)
    io.save_scenario(problem, path)
    return path


@pytest.fixture
def fails(capsys):
    """Run a command that must end with exit code 2 and one paragraph on stderr."""

    def run(*argv: object) -> str:
        assert main([*map(str, argv)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("rralloc: ")
        assert err.count("\n") == 1
        return err

    return run


# -- list, schema, random -----------------------------------------------------------------------


def test_list_names_everything(capsys) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in (*registry.problem_classes(), *registry.studies()):
        assert f"  {name} " in out
    assert "baseline:..." in out
    assert re.search(r"WaterFilling +Maximise the sum rate of parallel channels", out)


def test_list_of_a_problem_tells_units_ranges_and_who_solves_it(capsys) -> None:
    assert main(["list", "WaterFilling"]) == 0
    out = capsys.readouterr().out
    assert "objective: max [bit/s/Hz]" in out
    assert re.search(r"gain +\(\.\.\., K\) +\[0, inf\) 1/W +required +channel gain", out)
    assert re.search(r"power_w +\(\.\.\., K\) +\[0, inf\] W +transmit power", out)
    applies, refused = out.split("does not apply:")
    assert "  closed-form\n" in applies
    assert "has no Boxes form" in refused


@pytest.mark.parametrize("name", sorted(registry.problem_classes()))
def test_every_problem_can_be_listed(name: str, capsys) -> None:
    assert main(["list", name]) == 0
    assert f"{name}: " in capsys.readouterr().out


def test_schema_is_the_one_of_io(capsys) -> None:
    assert main(["schema", "WaterFilling"]) == 0
    assert json.loads(capsys.readouterr().out) == io.schema(WaterFilling)


def test_random_writes_the_instance_that_the_class_draws(tmp_path: Path, capsys) -> None:
    path = tmp_path / "s.json"
    argv = ["random", "WaterFilling", "--devices", "4", "--batch", "3", "--seed", "7"]
    assert main([*argv, "--set", "power_budget_w=2.5", "--output", str(path)]) == 0
    assert "WaterFilling(K=4, batch=(3,)) written to" in capsys.readouterr().out
    expected = WaterFilling.random(K=4, batch=3, rng=7, power_budget_w=2.5)
    assert io.load_scenario(path) == expected


# -- solve and verify ---------------------------------------------------------------------------


def test_solve_prints_the_allocation(scenario: Path, capsys) -> None:
    assert main(["solve", str(scenario)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("<WaterFilling by closed-form: global, objective 3.34643165 bit/s/Hz")
    assert out.splitlines()[1:] == [
        "  K          power_w [W]",
        "  0              1.66667",
        "  1              1.16667",
        "  2             0.166667",
        "  3                    0",
    ]


def test_solve_with_every_option_and_verify_the_result(scenario: Path, capsys) -> None:
    result = scenario.with_name("result.json")
    argv = ["solve", str(scenario), "--solver", "level", "--option", "max_iter=50", "feas_tol=1e-8"]
    argv += ["--time-limit", "10", "--tol", "1e-9", "--certify", "full", "--seed", "1"]
    assert main([*argv, "--output", str(result)]) == 0
    assert f"written to {result}" in capsys.readouterr().out
    sol = io.load_result(result)
    assert sol.solver == "level"
    assert sol.status == rr.Status.GLOBAL
    assert main(["verify", str(result)]) == 0
    out = capsys.readouterr().out
    assert "ok  total power" in out
    assert out.endswith("feasible\n")


def test_solve_shows_the_first_of_many(tmp_path: Path, capsys) -> None:
    path = tmp_path / "s.json"
    io.save_scenario(WaterFilling.random(K=30, batch=(2, 4), rng=0), path)
    assert main(["solve", str(path)]) == 0
    out = capsys.readouterr().out
    assert "instance 0, 2: global" in out
    assert "instance 0, 3" not in out
    assert "(5 more instances)" in out
    assert out.count("(10 more; --output keeps them all)") == 3


def test_the_message_is_printed(tmp_path: Path, capsys) -> None:
    path = tmp_path / "s.json"
    io.save_scenario(WaterFilling.random(K=2, batch=3, rng=0), path)
    assert main(["solve", str(path), "--solver", "scipy:slsqp", "--time-limit", "0"]) == 0
    assert "3 of 3 instances not finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("point", "code", "last"),
    [
        ({"power_w": [1.0, 1.0, 1.0, 0.0]}, 0, "feasible"),
        ({"power_w": 0.75}, 0, "feasible"),
        ({"power_w": [1.0, 1.0, 1.0, 0.5]}, 1, "not feasible"),
        ({"power_w": [-1.0, 1.0, 1.0, 0.5]}, 1, "not feasible"),
    ],
)
def test_verify_judges_anyone_s_point(scenario: Path, capsys, point, code, last) -> None:
    path = scenario.with_name("point.json")
    path.write_text(json.dumps(point))
    assert main(["verify", str(scenario), str(path)]) == code
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_verify_does_not_believe_a_result(scenario: Path, capsys) -> None:
    result = scenario.with_name("result.json")
    assert main(["solve", str(scenario), "--output", str(result)]) == 0
    document = json.loads(result.read_text())
    document["x"]["power_w"][3] = 7.0
    result.write_text(json.dumps(document))
    assert main(["verify", str(result)]) == 1
    assert "BAD total power" in capsys.readouterr().out


def test_a_result_without_points_is_not_feasible(tmp_path: Path, capsys) -> None:
    problem = WaterFilling.random(K=2, batch=2, rng=0)
    sol = rr.solve(problem, "scipy:slsqp", time_limit=0.0)
    io.save_result(sol, tmp_path / "r.json")
    assert main(["verify", str(tmp_path / "r.json")]) == 1


# -- compare and study --------------------------------------------------------------------------


@pytest.fixture
def comparison(monkeypatch) -> SimpleNamespace:
    """``rralloc.study`` with a compare that notes how it was called."""
    called = SimpleNamespace()

    def compare(problems, solvers=None, **told):
        called.problems, called.solvers, called.told = problems, solvers, told
        return SimpleNamespace(summary=lambda: "level wins")

    module = ModuleType("rralloc.study")
    module.compare = compare
    monkeypatch.setitem(sys.modules, "rralloc.study", module)
    return called


def test_compare_hands_over_named_problems(scenario: Path, comparison, capsys) -> None:
    other = scenario.with_name("other.json")
    io.save_scenario(InverseWaterFilling.random(K=2, rng=0), other)
    argv = ["compare", str(scenario), str(other), "--solver", "level", "cvxpy", "--time-limit", "2"]
    assert main(argv) == 0
    assert capsys.readouterr().out == "level wins\n"
    assert list(comparison.problems) == ["scenario", "other"]
    assert isinstance(comparison.problems["other"], InverseWaterFilling)
    assert comparison.solvers == ["level", "cvxpy"]
    assert comparison.told == {
        "time_limit": 2.0,
        "executor": None,
        "path": None,
        "chunk": None,
        "repeat": 1,
    }


def test_compare_keeps_files_of_one_name_apart(scenario: Path, comparison) -> None:
    twin = scenario.parent / "twin" / scenario.name
    twin.parent.mkdir()
    twin.write_text(scenario.read_text())
    assert main(["compare", str(scenario), str(twin)]) == 0
    assert list(comparison.problems) == ["scenario", str(twin)]
    assert comparison.solvers is None


@pytest.mark.parametrize("suffix", [".csv", ".json", ".md", ".tex"])
def test_compare_writes_tables(scenario: Path, suffix) -> None:
    path = scenario.with_name(f"table{suffix}")
    argv = ["compare", str(scenario), "--solver", "level", "--output", str(path)]
    assert main(argv) == 0
    assert "level" in path.read_text()
    assert "scenario" in path.read_text()


def test_compare_in_parts_by_processes_resumes_and_draws(scenario: Path, capsys) -> None:
    big = scenario.with_name("big.json")
    io.save_scenario(InverseWaterFilling.random(K=3, batch=4, rng=0), big)
    kept, figure = scenario.with_name("kept.jsonl"), scenario.with_name("profile.png")
    flags = ["--chunk", "3", "--repeat", "2", "--jobs", "2", "--path", str(kept)]
    argv = ["compare", str(big), "--solver", "level", "closed-form", *flags]
    assert main([*argv, "--profile", str(figure)]) == 0
    first = capsys.readouterr().out
    assert len(kept.read_text().splitlines()) == 4
    assert figure.read_bytes()[:4] == b"\x89PNG"
    assert main(argv) == 0
    assert capsys.readouterr().out in first  # the same table, clocks included: nothing ran again


def test_json_tables_are_strict_and_not_rounded() -> None:
    table = pd.DataFrame({"gap": [1.5e-19, np.nan, np.inf], "n": [1, 2, 3]})
    assert json.loads(tables.records(table)) == [
        {"gap": 1.5e-19, "n": 1},
        {"gap": None, "n": 2},
        {"gap": "inf", "n": 3},
    ]


def test_compare_for_real(scenario: Path, capsys) -> None:
    path = scenario.with_name("table.csv")
    argv = ["compare", str(scenario), "--solver", "level", "closed-form", "--output", str(path)]
    assert main(argv) == 0
    assert "scenario, 1 instance" in capsys.readouterr().out
    assert list(pd.read_csv(path)["proven"]) == [1, 1]


def test_compare_refuses_a_table_it_cannot_write_before_it_works(scenario, comparison, fails):
    assert "no kind of table is named '.xlsx'" in fails("compare", scenario, "--output", "t.xlsx")
    assert not hasattr(comparison, "problems")


@pytest.fixture
def study():
    """A study that notes how it was called, known for one test."""

    def fading(out: Path, quick: bool, seeds: int = 10, speed: float = 1.0) -> str:
        """What fading costs.

        Not in the list.
        """
        fading.called = (out, quick, seeds, speed)
        (out / "table.csv").write_text("done")
        return "fading costs 3 dB"

    fading.study_name = "fading"
    rr.register(fading)
    yield fading
    del registry._guests["fading"]
    registry.studies.cache_clear()


def test_study_without_a_name_lists_them(study, capsys) -> None:
    assert main(["study"]) == 0
    assert re.search(r"\n  fading +What fading costs\.\n", capsys.readouterr().out)


def test_study_runs(study, tmp_path: Path, capsys) -> None:
    out = tmp_path / "deep" / "folder"
    argv = ["study", "fading", "--out", str(out), "--quick", "--seeds", "3", "--set", "speed=40"]
    assert main(argv) == 0
    assert study.called == (out, True, 3, 40)
    assert (out / "table.csv").exists()
    assert capsys.readouterr().out == f"fading costs 3 dB\nwritten to {out}\n"


def test_study_has_a_folder_of_its_own(study, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", "fading"]) == 0
    assert study.called == (Path("results/fading"), False, 10, 1.0)


def test_study_refuses_unknown_names_and_settings(study, tmp_path: Path, fails) -> None:
    assert "Did you mean 'fading'" in fails("study", "fadin")
    words = fails("study", "fading", "--out", tmp_path / "new", "--set", "sped=1")
    assert "unexpected keyword argument 'sped'" in words
    assert not (tmp_path / "new").exists()


# -- what goes wrong ----------------------------------------------------------------------------


def test_errors_are_one_paragraph(scenario: Path, tmp_path: Path, fails) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert "no problem is named 'WaterFall'" in fails("list", "WaterFall")
    assert "absent.json: No such file" in fails("solve", tmp_path / "absent.json")
    assert "broken.json: not a JSON file" in fails("solve", broken)
    assert f"{tmp_path}: a folder, not a JSON file" in fails("solve", tmp_path)
    assert "no solver is named 'levl'" in fails("solve", scenario, "--solver", "levl")
    assert "level has no option speed" in fails(
        "solve", scenario, "--solver", "level", "--option", "speed=fast"
    )
    assert "--option start: not an option" in fails("solve", scenario, "--option", "start=1")
    assert "has no point" in fails("verify", scenario)
    absent = tmp_path / "no" / "r.json"
    assert "no/r.json: No such file" in fails(
        "random", "WaterFilling", "--devices", 2, "--output", absent
    )


def test_points_that_do_not_fit(scenario: Path, fails) -> None:
    point = scenario.with_name("point.json")
    for text, words in (
        ('{"power": [1]}', "point.json: point: unknown field power"),
        ('{"power_w": [1, 2, 3]}', "power_w has shape (3,); the problem needs (4,)"),
        ('{"power_w": "much"}', 'point.power_w: "much" is not a number'),
        ("[1, 2]", "point: [1, 2] where an object"),
    ):
        point.write_text(text)
        assert words in fails("verify", scenario, point)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--devices", 2, "--set", "speed=1"], "unexpected keyword argument 'speed'; fields: gain"),
        (["--devices", -2], "WaterFilling.random: negative dimensions"),
        (["--devices", 0], "is empty"),
        (["--devices", 2, "--set", "power_budget_w=-1"], "power_budget_w"),
        (["--devices", 2, "--set", "power_budget_w=lots"], "power_budget_w"),
    ],
)
def test_random_that_cannot_be_drawn(argv, words, tmp_path: Path, fails) -> None:
    path = tmp_path / "s.json"
    assert words in fails("random", "WaterFilling", *argv, "--output", path)
    assert not path.exists()


@pytest.mark.parametrize("argv", [["--debug", "list", "X"], ["list", "X", "--debug"]])
def test_debug_shows_the_traceback(argv, capsys) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("rralloc: no problem is named 'X'")


def test_a_bug_is_not_dressed_up(monkeypatch, scenario: Path) -> None:
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(rr, "solve", broken)
    with pytest.raises(ZeroDivisionError):
        main(["solve", str(scenario)])


def test_the_keyboard_stops_it(monkeypatch, scenario: Path, capsys) -> None:
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(rr, "solve", stopped)
    assert main(["solve", str(scenario)]) == 130
    assert capsys.readouterr().err == "stopped; what was written is kept\n"


@pytest.mark.parametrize(
    "argv", [[], ["fly"], ["solve"], ["solve", "s.json", "--option", "fast"], ["random", "X"]]
)
def test_usage(argv, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage: rralloc" in capsys.readouterr().err


def test_version(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"rralloc {rr.__version__}\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=1", 1),
        ("k=1e-3", 1e-3),
        ("k=true", True),
        ("k=null", None),
        ("k=[1, 2]", [1, 2]),
        ('k="1"', "1"),
        ("k=fair", "fair"),
        ("k=a=b", "a=b"),
        ("k=", ""),
    ],
)
def test_values_are_json_or_words(text, value, monkeypatch, tmp_path: Path) -> None:
    seen = {}

    def draw(**settings):
        seen.update(settings)
        return WaterFilling(gain=1.0, power_budget_w=1.0)

    monkeypatch.setattr(WaterFilling, "random", draw)
    path = str(tmp_path / "s.json")
    assert main(["random", "WaterFilling", "--devices", "1", "--set", text, "--output", path]) == 0
    assert seen["k"] == value
    assert type(seen["k"]) is type(value)


# -- as a process -------------------------------------------------------------------------------


def process(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=120)


def test_as_a_process(tmp_path: Path) -> None:
    path = str(tmp_path / "s.json")
    drawn = process(
        "-m", "rralloc.cli", "random", "WaterFilling", "--devices", "3", "--output", path
    )
    assert (drawn.returncode, drawn.stderr) == (0, "")
    np.testing.assert_array_equal(
        io.load_scenario(path).gain, WaterFilling.random(K=3, rng=0).gain, strict=True
    )
    failed = process("-m", "rralloc.cli", "solve", str(tmp_path / "absent.json"))
    assert failed.returncode == 2
    assert "No such file" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    words = (
        f"{sys.executable} -m rralloc.cli schema WaterFilling | exec true; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_it_is_light() -> None:
    heavy = {"scipy", "cvxpy", "pyomo", "pandas", "matplotlib", "sklearn", "jsonschema"}
    done = process("-c", "import sys, rralloc.cli; print(*sys.modules)")
    assert done.returncode == 0
    assert not heavy & set(done.stdout.split())
