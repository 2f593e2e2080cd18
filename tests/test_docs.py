"""The documentation says nothing false: its code runs, what it shows is what comes out.

Python blocks of a page run top to bottom in one namespace, in a temporary folder, with warnings as
errors. ``>>>`` blocks are doctests (``...`` stands for what differs between machines); ``console``
blocks run the command line in this process. Names, links and source references must exist.
"""

from __future__ import annotations

import doctest
import re
import runpy
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rralloc as rr
from rralloc import channel, cli, fl, registry

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [p for p in sorted(DOCS.rglob("*.md")) if "_build" not in p.parts]
README = ROOT / "README.md"
READ = [*PAGES, *([README] if README.exists() else [])]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FENCE = re.compile(r"^(`{3,})(\{[\w-]+\})?[ ]*([\w-]*)[ ]*\n(.*?)^\1[ ]*$", re.M | re.S)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    """Language, text and first line of every fenced block; a directive's options left out."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        directive, language, code = found[2], found[3], found[4]
        if directive in (None, "{code-cell}"):
            code = re.sub(r"\A(:[\w-]+:.*\n)+", "", code)
            yield language, code, text.count("\n", 0, found.start(4)) + 1


def run_doctest(code: str, namespace: dict[str, Any], page: Path, line: int) -> None:
    test = doctest.DocTestParser().get_doctest(code, namespace, name_of(page), str(page), line - 1)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    runner.run(test, out=told.append, clear_globs=False)
    namespace.update(test.globs)
    assert not runner.failures, "".join(told)


def run_plain(code: str, namespace: dict[str, Any], page: Path, line: int) -> None:
    code = re.sub(r"^%.*$", "", code, flags=re.M)  # magics are for notebooks
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


def run_console(code: str, capsys: pytest.CaptureFixture[str], page: Path) -> None:
    """``$ rralloc ...`` lines, each with the output that follows it (none shown, none checked)."""
    for part in re.split(r"^\$ ", code, flags=re.M)[1:]:
        command, _, expected = part.partition("\n")
        words = shlex.split(command, comments=True)
        if words[0] != "rralloc":
            continue
        capsys.readouterr()
        assert cli.main(words[1:]) in (0, None), f"{name_of(page)}: {command}"
        got = capsys.readouterr().out
        if expected.strip():
            same = doctest.OutputChecker().check_output(expected.rstrip() + "\n", got, FLAGS)
            assert same, f"{name_of(page)}: {command}\nshown:\n{expected}\ngot:\n{got}"


@pytest.fixture
def clean_registry() -> Iterator[None]:
    """What a page registers is forgotten after it."""
    before = dict(registry._guests)
    yield
    registry._guests.clear()
    registry._guests.update(before)
    tables = registry.solver_classes, registry.problem_classes, registry.policies, registry.studies
    for cached in tables:
        cached.cache_clear()


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_code_of_page(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    clean_registry: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "library").symlink_to(ROOT / "library")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    module = type(sys)("__main__")
    namespace = module.__dict__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for language, code, line in blocks(page):
            if language == "console":
                run_console(code, capsys, page)
            elif language == "python" and ">>>" in code:
                run_doctest(code, namespace, page, line)
            elif language == "python":
                run_plain(code, namespace, page, line)


def test_a_false_line_is_found(tmp_path: Path) -> None:
    """The machinery itself: a wrong output must not pass."""
    page = ROOT / "docs" / "index.md"
    with pytest.raises(AssertionError, match="Expected"):
        run_doctest(">>> 1 + 1\n3\n", {}, page, 1)


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_example(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    clean_registry: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    told = capsys.readouterr().out
    assert told
    assert "failed" not in told
    assert len(script.read_text().splitlines()) <= 60


def test_own_solver_is_good(clean_registry: None) -> None:
    """The example's method is worth showing: close to the optimum, and graded by the problem."""
    runpy.run_path(str(ROOT / "examples" / "own_solver.py"), run_name="example")
    problem = rr.problems.FDMARate.random(K=8, batch=20, rng=0)
    sol, best = rr.solve(problem, "exponentiated"), rr.solve(problem)
    assert (sol.objective >= best.objective * (1 - 1e-4)).all()


# -- completeness ----------------------------------------------------------------------------------


def public_names() -> list[str]:
    names = [f"rr.{n}" for n in rr.__all__]
    names += [*fl.__all__, *channel.__all__, *rr.plot.__all__, *rr.io.__all__]
    names += list(registry.problem_classes())
    for cls in registry.solver_classes().values():
        names += [cls.__name__, *(cls.names() or (cls.name,))]
    names += [n for n, v in vars(rr.errors).items() if isinstance(v, type) and n[0].isupper()]
    return names


@pytest.mark.parametrize("name", sorted(set(public_names()) - {"Any", "Iterable"}))
def test_api_page_names(name: str) -> None:
    text = (DOCS / "api.md").read_text()
    short = name.removeprefix("rr.")
    assert re.search(rf"(?<![\w-]){re.escape(short)}(?![\w-])", text), f"api.md lacks {name}"


def test_problems_page_has_all() -> None:
    headings = re.findall(r"^## (\w+)", (DOCS / "problems.md").read_text(), re.M)
    assert sorted(headings) == sorted(registry.problem_classes())


# -- references ------------------------------------------------------------------------------------


def computed_by() -> list[str]:
    text = "".join(p.read_text() for p in PAGES)
    parts = re.findall(r"^```\{computed-by\}\n(.*?)^```", text, re.M | re.S)
    return [line for part in parts for line in part.split("\n") if line.strip()]


def test_equations_point_at_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    from locate import locate

    assert len(computed_by()) > 30
    for reference in computed_by():
        place = locate(reference)
        assert place.name.split(".")[-1] in place.text, reference
    with pytest.raises(LookupError, match="no Nobody"):
        locate("problems/sum_rate.py::Nobody")


def slug(heading: str) -> str:
    plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return plain.replace(" ", "-")


def source_of(target: Path) -> Path:
    """Notebook pages are made from scripts when the documentation is built."""
    if target.suffix == ".ipynb":
        return ROOT / "notebooks" / f"{target.stem}.py"
    return target


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_links(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = source_of((page.parent / file).resolve()) if file else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in map(slug, headings), f"{name_of(page)}: {link}"


def test_every_page_is_in_the_index() -> None:
    text = (DOCS / "index.md").read_text()
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.M | re.S)
    listed = {e for t in trees for e in t.split("\n") if e and not e.startswith(":")}
    have = {p.relative_to(DOCS).with_suffix("").as_posix() for p in PAGES} - {"index"}
    have |= {f"notebooks/{p.stem}" for p in (ROOT / "notebooks").glob("*.py")}
    assert listed == have
