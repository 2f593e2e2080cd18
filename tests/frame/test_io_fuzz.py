"""The loader against whatever a file may hold: a problem, or one of our errors, nothing else.

Nothing is executed, memory stays within a multiple of the file, messages are one short paragraph.
"""

from __future__ import annotations

import builtins
import json
import math
import os
import pickle
import re
import subprocess
import tracemalloc
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rralloc as rr
from rralloc import io, registry
from rralloc.errors import NotOffered, RRAllocError, ScenarioError
from rralloc.io import files, values
from rralloc.problems import WaterFilling


def scenarios() -> dict[str, dict]:
    """A small valid document of every class that can be drawn."""
    found = {}
    for name, cls in registry.problem_classes().items():
        try:
            found[name] = io.to_dict(cls.random(K=2, batch=2, rng=0))
        except NotOffered:
            continue
    return found


SCENARIOS = scenarios()
RESULT = io.result_to_dict(rr.solve(WaterFilling.random(K=2, batch=2, rng=0)))


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_executed():
    """Whatever could run code or open a process raises while this module's tests run."""

    def forbidden(*args, **kwargs):
        raise AssertionError(f"the loader executed something: {args!r}")

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (builtins, "eval"),
            (pickle, "loads"),
            (pickle, "load"),
            (os, "system"),
            (os, "popen"),
            (subprocess, "Popen"),
        ):
            patch.setattr(owner, name, forbidden)
        yield


def outcome(read, *args) -> str:
    """``read`` must give a checked object ("") or refuse in words: those."""
    plain_exec = builtins.exec
    executed = []

    def noting(code, *rest, **named):
        executed.append(code)
        return plain_exec(code, *rest, **named)

    builtins.exec = noting
    try:
        found = read(*args)
    except RRAllocError as error:
        return str(error) or "no word"
    finally:
        builtins.exec = plain_exec
    assert not executed
    assert isinstance(found, rr.Problem | rr.Solution)
    if isinstance(found, rr.Problem):
        assert io.from_dict(io.to_dict(found)) == found
    return ""


def from_file(path: Path, content: bytes, read=io.load) -> str:
    path.write_bytes(content)
    message = outcome(read, path)
    assert message != "no word"
    if message:  # one short paragraph that begins with the file
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert len(message) < 2500
    return message


def as_file(path: Path, document) -> str:
    return from_file(path, json.dumps(document).encode())


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "f.json"


# -- documents ------------------------------------------------------------------------------------

EVIL = (
    "__import__('os').system('true')",
    "os.system",
    "rralloc.problem.Problem",
    "Problem",
    "object",
    "WaterFilling\x00",
    "../../etc/passwd",
    "!!python/object/apply:os.system ['true']",
    "{0.__class__}",
    "%s%s%s",
    "NaN",
    "inf",
    "1e999",
    "x" * 5000,
    "\ud800",
    "a\nb",
)
NUMBERS = (0, -1, 2, -0.0, 1e308, -1e308, 5e-324, 2**63, -(2**70), 10**300, 10**400, 1.5)
leaf = st.one_of(
    st.sampled_from(EVIL),
    st.sampled_from(NUMBERS),
    st.none(),
    st.booleans(),
    st.floats(),
    st.text(max_size=5),
)
anything = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=4) | st.sampled_from(["re", "im"]), inner, max_size=3),
    ),
    max_leaves=12,
)


def places(node, way=()):
    """The way to every part of a document."""
    yield way
    if isinstance(node, dict | list):
        for key, inner in node.items() if isinstance(node, dict) else enumerate(node):
            yield from places(inner, (*way, key))


@st.composite
def mutated(draw, base):
    """A valid document with one to three parts dropped, replaced, renamed, doubled or nested."""
    document = deepcopy(draw(base))
    for _ in range(draw(st.integers(1, 3))):
        ways = [w for w in places(document) if w]
        if not ways:
            break
        *rest, key = draw(st.sampled_from(ways))
        owner = document
        for step in rest:
            owner = owner[step]
        act = draw(st.sampled_from(["drop", "replace", "replace", "nest", "rename", "double"]))
        if act == "drop":
            del owner[key]
        elif act == "replace":
            owner[key] = draw(anything)
        elif act == "nest":
            for _ in range(draw(st.sampled_from([1, 2, 70]))):
                owner[key] = [owner[key]]
        elif act == "double":
            owner[key] = [owner[key], owner[key]]
        elif isinstance(owner, dict):
            owner[draw(st.sampled_from([*EVIL, "schema", "data"]))] = owner.pop(key)
    if isinstance(document, dict) and draw(st.booleans()):
        document.pop("digest", None)
    return document


@settings(max_examples=150)
@given(anything)
@example({"schema": "rralloc/scenario/1", "problem": {"schema": 1}, "data": []})
def test_any_json_document(path, document):
    outcome(io.from_dict, document)
    outcome(io.result_from_dict, document)
    as_file(path, document)


@pytest.mark.parametrize("name", SCENARIOS)
@settings(max_examples=60)
@given(pick=st.data())
def test_any_mutation_of_a_valid_scenario(path, name, pick):
    as_file(path, pick.draw(mutated(st.just(SCENARIOS[name]))))


@settings(max_examples=300)
@given(mutated(st.just(RESULT)))
def test_any_mutation_of_a_valid_result(path, document):
    as_file(path, document)


@settings(max_examples=60)
@given(mutated(st.just({"power_w": [[1.0, 2.0], [0.5, 0.5]]})))
def test_any_mutation_of_a_point(path, document):
    problem = WaterFilling.random(K=2, batch=2, rng=0)

    def read(place):
        point = io.load_point(place, problem)
        assert point["power_w"].dtype == float
        return problem

    from_file(path, json.dumps(document).encode(), read)


# -- bytes ----------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=60), anything.map(lambda d: json.dumps(d).encode())))
def test_any_bytes(path, content):
    from_file(path, content)


@settings(max_examples=150)
@given(st.data())
def test_a_valid_file_with_some_bytes_changed(path, pick):
    content = bytearray(
        json.dumps(pick.draw(st.sampled_from([*SCENARIOS.values(), RESULT]))), "utf8"
    )
    for _ in range(pick.draw(st.integers(1, 4))):
        at = pick.draw(st.integers(0, len(content) - 1))
        content[at : at + pick.draw(st.integers(0, 3))] = pick.draw(st.binary(max_size=3))
        content = content or bytearray(b" ")
    from_file(path, bytes(content))


def text_of(**changes) -> str:
    return json.dumps({"schema": "rralloc/scenario/1", "problem": "WaterFilling"} | changes)


GOOD = {"gain": [2.0, 1.0], "power_budget_w": 3.0}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a JSON file"),
        (b"\xff\xfe\x00", "not a JSON file: 'utf-8' codec"),
        (b"\x80\x04\x95\x10\x00c__builtin__\neval\n", "not a JSON file"),
        (b"PK\x03\x04", "not a JSON file"),
        (b'{"schema": Infinity}', "Infinity is not JSON"),
        (b"[" * 100_000, "not a JSON file"),
        (b'{"a":' * 100_000, "not a JSON file"),
        (b"[" * 600 + b"]" * 600, "nested more than"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "nested more than"),
        (b"1" * 5000, "not a JSON file"),
        (b"-1e400", "schema: null where"),
        (b'{"a": 1, "a": 2, "b": 1, "b": 1}', "a, b is given twice"),
        (text_of(data=GOOD, problem="os.system").encode(), "no problem is named 'os.system'"),
        (text_of(data=GOOD, problem="Problem").encode(), "no problem is named 'Problem'"),
        (text_of(data=GOOD, problem="x" * 10**6).encode(), "no problem is named 'xxx"),
        (text_of(data=GOOD, digest="x" * 10**6).encode(), "digest: the document says"),
        (text_of(data=GOOD | {"y" * 10**6: 1}).encode(), "unknown field yyy.*known are gain"),
        (text_of(data=GOOD | {str(i): 1 for i in range(50_000)}).encode(), "unknown field 0, 1"),
        (text_of(data=GOOD | {"gain": "9" * 10**6}).encode(), "data.gain: .* is not a number"),
        (text_of(data=GOOD | {"gain": "__import__('os')"}).encode(), "is not a number"),
        (text_of(data=GOOD | {"gain": 10**4000}).encode(), "data.gain"),
        (b"[" * 40 + b"1" + b"]" * 40, "schema: null where"),
        (
            text_of(data=GOOD).replace("3.0", "[" * 40 + "3.0" + "]" * 40).encode(),
            "data.power_budget_w: 40 axes, more than 16",
        ),
    ],
)
def test_files_that_are_refused(path, content, words):
    message = from_file(path, content)
    assert re.search(words, message), message


def test_a_folder_and_a_missing_file(tmp_path: Path):
    assert "a folder, not a JSON file" in outcome(io.load, tmp_path)
    with pytest.raises(FileNotFoundError):
        io.load(tmp_path / "missing.json")


# -- size -----------------------------------------------------------------------------------------


def test_a_file_that_is_too_large_is_not_read_whole(path, monkeypatch):
    path.write_text(text_of(data=GOOD | {"gain": [1.0] * 1000}))
    size = path.stat().st_size
    problem = io.load(path)
    monkeypatch.setattr(files, "MAX_BYTES", size)
    assert io.load(path) == problem
    monkeypatch.setattr(files, "MAX_BYTES", size - 1)
    assert re.search(rf"more than {size - 1} bytes\..*max_bytes=", outcome(io.load, path))
    assert io.from_dict(io.read_json(path, max_bytes=size)) == problem


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="a device of this system")
def test_an_endless_file_ends(monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 2**20)
    assert "more than 1048576 bytes" in outcome(io.load, Path("/dev/zero"))


CROWDED = {
    "a scenario": lambda size: text_of(
        data=GOOD | {"gain": np.random.default_rng(0).random(size // 19).tolist()}
    ).encode(),
    "empty objects": lambda size: b"[" + b",".join([b"{}"] * (size // 3)) + b"]",
    "empty lists": lambda size: (
        b'{"schema": "rralloc/scenario/1", "problem": "WaterFilling",'
        b' "data": {"power_budget_w": 1, "gain": [' + b",".join([b"[]"] * (size // 3)) + b"]}}"
    ),
    "numbers": lambda size: text_of(data=GOOD | {"gain": [1.5] * (size // 5)}).encode(),
    "digits": lambda size: text_of(data=GOOD | {"gain": [7] * (size // 3)}).encode(),
    "keys": lambda size: b"{" + b",".join(b'"%x":0' % i for i in range(size // 8)) + b"}",
    "words": lambda size: json.dumps(["inf"] * (size // 7)).encode(),
}


@pytest.mark.parametrize("kind", CROWDED)
def test_memory_is_bounded_by_the_size_of_the_file(path, kind, monkeypatch):
    """At most 50 bytes for each byte of the file, whatever stands in it; 5 for a scenario."""
    monkeypatch.setattr(files, "MAX_BYTES", 2**20)
    path.write_bytes(CROWDED[kind](2**18))
    tracemalloc.start()
    try:
        outcome(io.load, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    times = 5 if kind == "a scenario" else 50
    assert peak <= times * path.stat().st_size + 2**18


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_small_file_cannot_stand_for_a_huge_batch(name):
    """1000 x 1000 x 1000 instances in three thousand numbers, without an array of 10^9."""
    document = deepcopy(SCENARIOS[name])
    del document["digest"]
    cls, axis = registry.problem_class(name), 0
    for field, info in cls._data.items():
        value = document["data"][field]
        if value is None or isinstance(value, str) or info.dtype is bool or axis == 3:
            continue
        array = values.decode(field, value, info.dtype)
        array = array[0] if array.ndim > len(info.axes) else array
        shape = [1, 1, 1]
        shape[axis] = 1000
        wide = np.broadcast_to(array, (*shape, *array.shape))
        document["data"][field] = values.encode(field, wide)
        axis += 1
    tracemalloc.start()
    try:
        message = outcome(io.from_dict, document) if axis == 3 else ""
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * 2**20
    assert ("broadcast" in message) == (axis == 3), message


def test_how_many_values_are_too_many(monkeypatch):
    document = {"schema": io.SCENARIO, "problem": "WaterFilling"}
    document["data"] = {"gain": [[[1.0, 2.0]]] * 3, "power_budget_w": [[1.0, 2.0]]}
    monkeypatch.setattr(values, "MAX_VALUES", 12)
    assert io.from_dict(document).batch_shape == (3, 2)
    monkeypatch.setattr(values, "MAX_VALUES", 11)
    with pytest.raises(ScenarioError, match=r"12 values.*broadcast.*more than 11"):
        io.from_dict(document)


def test_depth_is_limited_in_memory_too():
    deep: list | float = 1.0
    for _ in range(5000):
        deep = [deep]
    document = {"schema": io.SCENARIO, "problem": "WaterFilling", "data": GOOD | {"gain": deep}}
    assert "nested more than" in outcome(io.from_dict, document)
    assert "nested more than" in outcome(io.from_dict, deep)
    assert "nested more than" in outcome(io.result_from_dict, RESULT | {"x": deep})


@pytest.mark.parametrize("value", [object(), b"x", {1, 2}, math.nan, np.float64(1), (1, 2)])
def test_what_json_does_not_know_is_refused_in_words(value):
    document = {"schema": io.SCENARIO, "problem": "WaterFilling", "data": GOOD}
    for changed in (
        value,
        document | {"schema": value},
        document | {"problem": value},
        document | {"data": value},
        document | {"digest": value},
        document | {"data": GOOD | {"gain": [value, 1]}},
    ):
        outcome(io.from_dict, changed)


def test_it_does_load_what_is_good():
    """The tests above would pass if everything were refused."""
    for document in SCENARIOS.values():
        assert outcome(io.from_dict, json.loads(json.dumps(document))) == ""
    assert outcome(io.result_from_dict, json.loads(json.dumps(RESULT))) == ""
