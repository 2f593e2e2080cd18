"""Mutation testing of ``verify`` and ``solution``: would a test notice if a line were wrong?

    python benchmarks/mutation.py --output benchmarks/mutation.json

Each mutant is one small change of the syntax tree, tried alone in a copy of the tree in a temporary
folder: comparison, arithmetic and min/max swaps, constants +-1 (tolerances x and / 10), ``and`` for
``or``, flipped flags and conditions, a dropped ``not`` or minus, a negated or missing return, a
dropped statement. Two copies at most run at a time. Results go to a JSONL file as they come, and a
run that is started again with it goes on where it ended. Survivors that no test can kill are in
``mutation_equivalent.json``, each with the reason.

cosmic-ray 8.7 was tried: of its 657 mutants of these two files most are bit operators in place of
``/`` and changed annotations (never evaluated here), and it drops no statement.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PARTS = ("rralloc", "problems", "solvers", "studies", "tests", "pyproject.toml")
FRAME = ("test_verify_mutants", "test_frame_verify", "test_frame_status", "test_frame_certify")
TESTS = tuple(f"tests/frame/{name}.py" for name in FRAME)
TARGETS = {"rralloc/verify.py": TESTS, "rralloc/solution.py": TESTS}

COMPARE: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
BINARY: dict[type, type] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.Pow: ast.Mult, ast.FloorDiv: ast.Div, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}
PAIRS = ("min max", "minimum maximum", "nanmin nanmax", "argmin argmax", "any all", "zeros ones")
SWAPPED = {a: b for pair in PAIRS for a, b in (pair.split(), pair.split()[::-1])}
DROPPED = (ast.Assign, ast.AugAssign, ast.Expr, ast.Raise, ast.If, ast.For, ast.Continue)


class Mutant(NamedTuple):
    """One change: where, what, and the module's text with it."""

    file: str
    line: int
    diff: str
    text: str
    key: str


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in a node's place."""
    if isinstance(node, ast.Compare):
        for position, op in enumerate(node.ops):
            for other in COMPARE[type(op)]:
                ops = [*node.ops[:position], other(), *node.ops[position + 1 :]]
                yield ast.Compare(node.left, ops, node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        yield ast.BinOp(node.left, BINARY[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        small = isinstance(node.value, float) and 0 < abs(node.value) < 1
        by_ten, by_one = (node.value * 10, node.value / 10), (node.value + 1, node.value - 1)
        yield from map(ast.Constant, by_ten if small else by_one)
    elif isinstance(node, ast.Attribute) and node.attr in SWAPPED:
        yield ast.Attribute(node.value, SWAPPED[node.attr], node.ctx)
    elif isinstance(node, ast.Name) and node.id in SWAPPED:
        yield ast.Name(SWAPPED[node.id], node.ctx)
    elif isinstance(node, ast.If | ast.IfExp):
        other = copy.copy(node)
        other.test = ast.UnaryOp(ast.Not(), node.test)
        yield other
    elif isinstance(node, ast.Return) and node.value is not None:
        yield ast.Return(ast.Constant(None))
        if isinstance(node.value, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.BinOp):
            negated = ast.Not() if isinstance(node.value, ast.Compare | ast.BoolOp) else ast.USub()
            yield ast.Return(ast.UnaryOp(negated, node.value))


def mutants(file: str, source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    before = ast.unparse(tree)
    found: dict[str, Mutant] = {}
    for parent, name, position, node, inside in _places(tree):
        others = list(changes(node))
        if inside and isinstance(node, DROPPED):
            others.append(ast.Pass())
        for other in others:
            _put(parent, name, position, other)
            text = ast.unparse(ast.fix_missing_locations(tree))
            _put(parent, name, position, node)
            lines = difflib.unified_diff(before.splitlines(), text.splitlines(), lineterm="", n=0)
            diff = "\n".join(d for d in list(lines)[2:] if not d.startswith("@@"))
            line = getattr(node, "lineno", 0)
            key = hashlib.sha256(f"{file}{text}".encode()).hexdigest()[:16]
            if diff:
                found.setdefault(key, Mutant(file, line, diff, text, key))
    return sorted(found.values(), key=lambda m: m.line)


def _places(
    parent: ast.AST, inside: bool = False
) -> Iterator[tuple[ast.AST, str, int | None, ast.AST, bool]]:
    """Nodes that may change; not annotations, documentation, or what only a type checker reads."""
    for name, value in ast.iter_fields(parent):
        if name in ("annotation", "returns", "type_params"):
            continue
        for position, node in enumerate(value if isinstance(value, list) else [value]):
            words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if not isinstance(node, ast.AST) or words or "TYPE_CHECKING" in ast.unparse(node)[:16]:
                continue
            yield parent, name, position if isinstance(value, list) else None, node, inside
            yield from _places(node, inside or isinstance(node, ast.FunctionDef))


def _put(parent: ast.AST, name: str, position: int | None, node: ast.AST) -> None:
    if position is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[position] = node


def run_tests(tree: Path, tests: tuple[str, ...], limit: float) -> tuple[str, str]:
    """``survived``, or ``killed`` and by what, or ``late``."""
    paths = [t for t in tests if (tree / t).exists()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    environment = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    whole = os.environ | environment | threads
    try:
        done = subprocess.run(
            [*command, *paths], cwd=tree, env=whole, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return "late", ""
    said = [s for s in done.stdout.splitlines() if s.startswith(("FAILED", "ERROR"))]
    return ("survived" if done.returncode == 0 else "killed"), (said[0][:160] if said else "")


def copy_tree(target: Path) -> Path:
    """What the tests need, with no bytecode that could hide a change."""
    target.mkdir()
    skip = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, symlinks=True, ignore=skip)
        else:
            shutil.copy(source, target / part)
    return target


def score(rows: dict[str, dict[str, Any]], every: list[Mutant]) -> dict[str, Any]:
    """Per file: mutants, killed, equivalent with their reasons, survivors."""
    reasons = {}
    for entry in json.loads((Path(__file__).parent / "mutation_equivalent.json").read_text()):
        reasons |= {(entry["file"], diff): entry["reason"] for diff in entry["diffs"]}
    out: dict[str, Any] = {}
    for mutant in every:
        here = out.setdefault(
            mutant.file, {"mutants": 0, "killed": 0, "equivalent": [], "survived": []}
        )
        here["mutants"] += 1
        if rows[mutant.key]["result"] != "survived":
            here["killed"] += 1
            continue
        shown = {"line": mutant.line, "diff": mutant.diff}
        reason = reasons.get((mutant.file, mutant.diff))
        here["equivalent" if reason else "survived"].append(
            shown | ({"reason": reason} if reason else {})
        )
    for here in out.values():
        here["score"] = round(here["killed"] / (here["mutants"] - len(here["equivalent"])), 4)
    return out


def main() -> None:
    """Try every mutant; print the score and the survivors, write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="the result, as JSON")
    parser.add_argument("--rows", type=Path, help="one line a mutant; read again to resume")
    parser.add_argument("--only", default="", help="files with this in their name")
    parser.add_argument("--again", action="store_true", help="try earlier survivors again")
    asked = parser.parse_args()
    targets = {f: t for f, t in TARGETS.items() if asked.only in f}
    every = [m for f in targets for m in mutants(f, (ROOT / f).read_text())]
    rows: dict[str, dict[str, Any]] = {}
    if asked.rows and asked.rows.exists():
        rows = {r["key"]: r for r in map(json.loads, asked.rows.read_text().splitlines())}
    waiting = [
        m
        for m in every
        if m.key not in rows or (asked.again and rows[m.key]["result"] == "survived")
    ]
    with tempfile.TemporaryDirectory(prefix="rralloc-mutation-") as folder:
        trees: Queue[Path] = Queue()
        for number in range(2 if waiting else 0):
            trees.put(copy_tree(Path(folder) / str(number)))
        limits: dict[str, float] = {}
        for file, tests in targets.items() if waiting else ():
            began = time.perf_counter()
            verdict, why = run_tests(trees.queue[0], tests, 600.0)
            if verdict != "survived":
                raise SystemExit(f"the tests of {file} fail without a mutant: {why}")
            limits[file] = 20.0 + 5 * (time.perf_counter() - began)

        def attempt(mutant: Mutant) -> dict[str, Any]:
            tree = trees.get()
            path, whole = tree / mutant.file, (ROOT / mutant.file).read_text()
            try:
                path.write_text(mutant.text)
                result, why = run_tests(tree, targets[mutant.file], limits[mutant.file])
            finally:
                path.write_text(whole)
                trees.put(tree)
            return {"key": mutant.key, "line": mutant.line, "result": result, "by": why}

        with ThreadPoolExecutor(2) as pool:
            for row in pool.map(attempt, waiting):
                rows[row["key"]] = row
                if asked.rows:
                    with asked.rows.open("a") as log:
                        log.write(json.dumps(row) + "\n")
    found = score(rows, every)
    for file, here in found.items():
        left = here["mutants"] - len(here["equivalent"])
        print(f"{file}: {here['killed']} of {left} killed, {len(here['equivalent'])} equivalent")
        for mutant in here["survived"]:
            print(f"  {file}:{mutant['line']}\n    " + mutant["diff"].replace("\n", "\n    "))
    if asked.output:
        command = "python benchmarks/mutation.py --output benchmarks/mutation.json"
        document = {"command": command, "tests": {f: list(t) for f, t in targets.items()}} | found
        asked.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
