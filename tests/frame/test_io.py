"""Scenarios and results come back from JSON bit for bit, and a wrong file says what is wrong."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rralloc as rr
from rralloc import io, registry
from rralloc.errors import InvalidProblem, ScenarioError, UnknownName
from rralloc.fields import data, option, variable
from rralloc.problems import WaterFilling
from rralloc.typing import Array


class Beam(rr.Problem):
    """Every kind of field and option in one toy."""

    sense = "max"
    channel: Array = data("N K", unit="1", dtype=complex, doc="channel")
    price: Array = data("K", unit="1/J", low=0, inf=True, doc="price of energy")
    offset: Array = data("K", unit="W", inf=True, default=0.0, doc="either sign")
    count: Array = data(unit="1", low=1, dtype=int, default=1, doc="antennas per panel")
    on: Array = data("K", unit="1", dtype=bool, default=True, doc="who takes part")
    floor: Array = data("K", unit="W", low=0, high=2, open_low=True, open_high=True, default=None)
    rule: str = option(default="plain", choices=("plain", "fair"), doc="how to weigh")
    levels: tuple = option(default=(1, 2.5))
    horizon: float = option(default=math.inf)
    extra: object = option(default=None)

    beam = variable("N", unit="1", dtype=complex)
    served = variable("K", unit="1", dtype=bool, derived=True)

    def objective(self, x):
        return np.abs(x["beam"]).sum(-1)

    def complete(self, x):
        total = np.abs(x["beam"]).sum(-1)[..., None]
        shape = self.shape_of(type(self).served)
        return {**x, "served": np.broadcast_to(total > self.price, shape)}


@pytest.fixture(scope="module", autouse=True)
def _known():
    """The toy is known here and forgotten afterwards."""
    rr.register(Beam)
    yield
    del registry._guests["Beam"]
    registry.problem_classes.cache_clear()


def strict(document: dict) -> dict:
    """The document as another program reads it: JSON without NaN or Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(io.dumps(document), parse_constant=refuse)


def valid(document: dict, schema: dict) -> bool:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).is_valid(document)


# -- round trips --------------------------------------------------------------------------------

# 40 orders of magnitude, with the exact zero.
positive = st.one_of(st.just(0.0), st.floats(-20, 20).map(lambda e: 10.0**e))
words = st.text('aé∞"\\\n\ud800', max_size=5)
signed = st.one_of(st.just(-0.0), st.floats(-1e20, 1e20), positive)


@st.composite
def fillings(draw):
    batch = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    size = draw(st.integers(1, 4))
    gain = draw(hnp.arrays(float, (*batch, size), elements=positive))
    power = draw(hnp.arrays(float, draw(st.sampled_from([(), batch])), elements=positive))
    return WaterFilling(gain=gain, power_budget_w=power)


@st.composite
def beams(draw):
    antennas, devices = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    batch = draw(st.sampled_from([(), (2,), (2, 1)]))
    parts = hnp.arrays(float, (2, *batch, antennas, devices), elements=signed)
    re, im = draw(parts)
    channel = np.empty(re.shape, complex)
    channel.real, channel.imag = re, im
    infinite = st.one_of(positive, st.just(math.inf))
    both = st.one_of(signed, st.sampled_from([math.inf, -math.inf]))
    inside = st.floats(0, 2, exclude_min=True, exclude_max=True)
    json_values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words
    return Beam(
        channel=channel,
        price=draw(hnp.arrays(float, (*batch, devices), elements=infinite)),
        offset=draw(st.one_of(hnp.arrays(float, devices, elements=both), both)),
        count=draw(st.integers(1, 2**62)),
        on=draw(hnp.arrays(bool, devices)),
        floor=draw(st.none() | hnp.arrays(float, devices, elements=inside)),
        rule=draw(st.sampled_from(["plain", "fair"])),
        levels=draw(st.recursive(st.tuples(signed), lambda v: st.tuples(v, signed))),
        horizon=draw(st.sampled_from([math.inf, -math.inf, 3.0, 3])),
        extra=draw((json_values | st.tuples(json_values)).filter(lambda v: "inf" not in repr(v))),
    )


@settings(deadline=None)
@given(st.one_of(fillings(), beams()))
def test_a_scenario_comes_back_bit_for_bit(problem) -> None:
    document = strict(io.to_dict(problem))
    again = io.from_dict(document)
    assert type(again) is type(problem)
    assert again.digest == problem.digest
    assert again.batch_shape == problem.batch_shape
    assert repr(again) == repr(problem)
    assert valid(document, io.schema(type(problem)))


def drawable() -> list[str]:
    classes = registry.problem_classes().items()
    drawn = rr.Problem.random_fields.__func__
    return [n for n, cls in classes if cls.random_fields.__func__ is not drawn]


@pytest.mark.parametrize("name", drawable())
def test_every_problem_and_its_solution_can_be_saved(name: str, tmp_path: Path) -> None:
    cls = registry.problem_class(name)
    problem = cls.random(K=3, batch=2, rng=0)
    io.save_scenario(problem, tmp_path / "s.json")
    assert io.load_scenario(tmp_path / "s.json") == problem
    assert valid(io.read_json(tmp_path / "s.json"), io.schema(cls))


def beam_solution(batch: tuple[int, ...] = ()) -> rr.Solution:
    problem = Beam(channel=np.ones((*batch, 2, 3)), price=[1.0, 9.0, math.inf])
    pilot = rr.solve(WaterFilling.random(K=2, batch=batch or None, rng=0))
    x = problem.complete({"beam": np.full((*batch, 2), 1.5 - 0.5j)})
    return replace(pilot, problem=problem, x=x)


def assert_same(a: rr.Solution, b: rr.Solution) -> None:
    assert a.problem == b.problem
    for mine, yours in ((a.x, b.x), (a.duals, b.duals)):
        assert mine.keys() == yours.keys()
        for name in mine:
            np.testing.assert_array_equal(mine[name], yours[name], strict=True)
    for name in ("objective", "bound", "gap", "violation", "raw_violation", "kkt", "iterations"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
    for name in ("status", "stopped"):
        assert type(getattr(a, name)) is type(getattr(b, name))
        np.testing.assert_array_equal(np.asarray(getattr(a, name)), np.asarray(getattr(b, name)))
    for name in ("solver", "bound_method", "message", "seconds", "cpu_seconds"):
        assert getattr(a, name) == getattr(b, name)


@pytest.mark.parametrize("batch", [None, 3, (2, 2)])
def test_a_result_comes_back(tmp_path: Path, batch) -> None:
    sol = rr.solve(WaterFilling.random(K=4, batch=batch, rng=1))
    io.save_result(sol, tmp_path / "r.json")
    again = io.load_result(tmp_path / "r.json")
    assert_same(sol, again)
    assert repr(again) == repr(sol)
    assert len(again.trace) == 0
    assert rr.verify(again.problem, again).ok()


@pytest.mark.parametrize("batch", [(), (3,)])
def test_complex_and_boolean_variables_come_back(batch) -> None:
    sol = beam_solution(batch)
    document = strict(io.result_to_dict(sol))
    assert valid(document, io.RESULT_SCHEMA)
    assert valid(document["scenario"], io.schema(Beam))
    assert_same(sol, io.result_from_dict(document))


@settings(deadline=None)
@given(
    hnp.arrays(float, 2, elements=st.floats()),
    hnp.arrays(np.int8, 2, elements=st.integers(0, 5)),
    words,
)
def test_whatever_numbers_a_result_has(numbers, words, message) -> None:
    sol = rr.solve(WaterFilling.random(K=2, batch=2, rng=0))
    sol = replace(
        sol,
        objective=numbers,
        bound=numbers[::-1],
        message=message,
        x={"power_w": np.stack([numbers, numbers])},
        status=rr.solution.codes(words, rr.Status),
        stopped=rr.solution.codes(words[::-1], rr.Stopped),
        duals={"price": numbers, "count": words.astype(int), "on": words > 2},
    )
    document = strict(io.result_to_dict(sol))
    assert valid(document, io.RESULT_SCHEMA)
    assert_same(sol, io.result_from_dict(document))


def test_missing_numbers_are_null_and_infinite_ones_are_words() -> None:
    sol = rr.solve(WaterFilling.random(K=2, batch=2, rng=0), certify="none")
    document = strict(io.result_to_dict(replace(sol, kkt=np.array([np.nan, np.inf]))))
    assert document["bound"] == [None, None]
    assert document["kkt"] == [None, "inf"]


def test_a_variable_that_was_not_found_is_null_whatever_its_kind() -> None:
    sol = beam_solution((2,))
    found = np.array([[1.0, 0.0, 1.0], [np.nan] * 3])
    document = strict(io.result_to_dict(replace(sol, x={**sol.x, "served": found})))
    np.testing.assert_array_equal(io.result_from_dict(document).served, found, strict=True)


def test_a_dual_that_is_no_array_of_numbers_is_named() -> None:
    sol = rr.solve(WaterFilling.random(K=2, rng=0))
    tree = np.array(None, dtype=object)
    again = io.result_from_dict(
        strict(io.result_to_dict(replace(sol, duals={**sol.duals, "cells": tree}, message="so")))
    )
    assert again.message == "so; not saved: duals cells"
    assert set(again.duals) == {"water_level_w"}


# -- scenarios by hand --------------------------------------------------------------------------


def by_hand(**changes) -> dict:
    document = {
        "schema": "rralloc/scenario/1",
        "problem": "Beam",
        "data": {"channel": [[1, 2.5]], "price": 1} | changes,
    }
    return json.loads(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({}, "price", [1.0]),
        ({"price": "inf"}, "price", [math.inf]),
        ({"offset": ["-inf", 3]}, "offset", [-math.inf, 3.0]),
        ({"channel": 2}, "channel", [[2.0 + 0j]]),
        ({"channel": {"re": [[1, 2]], "im": 0.5}}, "channel", [[1 + 0.5j, 2 + 0.5j]]),
        ({"channel": {"re": [[1, 2]], "im": [[0, -1]]}}, "channel", [[1, 2 - 1j]]),
        ({"count": 3.0}, "count", 3),
        ({"on": [True, False]}, "on", [True, False]),
        ({"floor": None}, "floor", None),
        ({"floor": [0.5, 1]}, "floor", [0.5, 1.0]),
    ],
)
def test_by_hand(changes, field, expected) -> None:
    document = by_hand(**changes)
    assert valid(document, io.schema(Beam))
    value = getattr(io.from_dict(document), field)
    assert value is None if expected is None else np.array_equal(value, expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"price": "1.5"}, r'data.price: "1.5" is not a number'),
        ({"price": [1, None]}, r"data.price\[1\]: null is not a number"),
        ({"price": [1, True]}, r"data.price\[1\]: true is not a number"),
        ({"price": {"re": 1, "im": 0}}, r"data.price: .* is not a number"),
        ({"price": []}, "empty"),
        ({"price": None}, "data.price: null is not a number"),
        ({"offset": None}, "data.offset: null is not a number"),
        ({"price": -1}, r"Beam.price.* = -1 1/J is not in \[0, inf\]"),
        ({"price": "-inf"}, "is not in"),
        ({"channel": [1, 2]}, r"lacks axes \(N, K\)"),
        ({"channel": {"re": [[1, 2]]}}, "data.channel: im is missing"),
        ({"count": 1.5}, "data.count: 1.5 is not an integer"),
        ({"on": 1}, "data.on: 1 is not true or false"),
        ({"floor": 2}, r"not in \(0, 2\)"),
        ({"gian": 2}, "data: unknown field gian; known are channel"),
    ],
)
def test_what_the_schema_refuses_is_refused_on_loading(changes, words) -> None:
    document = by_hand(**changes)
    assert not valid(document, io.schema(Beam))
    with pytest.raises((ScenarioError, InvalidProblem), match=words):
        io.from_dict(document)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"price": [[1, 2], [3]]}, r"data.price\[0\]: the lists are ragged"),
        ({"price": [[1, 2], 3]}, r"data.price\[0\]: the lists are ragged"),
        ({"price": [[[1], [2]], [[1, 2], [3, 4]]]}, r"data.price\[0, 0\]: the lists are ragged"),
        ({"channel": {"re": [[1, 2]], "im": [[1], [2]]}}, "re has shape"),
        ({"count": 10**30}, "data.count"),
        ({"price": 10**400}, "data.price"),
        ({"price": [1, 2, 3]}, "axis K has size"),
    ],
)
def test_what_only_loading_can_see(changes, words) -> None:
    with pytest.raises((ScenarioError, InvalidProblem), match=words):
        io.from_dict(by_hand(**changes))


# -- what is wrong with a file ------------------------------------------------------------------


def edited(**changes) -> dict:
    document = io.to_dict(WaterFilling(gain=[2.0, 1.0], power_budget_w=3.0)) | changes
    return {k: v for k, v in document.items() if v is not ...}


@pytest.mark.parametrize(
    ("document", "kind", "words"),
    [
        (edited(schema="rralloc/scenario/2"), ScenarioError, 'schema: "rralloc/scenario/2" where'),
        (edited(schema="rralloc/result/1"), ScenarioError, "load_result reads it"),
        (edited(schema=...), ScenarioError, "schema: null where"),
        ([1, 2], ScenarioError, "schema: null where"),
        (edited(problem="WaterFiling"), UnknownName, "Did you mean 'WaterFilling'"),
        (edited(problem=["x"]), ScenarioError, "problem: .* is not a string"),
        (edited(problem=...), ScenarioError, "problem is missing"),
        (edited(data=[1]), ScenarioError, r"data: \[1\] where an object"),
        (edited(data={"gain": [1.0]}), ScenarioError, "data: power_budget_w is missing"),
        (edited(comment="x"), ScenarioError, "unknown field comment"),
        (edited(options={"speed": 1}), ScenarioError, "options: unknown field speed"),
        (edited(digest="0" * 16), ScenarioError, 'digest: .* Delete "digest"'),
        (edited(digest=None), ScenarioError, "digest"),
    ],
)
def test_one_paragraph_names_file_and_field(document, kind, words, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(document))
    with pytest.raises(kind, match=words) as caught:
        io.load_scenario(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a JSON file: Expecting"),
        ("", "not a JSON file"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "Infinity is not JSON"),
        ('{"a": 1, "a": 2}', "a is given twice"),
        ("[" * 100_000, "not a JSON file"),
        ("\udcff", "not a JSON file"),
    ],
)
def test_what_is_no_json(text, words, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ScenarioError, match=words):
        io.load_scenario(path)


def test_a_number_too_large_is_not_taken_for_infinity(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(by_hand()).replace('"price": 1', '"price": 1e999'))
    with pytest.raises(ScenarioError, match=r"data.price: Infinity is not a number"):
        io.load_scenario(path)


def test_an_option_that_the_class_refuses_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(by_hand() | {"options": {"rule": "unfair"}}))
    with pytest.raises(InvalidProblem, match=r"mine.json: Beam.rule = 'unfair'; choose one of"):
        io.load_scenario(path)


@pytest.mark.parametrize("value", [object(), {1, 2}, math.nan, {1: 2}, [1], "inf"])
def test_an_option_that_json_cannot_bring_back_is_refused(value) -> None:
    problem = Beam(channel=1, price=1, extra=value)
    with pytest.raises(ScenarioError, match=r"options.extra = .* Save problem.replace\(extra="):
        io.to_dict(problem)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "best"}, "status: 'best' is none of none, infeasible"),
        ({"status": ["global"]}, r"status: shape \(1,\)"),
        ({"stopped": 0}, "stopped: 0 is none of"),
        ({"objective": [1.0]}, r"objective: shape \(1,\), but the scenario asks for \(\)"),
        ({"x": {"power_w": [1.0]}}, r"x.power_w: shape \(1,\)"),
        ({"x": {}}, "x: power_w is missing"),
        ({"x": {"power_w": [1.0, 2.0], "rate": 1}}, "x: unknown field rate"),
        ({"message": None}, "message: None is not a string"),
        ({"seconds": "long"}, "seconds: .* is not a number"),
        ({"iterations": 0.5}, "iterations: 0.5 is not an integer"),
        ({"duals": [1]}, "duals: .* where an object"),
        ({"schema": "rralloc/scenario/1"}, "this is a scenario, not a result"),
        ({"scenario": {}}, "scenario: schema: null where"),
    ],
)
def test_a_wrong_result_says_so(changes, words, tmp_path: Path) -> None:
    sol = rr.solve(WaterFilling(gain=[2.0, 1.0], power_budget_w=3.0))
    path = tmp_path / "r.json"
    path.write_text(json.dumps(io.result_to_dict(sol) | changes))
    with pytest.raises(ScenarioError, match=words) as caught:
        io.load_result(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_duals_have_the_batch_in_front() -> None:
    document = io.result_to_dict(rr.solve(WaterFilling.random(K=2, batch=3, rng=0)))
    document["duals"]["price"] = [1.0, 2.0]
    with pytest.raises(ScenarioError, match=r"duals.price: shape \(2,\)"):
        io.result_from_dict(document)


# -- files --------------------------------------------------------------------------------------


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "s.json"
    io.write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*s\.json'"):
        io.write_text(path, "new")
    assert path.read_text() == "old\n"
    assert [f.name for f in tmp_path.iterdir()] == ["s.json"]


def test_nothing_stays_after_an_interruption(tmp_path: Path, monkeypatch) -> None:
    def stop(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        io.write_text(tmp_path / "s.json", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link_and_a_missing_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    io.write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new\n"
    with pytest.raises(FileNotFoundError, match=r"nowhere/s\.json"):
        io.write_text(tmp_path / "nowhere" / "s.json", "new")


def test_load_takes_both_kinds(tmp_path: Path) -> None:
    problem = WaterFilling.random(K=2, rng=0)
    io.save_scenario(problem, tmp_path / "s.json")
    io.save_result(rr.solve(problem), tmp_path / "r.json")
    assert io.load(tmp_path / "s.json") == problem
    assert io.load(tmp_path / "r.json").problem == problem


def test_the_schema_tells_unit_doc_and_range() -> None:
    fields = io.schema(WaterFilling)["properties"]["data"]["properties"]
    assert fields["gain"]["description"] == (
        "channel gain over noise power; shape (..., K), in [0, inf) 1/W"
    )
