"""``rralloc``: scenarios in, results out, from a terminal.

    rralloc random WaterFilling --devices 8 --output scenario.json
    rralloc solve scenario.json --output result.json
    rralloc verify result.json
    rralloc certify library

Exit codes: 0 done; 1 the point is not feasible (``verify``) or a claim is false (``certify``); 2 it
could not be done, with the reason in one paragraph; 130 stopped from the keyboard.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rralloc as rr
from rralloc import io, registry
from rralloc._cli_library import COMMANDS
from rralloc._cli_text import allocation, describe, index
from rralloc.errors import InvalidProblem, NotOffered, RRAllocError, UnknownName, UnknownOption
from rralloc.plot._style import PICTURES
from rralloc.pool import pool_of
from rralloc.tables import check_suffix


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("stopped; what was written is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (RRAllocError, OSError, json.JSONDecodeError) as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"rralloc: {_paragraph(error)}", file=sys.stderr)
        return 2
    return code


def _paragraph(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


# -- commands -----------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> None:
    if arguments.problem is not None:
        describe(registry.problem_class(arguments.problem))
        return
    solvers = {
        name: cls
        for cls in registry.solver_classes().values()
        for name in (cls.names() or (f"{cls.name}:...",))
    }
    index("problems", registry.problem_classes())
    index("solvers, in the order in which a default is looked for", solvers)
    index("policies", registry.policies())
    index("studies", registry.studies())


def _solve(arguments: argparse.Namespace) -> None:
    problem = io.load_scenario(arguments.scenario)
    options = dict(arguments.option)
    reserved = {"problem", "solver", "start", "rng", "callback"} & set(options)
    if reserved:
        raise UnknownOption(f"--option {', '.join(sorted(reserved))}: not an option of a solver")
    flags = {n: getattr(arguments, n) for n in ("tol", "time_limit", "certify")}
    sol = rr.solve(problem, arguments.solver, rng=arguments.seed, **flags | options)
    print(repr(sol))
    for line in allocation(sol):
        print(line)
    if arguments.output is not None:
        io.save_result(sol, arguments.output)
        print(f"written to {arguments.output}")


def _compare(arguments: argparse.Namespace) -> None:
    if arguments.output is not None:
        check_suffix(arguments.output.suffix.lower())
    if arguments.profile is not None and arguments.profile.suffix.lower() not in PICTURES:
        raise UnknownName("kind of figure", arguments.profile.suffix, PICTURES)
    from rralloc.study import compare

    problems = {}
    for path in arguments.scenarios:
        name = path.stem if path.stem not in problems else str(path)
        problems[name] = io.load_scenario(path)
    flags = {n: getattr(arguments, n) for n in ("time_limit", "path", "chunk", "repeat")}
    with pool_of(arguments.jobs) as executor:
        comparison = compare(problems, arguments.solver, executor=executor, **flags)
    print(comparison.summary())
    if arguments.output is not None:
        comparison.save(arguments.output)
        print(f"written to {arguments.output}")
    if arguments.profile is not None:
        rr.plot.save(rr.plot.profile(comparison), arguments.profile)
        print(f"profile written to {arguments.profile}")


def _study(arguments: argparse.Namespace) -> None:
    known = registry.studies()
    if arguments.name is None:
        index("studies", known)
        return
    if arguments.name not in known:
        raise UnknownName("study", arguments.name, known)
    out = arguments.out or Path("results") / arguments.name
    settings = dict(arguments.set) | {"out": out, "quick": arguments.quick}
    if arguments.seeds is not None:
        settings["seeds"] = arguments.seeds
    study = known[arguments.name]
    _check_call(study, arguments.name, settings)
    out.mkdir(parents=True, exist_ok=True)
    found = study(**settings)
    if found is not None:
        print(found)
    print(f"written to {out}")


def _check_call(function: Callable[..., Any], name: str, settings: dict[str, Any]) -> None:
    import inspect

    try:
        inspect.signature(function).bind(**settings)
    except TypeError as error:
        raise UnknownOption(f"{name}{inspect.signature(function)}: {error}") from error


def _verify(arguments: argparse.Namespace) -> int:
    held = io.load(arguments.file)
    problem = held if isinstance(held, rr.Problem) else held.problem
    if arguments.point is not None:
        point = io.load_point(arguments.point, problem)
    elif isinstance(held, rr.Solution):
        point = held.x
    else:
        fields = ", ".join(f'"{v.name}": [...]' for v in problem.variables if not v.derived)
        raise NotOffered(
            f"{arguments.file} is a scenario, which has no point; name a second file that holds "
            f"one, {{{fields}}}"
        )
    report = rr.verify(problem, point)
    print(report)
    print("feasible" if report.ok() else "not feasible")
    return 0 if report.ok() else 1


def _random(arguments: argparse.Namespace) -> None:
    cls = registry.problem_class(arguments.problem)
    drawn = {"K": arguments.devices, "batch": arguments.batch, "rng": arguments.seed}
    try:
        problem = cls.random(**dict(arguments.set) | drawn)
    except RRAllocError:
        raise
    except (TypeError, ValueError) as error:
        fields = ", ".join((*cls._data, *(i.alias or n for n, i in cls._options.items())))
        raise InvalidProblem(f"{cls.__name__}.random: {error}; fields: {fields}") from error
    io.save_scenario(problem, arguments.output)
    print(f"{problem!r} written to {arguments.output}")


def _schema(arguments: argparse.Namespace) -> None:
    print(json.dumps(io.schema(registry.problem_class(arguments.problem)), indent=2))


# -- arguments ----------------------------------------------------------------------------------


def _pair(text: str) -> tuple[str, Any]:
    """``key=value``; the value is JSON, or a word."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not key=value")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rralloc", description="Radio-resource allocation: solve, compare, verify scenarios."
    )
    parser.add_argument("--version", action="version", version=f"rralloc {rr.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, (run, arguments, words) in _COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words, parents=[everywhere])
        command.set_defaults(run=run)
        arguments(command.add_argument)
    return parser


Add = Callable[..., Any]


def _list_arguments(add: Add) -> None:
    add("problem", nargs="?", help="a problem, e.g. WaterFilling")


def _solve_arguments(add: Add) -> None:
    add("scenario", type=Path, help="a scenario file (JSON)")
    add("--solver", help="default: the problem's own, else the first that applies")
    _pairs(add, "--option", "settings of the solver")
    add("--time-limit", type=float, metavar="S", help="wall seconds for all instances together")
    add("--tol", type=float, help="the solver's stopping tolerance")
    add(
        "--certify",
        choices=("none", "cheap", "full"),
        default="cheap",
        help="how hard to look for a proof of optimality (default: cheap)",
    )
    add("--seed", type=int, help="seed of solvers that draw")
    add("--output", type=Path, metavar="FILE", help="write the result here (JSON)")


def _compare_arguments(add: Add) -> None:
    add("scenarios", type=Path, nargs="+", metavar="scenario", help="scenario files (JSON)")
    add("--solver", nargs="+", action="extend", metavar="NAME", help="default: all that apply")
    add("--time-limit", type=float, metavar="S", help="wall seconds for each solver and scenario")
    add("--repeat", type=int, default=1, metavar="N", help="calls of each; the quickest counts")
    add("--chunk", type=int, metavar="N", help="cut batches into parts of at most N instances")
    add("--jobs", type=int, default=1, metavar="N", help="processes (default: this one alone)")
    add("--path", type=Path, metavar="FILE", help="keep results here (JSON lines) and resume")
    add("--output", type=Path, metavar="FILE", help="table to write: .csv, .json, .md or .tex")
    add("--profile", type=Path, metavar="FILE", help="figure to write: a performance profile")


def _study_arguments(add: Add) -> None:
    add("name", nargs="?", help="a study")
    add("--out", type=Path, metavar="DIR", help="folder to write to (default: results/NAME)")
    add("--quick", action="store_true", help="a small version, to see that it works")
    add("--seeds", type=int, metavar="N", help="how many random repetitions")
    _pairs(add, "--set", "settings of the study")


def _verify_arguments(add: Add) -> None:
    add("file", type=Path, help="a result, or a scenario followed by a point")
    add("point", type=Path, nargs="?", help='a point (JSON), e.g. {"power_w": [1.0, 2.0]}')


def _random_arguments(add: Add) -> None:
    add("problem", help="a problem, e.g. WaterFilling")
    add("--devices", type=int, required=True, metavar="K", help="how many devices or channels")
    add("--batch", type=int, metavar="N", help="how many instances (default: one, without a batch)")
    add("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    _pairs(add, "--set", "fields, options and settings of the generator")
    add("--output", type=Path, required=True, metavar="FILE", help="write the scenario here")


def _schema_arguments(add: Add) -> None:
    add("problem", help="a problem, e.g. WaterFilling")


def _pairs(add: Add, flag: str, words: str) -> None:
    add(
        flag,
        type=_pair,
        nargs="+",
        action="extend",
        default=[],
        metavar="key=value",
        help=f"{words}; a value is JSON or a word",
    )


_COMMANDS: dict[str, tuple[Callable[..., int | None], Callable[[Add], None], str]] = {
    "list": (
        _list,
        _list_arguments,
        "what there is: problems, solvers, policies, studies; of a problem its fields and solvers",
    ),
    "solve": (
        _solve,
        _solve_arguments,
        "allocate: solve a scenario and say what is proven about the answer",
    ),
    "compare": (
        _compare,
        _compare_arguments,
        "run several solvers on the same scenarios and put them side by side",
    ),
    "study": (
        _study,
        _study_arguments,
        "run a study, a whole experiment with its figures; without a name, list them",
    ),
    "verify": (
        _verify,
        _verify_arguments,
        "check a point against every constraint, whoever found it; exit code 1 if not feasible",
    ),
    "random": (
        _random,
        _random_arguments,
        "write a random scenario, to have something to solve",
    ),
    "schema": (
        _schema,
        _schema_arguments,
        "print the JSON Schema of a problem's scenarios, to write or validate one by hand",
    ),
} | COMMANDS

if __name__ == "__main__":
    sys.exit(main())
