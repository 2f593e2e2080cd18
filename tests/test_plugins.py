"""Plug-ins: a guest is installed and removed; broken and clashing ones; policies by name."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from toys import Everybody, make_task

import rralloc as rr
from rralloc import fl, registry
from rralloc.cli import main
from rralloc.errors import NotOffered, UnknownName
from rralloc.fl import TopGradient
from rralloc.problems import MinMaxLatency, WaterFilling

GUEST = Path(__file__).parents[1] / "examples" / "guest"
TABLES = (registry.problem_classes, registry.solver_classes, registry.policies, registry.studies)


def forget():
    """Look again: at the distributions, at their modules, at what they define."""
    for table in (*TABLES, registry._packages):
        table.cache_clear()
    registry._broken.clear()
    registry._told.clear()


@pytest.fixture
def fresh():
    """What a test registers or plugs in is unknown again afterwards."""
    before = dict(registry._guests)
    forget()
    yield
    registry._guests.clear()
    registry._guests.update(before)
    forget()


@pytest.fixture
def plug(tmp_path, monkeypatch, fresh):
    """Install a distribution of a few files in this process: ``plug(name, package, files)``."""
    packages = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, package, files):
        packages.append(package)
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rralloc.plugins]\nx = {package}\n")
        for path, code in files.items():
            path = tmp_path / package / path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(code))
            for folder in (tmp_path / package, path.parent):
                (folder / "__init__.py").touch()
        forget()

    yield install
    for module in [m for m in sys.modules if m.split(".")[0] in packages]:
        del sys.modules[module]


PROBLEM = """
from rralloc.fields import data, variable
from rralloc.problem import Problem


class {name}(Problem):
    \"\"\"min sum (x - c)^2.\"\"\"

    centre = data("K", unit="1")
    x = variable("K", unit="1", low=-10, high=10)

    def objective(self, x):
        return ((x["x"] - self.centre) ** 2).sum(-1)
"""
SOLVER = """
from rralloc.solver import Solver


class Mine(Solver):
    \"\"\"Says the start.\"\"\"

    name = "{name}"
    rank = 1000

    def solve(self, problem, start, run):
        run.offer(problem.initial())
"""


# -- a guest, installed for real -----------------------------------------------------------------


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Run an environment of its own that borrows our packages: ``python("-c", "...")``."""
    folder = tmp_path_factory.mktemp("guest-environment")
    pytest.importorskip("setuptools", reason="the guest is built by setuptools, without network")
    pytest.importorskip("pip", reason="pip installs the guest")
    venv.create(folder / "venv", with_pip=False)
    program = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    places = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    site = Path(sysconfig.get_path("purelib", "venv", vars=places))
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    lines = [str(Path(rr.__file__).parents[1])]  # this rralloc, whichever way it is installed
    lines += [f"import site; site.addsitedir({path!r})" for path in sorted(borrowed)]
    (site / "borrowed.pth").write_text("\n".join(lines) + "\n")
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("PYTHON", "PYTEST", "PIP_"))}

    def run(*words, code=0):
        said = subprocess.run(
            [program, *map(str, words)],
            cwd=folder,  # neither the checkout nor the guest's folder
            env=clean | {"OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == code, said.stdout + said.stderr
        return said.stdout

    run.folder = folder
    return run


COMMANDS = """
from rralloc.cli import main

for command in (
    "random UploadEnergy --devices 5 --output s",
    "solve s --output r",
    "solve s --solver sequential-linear",
    "verify r",
    "schema UploadEnergy",
):
    assert main(command.split()) == 0, command
"""
SESSION = """
import json

import rralloc as rr
from rralloc import fl, registry
from rralloc.problems import FDMARate, SumRate, WaterFilling

UploadEnergy = registry.problem_class("UploadEnergy")
guest = UploadEnergy.random(K=4, batch=2, rng=0)
ours = [WaterFilling.random(K=4, rng=0), FDMARate.random(K=4, rng=0), SumRate.random(K=3, rng=0)]
task = fl.Task.digits(clients=4, partition="iid", seed=0)
link = fl.Link.cell(4, seed=0)
table = rr.compare(guest, ["level", "sequential-linear", "scipy:slsqp"]).to_dataframe()
print(json.dumps({
    "on guest": list(rr.solvers_for(guest)),
    "on ours": ["sequential-linear" in rr.solvers_for(p) for p in ours],
    "default on ours": [rr.solve(p).solver for p in ours],
    "water": float(rr.solve(ours[0], "sequential-linear").gap),
    "proven": table["proven"].tolist(),
    "scheduled": fl.train(task, link, "OldestFirst", rounds=4).scheduled.tolist(),
    "solved": fl.train(task, link, rr.Optimised(UploadEnergy), rounds=2).rounds,
    "loaded from": __import__("rralloc_guest").__file__,
}))
"""


def test_a_guest_is_installed_used_and_removed(python):
    # 1. Install a copy, so that nothing is built in the tree.
    shutil.copytree(GUEST, python.folder / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    python("-m", "pip", "install", "--quiet", *offline, python.folder / "copy")
    # 2. The command line knows its three names, and works on its problem.
    said = python("-m", "rralloc.cli", "list")
    kinds = [part.split("\n")[1:] for part in said.split(":\n") if part]
    for name in ("UploadEnergy", "sequential-linear", "OldestFirst"):
        assert [line for lines in kinds for line in lines if line.startswith(f"  {name} ")]
    said = python("-c", COMMANDS)
    assert "UploadEnergy by level: global" in said
    assert "UploadEnergy by sequential-linear: " in said
    assert "\nfeasible\n" in said
    assert '"payload_bit"' in said
    # 3. In Python: our solvers on its problem, its solver on ours, training.
    found = json.loads(python("-W", "error", "-c", SESSION))
    assert {"level", "cvxpy", "scipy:slsqp", "sequential-linear"} <= set(found["on guest"])
    assert found["on ours"] == [True, True, True]
    assert "sequential-linear" not in found["default on ours"]
    assert found["water"] < 1e-6
    assert found["proven"] == [2, 2, 2]
    assert found["scheduled"] == [2.0] * 4  # 4 rounds of 2
    assert found["solved"] == 2
    assert "site-packages" in found["loaded from"]
    # 4. The tests that its author would copy; conformance is the first.
    quiet = ("-q", "-W", "error", "-p", "no:cacheprovider")
    said = python("-m", "pytest", *quiet, python.folder / "copy" / "tests")
    assert " passed" in said
    assert "skipped" not in said
    # 5. Removed, it is gone.
    python("-m", "pip", "uninstall", "--yes", "rralloc-guest")
    said = python("-c", "from rralloc.cli import main; main(['list']); print(main(['solve', 's']))")
    assert "WaterFilling" in said
    for name in ("UploadEnergy", "sequential-linear", "OldestFirst"):
        assert name not in said
    assert said.endswith("\n2\n")  # the scenario is there, its problem is not


def test_the_guest_needs_one_entry_point_and_lists_its_packages():
    import tomllib

    setup = tomllib.loads((GUEST / "pyproject.toml").read_text())
    assert setup["project"]["entry-points"] == {"rralloc.plugins": {"guest": "rralloc_guest"}}
    folders = {p.parent.relative_to(GUEST).as_posix() for p in GUEST.rglob("__init__.py")}
    assert {p.replace(".", "/") for p in setup["tool"]["setuptools"]["packages"]} == folders


def test_the_guests_solver_is_short():
    code = (GUEST / "rralloc_guest/solvers/sequential_linear.py").read_text()
    body = code[code.index("class SequentialLinear") :]
    said = body.split('"""')
    lines = "".join(said[0::2]).splitlines()  # without docstrings
    assert len([n for n in lines if n.strip() and not n.strip().startswith("#")]) <= 40


# -- plug-ins in this process --------------------------------------------------------------------


def test_a_plug_in_is_found_by_its_entry_point(plug):
    plug(
        "good-guest",
        "good_guest",
        {
            "problems/near.py": PROBLEM.format(name="NearCentre"),
            "solvers/_private.py": "raise RuntimeError('nobody imports a private file')",
        },
    )
    sol = rr.solve(registry.problem_class("NearCentre")(centre=[1.0, 2.0]))
    np.testing.assert_allclose(sol.x["x"], [1.0, 2.0], atol=1e-6)
    assert not registry._broken


def test_one_file_does_in_place_of_a_folder(plug):
    plug("small", "small_guest", {"problems.py": PROBLEM.format(name="NearCentre")})
    assert registry.problem_class("NearCentre").__module__ == "small_guest.problems"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_package_of_anybody", "ModuleNotFoundError: No module named 'no_such"),
        ("from rralloc.problem import NoSuchName", "ImportError: cannot import name 'NoSuchName'"),
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_imported_is_left_out_and_told_once(plug, code, words):
    plug(
        "bad-guest",
        "bad_guest",
        {"problems/bad.py": code, "problems/good.py": PROBLEM.format(name="StillHere")},
    )
    with pytest.warns(RuntimeWarning) as told:
        known = registry.problem_classes()
    assert len(told) == 1
    message = str(told[0].message)
    assert message.startswith("plug-in 'bad-guest': bad_guest.problems.bad cannot be imported (")
    assert words in message
    assert {"StillHere", "WaterFilling"} <= set(known)
    # Everything else works, and nothing is told again (warnings are errors here).
    rr.register(Everybody)
    for table in TABLES:
        table()
    assert rr.solve(WaterFilling.random(K=3, rng=0)).status is rr.Status.GLOBAL


@pytest.mark.parametrize("kind", ["solvers", "policies", "studies"])
def test_a_broken_file_of_any_kind_is_left_out(plug, kind, capsys):
    plug("bad-guest", "bad_guest", {f"{kind}/bad.py": "raise OSError('no licence')"})
    with pytest.warns(RuntimeWarning, match=rf"'bad-guest'.*{kind}\.bad .*OSError: no licence"):
        assert main(["list"]) == 0
    assert "WaterFilling" in capsys.readouterr().out


def test_a_package_that_cannot_be_imported_is_told_once_for_all_kinds(plug):
    plug("bad-guest", "bad_guest", {"problems/x.py": "", "__init__.py": "1 / 0"})
    with pytest.warns(RuntimeWarning) as told:
        assert all(table() for table in TABLES)
    assert len(told) == 1
    assert "bad_guest cannot be imported (ZeroDivisionError" in str(told[0].message)


def test_an_entry_point_that_names_nothing_is_told(plug):
    plug("bad-guest", "nowhere", {})
    with pytest.warns(RuntimeWarning, match=r"'bad-guest': nowhere cannot.*No module named") as t:
        assert all(table() for table in TABLES)
    assert len(t) == 1


def test_an_error_in_our_own_files_is_not_hidden(monkeypatch):
    def broken(name):
        raise ImportError("ours")

    monkeypatch.setattr(registry.importlib, "import_module", broken)
    with pytest.raises(ImportError, match="ours"):
        registry._imported("rralloc.problems.anything", "rralloc")


# -- two of one name -----------------------------------------------------------------------------


def test_ours_stays_and_the_plug_in_of_that_name_is_told(plug):
    plug(
        "namesake",
        "namesake",
        {
            "problems/w.py": PROBLEM.format(name="WaterFilling"),
            "solvers/s.py": SOLVER.format(name="level"),
            "policies/p.py": (
                "class TopGradient:\n    start = decide = learn = lambda *given: None\n"
            ),
        },
    )
    words = r"'{}': the {} of 'rralloc' is used, the one of 'namesake' \(namesake\..*rename"
    with pytest.warns(RuntimeWarning, match=words.format("WaterFilling", "problem")):
        assert registry.problem_class("WaterFilling") is WaterFilling
    with pytest.warns(RuntimeWarning, match=words.format("level", "solver")):
        assert registry.solver_classes()["level"].__module__ == "rralloc.solvers.level"
    with pytest.warns(RuntimeWarning, match=words.format("TopGradient", "policy")):
        assert registry.policies()["TopGradient"] is TopGradient


@pytest.mark.parametrize("order", [("alpha", "beta"), ("beta", "alpha")])
def test_of_two_plug_ins_the_first_in_the_alphabet_stays(plug, order):
    for name in order:
        plug(name, f"{name}_package", {"problems/p.py": PROBLEM.format(name="Twice")})
    with pytest.warns(RuntimeWarning, match="'Twice': the problem of 'alpha' is used.*'beta'"):
        assert registry.problem_class("Twice").__module__ == "alpha_package.problems.p"
    assert registry.problem_classes()["Twice"]  # told once


def test_what_was_registered_wins_without_a_word(plug):
    class WaterFilling(rr.problems.WaterFilling):
        """Mine."""

    rr.register(WaterFilling)
    assert registry.problem_class("WaterFilling") is WaterFilling


# -- policies by name ----------------------------------------------------------------------------


def test_policies_are_known_by_the_names_of_their_classes(fresh):
    ours = {
        *("Optimised", "TopGradient", "AdaptiveAggregation", "FixedSteps"),
        *("DriftPlusPenalty", "FixedKeep", "Dense", "FixedPower", "MaxPower", "Ideal"),
    }
    assert ours <= set(registry.policies())
    assert "Policy" not in registry.policies()  # the protocol
    assert "Causal" not in registry.policies()  # a solver
    assert all(registry.is_policy(cls) for cls in registry.policies().values())


def test_policies_are_listed(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    listed = said[said.index("policies:") : said.index("studies:")]
    assert "  TopGradient " in listed
    assert "The ``count`` devices with the largest reported gradient energy" in listed


def test_a_policy_by_name_class_or_instance(fresh):
    assert registry.resolve_policy("TopGradient") == TopGradient()
    assert registry.resolve_policy(TopGradient) == TopGradient()
    chosen = TopGradient(count=2)
    assert registry.resolve_policy(chosen) is chosen
    with pytest.raises(UnknownName, match=r"no policy is named 'TopGradent'.*'TopGradient'"):
        registry.resolve_policy("TopGradent")
    with pytest.raises(NotOffered, match=r"FixedSteps has no default for inner, local_steps: pass"):
        registry.resolve_policy("FixedSteps")
    with pytest.raises(NotOffered, match=r"instance, Optimised\(problem=\.\.\.\)"):
        registry.resolve_policy("Optimised")
    with pytest.raises(NotOffered, match=r"MinMaxLatency is not a policy.*rr\.Optimised of it"):
        registry.resolve_policy(MinMaxLatency)


@dataclass(frozen=True)
class Named(Everybody):
    """A name with a default is a class attribute, and not what the class is known by."""

    name: str = "somebody"


def test_a_registered_policy_is_known_by_name(fresh):
    with pytest.raises(UnknownName, match="Everybody"):
        registry.resolve_policy("Everybody")
    assert rr.register(Everybody) is Everybody
    assert registry.resolve_policy("Everybody") == Everybody()
    rr.register(Named)
    assert {"Everybody", "Named"} <= set(registry.policies())
    assert "Everybody" not in registry.problem_classes() | registry.solver_classes()


def same(a, b):
    np.testing.assert_array_equal(a.loss, b.loss)
    np.testing.assert_array_equal(a.joules, b.joules)
    assert a.policy == b.policy


def test_training_takes_a_name_or_a_class(fresh, tmp_path):
    rr.register(Everybody)
    task, link = make_task(), fl.Link.cell(4, seed=0)
    one = fl.train(task, link, Everybody(), rounds=3)
    for policy in ("Everybody", Everybody):
        same(fl.train(task, link, policy, rounds=3), one)
    same(
        fl.train(task, link, "TopGradient", rounds=2),
        fl.train(task, link, TopGradient(), rounds=2),
    )
    with pytest.raises(UnknownName, match="no policy"):
        fl.train(task, link, "Nobody", rounds=1)


def test_a_comparison_takes_names_and_its_files_do_not_tell_them_from_objects(fresh, tmp_path):
    rr.register(Everybody)
    task, link = make_task(), fl.Link.cell(4, seed=0)
    by_name = {"all": "Everybody", "packets": (fl.DigitalPacket(), "Everybody")}
    by_object = {"all": Everybody(), "packets": (fl.DigitalPacket(), Everybody())}
    first = fl.compare(task, link, by_name, [0], rounds=2, path=tmp_path)
    files = sorted(tmp_path.iterdir())
    again = fl.compare(task, link, by_object, [0], rounds=2, path=tmp_path)
    assert sorted(tmp_path.iterdir()) == files
    for name in by_name:
        same(first.runs[name][0], again.runs[name][0])


def test_tuning_takes_a_name(fresh):
    rr.register(Everybody)
    link = fl.Link.cell(4, seed=0)
    found = [
        fl.tune(make_task, lambda seed: link, policy, [0.1, 1.0], [0], budget_s=2.0, rounds=2)
        for policy in ("Everybody", Everybody())
    ]
    assert found[0] == found[1]


class Breaks(rr.Solver):
    """Cannot even say whether it applies."""

    name = "breaks"
    rank = 0

    def applies(self, problem):
        raise KeyError("oops")


def test_a_guest_that_breaks_when_asked_is_refused_and_nothing_else_suffers(monkeypatch):
    monkeypatch.setattr(registry, "_guests", {"breaks": Breaks})
    for table in (registry.solver_classes, registry.policies):
        table.cache_clear()
    try:
        problem = rr.problems.WaterFilling.random(K=3, rng=0)
        assert rr.solvers_for(problem).refused["breaks"] == "broken: KeyError: 'oops'"
        assert rr.solve(problem).solver == "closed-form"
        rows = rr.compare(problem, ["breaks", "level"]).rows
        assert [r.solved for r in rows] == [0, 1]
    finally:
        registry.solver_classes.cache_clear()
