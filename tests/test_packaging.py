"""The house: packages, links, imports and the direction of dependencies."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rralloc as rr

ROOT = Path(__file__).parents[1]
OUTER = ("problems", "solvers", "studies")
HEAVY = ("scipy", "cvxpy", "pyomo", "matplotlib", "pandas", "sklearn", "tqdm", "casadi", "ecos")


def tracked() -> list[Path]:
    said = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if said.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in said.stdout.split("\0") if name]


def python(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, **options
    )


# -- packages -------------------------------------------------------------------------------------


def folders() -> set[str]:
    inner = {
        ".".join(p.parent.relative_to(ROOT).parts)
        for p in (ROOT / "rralloc").rglob("__init__.py")
        if not any(part.is_symlink() for part in p.parents)
    }
    return inner | {f"rralloc.{name}" for name in OUTER}


def test_pyproject_lists_exactly_the_packages_that_exist():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert len(setup["packages"]) == len(set(setup["packages"]))
    assert set(setup["packages"]) == folders()
    assert setup["package-dir"] == {"rralloc": "rralloc"} | {f"rralloc.{n}": n for n in OUTER}


def test_every_folder_with_modules_is_a_package():
    for top in ("rralloc", *OUTER):
        for module in (ROOT / top).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


@pytest.mark.parametrize("name", OUTER)
def test_the_links_are_relative_and_tracked_as_links(name):
    link = ROOT / "rralloc" / name
    assert link.is_symlink()
    assert link.readlink() == Path(f"../{name}")
    assert link in tracked()


@pytest.mark.parametrize("name", OUTER)
def test_a_top_level_import_is_refused_with_advice(name):
    said = python(f"import {name}", cwd=ROOT)
    assert said.returncode == 1
    assert f"ImportError: import rralloc.{name}" in said.stderr
    assert "a top-level import makes" in said.stderr


@pytest.mark.parametrize("name", OUTER)
def test_the_library_name_works_from_anywhere(name, tmp_path):
    said = python(f"import rralloc.{name} as m; print(m.__name__)", cwd=tmp_path)
    assert said.stdout.strip() == f"rralloc.{name}", said.stderr


def test_unknown_names_are_refused_with_a_suggestion():
    said = python("from rralloc.problems import WaterFiling")
    assert "ImportError" in said.stderr
    with pytest.raises(AttributeError, match="Did you mean 'WaterFilling'"):
        _ = rr.problems.WaterFiling
    assert "WaterFilling" in dir(rr.problems)
    assert "LevelSolver" in dir(rr.solvers)


# -- imports --------------------------------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    said = python(f"{code}\nimport sys; print(*sys.modules)")
    assert said.returncode == 0, said.stderr
    return {name.partition(".")[0] for name in said.stdout.split()} & set(HEAVY)


def test_importing_the_library_loads_numpy_alone():
    assert loaded_by("import rralloc") == set()
    assert loaded_by("import rralloc; dir(rralloc); rralloc.Status.GLOBAL") == set()


def test_a_first_solution_loads_no_modelling_language():
    code = (
        "import rralloc as rr\n"
        "from rralloc.problems import WaterFilling\n"
        "print(rr.solve(WaterFilling.random(K=3, rng=0)))"
    )
    assert not loaded_by(code) & {"cvxpy", "pyomo", "matplotlib", "pandas", "sklearn", "tqdm"}


def test_training_loads_no_modelling_language():
    heavy = loaded_by("import rralloc as rr; rr.fl.Task; rr.fl.Link")
    assert not heavy & {"cvxpy", "pyomo", "matplotlib", "pandas", "sklearn", "tqdm"}


@pytest.mark.parametrize("name", rr.__all__)
def test_every_public_name_resolves_and_is_documented(name):
    thing = getattr(rr, name)
    assert (thing.__doc__ or "").strip()


def test_all_is_sorted_and_complete():
    assert sorted(rr.__all__) == list(rr.__all__)
    assert set(dir(rr)) == set(rr.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = rr.nonsense


# -- direction of dependencies --------------------------------------------------------------------


def imported(path: Path, everywhere: bool) -> set[str]:
    """Modules a file imports: in its body (type checking left out), or in functions too."""
    found = set()
    pending = list(ast.parse(path.read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).with_suffix("").parts
            base = ".".join(package[: -node.level]) if node.level else ""
            module = ".".join(p for p in (base, node.module or "") if p)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not everywhere:
            continue
        else:
            pending += list(ast.iter_child_nodes(node))
    return found


def under(names: set[str], package: str) -> set[str]:
    return {n for n in names if n == package or n.startswith(f"{package}.")}


def modules(top: str) -> list[Path]:
    return [p for p in (ROOT / top).rglob("*.py") if not any(q.is_symlink() for q in p.parents)]


def test_the_walk_sees_imports():
    here = imported(Path(__file__), everywhere=False)
    assert {"ast", "rralloc", "pathlib.Path"} <= here
    assert under(imported(ROOT / "solvers" / "level.py", False), "rralloc.forms")


@pytest.mark.parametrize("path", modules("rralloc"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_frame_knows_no_problem_and_no_solver(path):
    names = imported(path, everywhere=False)
    for package in OUTER:
        assert not under(names, f"rralloc.{package}")
        assert not under(names, package)


@pytest.mark.parametrize("path", modules("problems"), ids=lambda p: p.name)
def test_problems_do_not_import_solvers(path):
    names = imported(path, everywhere=True)
    assert not under(names, "rralloc.solvers")
    assert not under(names, "rralloc.driver")


@pytest.mark.parametrize("path", modules("solvers"), ids=lambda p: p.name)
def test_solvers_do_not_import_problems(path):
    assert not under(imported(path, everywhere=True), "rralloc.problems")


@pytest.mark.parametrize(
    "path",
    [p for top in ("rralloc", *OUTER) for p in modules(top)],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_heavy_packages_load_on_first_use(path):
    names = {n.partition(".")[0] for n in imported(path, everywhere=False)}
    assert not names & set(HEAVY)


# -- what is in the repository --------------------------------------------------------------------


def test_no_file_names_a_package_registry():
    hosts = [
        *("pypi" + ".org", "pythonhosted" + ".org", "index" + "-url", "extra" + "-index"),
        *("--find" + "-links", "conda" + ".anaconda.org", "npmjs" + ".com", "artifact" + "ory"),
    ]
    for path in tracked():
        if path.is_file() and not path.is_symlink():
            text = path.read_bytes().decode("utf-8", errors="ignore").lower()
            assert not [h for h in hosts if h in text], path


def test_no_compiled_or_private_files_are_tracked():
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        assert not name.endswith((".pyc", ".so", ".egg-info", ".DS_Store")), name
        assert "__pycache__" not in name
        assert not name.startswith((".venv/", "build/", "dist/"))
