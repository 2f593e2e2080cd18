"""Scenarios and results as JSON: nothing is executed on reading, nothing is rounded on writing.

    {"schema": "rralloc/scenario/1", "problem": "WaterFilling",
     "data": {"gain": [2.0, 1.0, 0.5], "power_budget_w": 3.0}, "options": {}, "digest": "..."}

Arrays are nested lists, complex ones ``{"re": ..., "im": ...}``; infinities are the strings
``"inf"`` and ``"-inf"``, a missing number in a result is ``null``. A scenario written by hand may
leave out ``options`` and ``digest`` and give a scalar for any array; ``schema(WaterFilling)`` is
the JSON Schema it can be validated with. A file appears whole or not at all.
"""

from rralloc.io.files import dumps, read_json, write_text
from rralloc.io.results import (
    load,
    load_point,
    load_result,
    read_point,
    result_from_dict,
    result_to_dict,
    save_result,
)
from rralloc.io.scenarios import from_dict, load_scenario, save_scenario, to_dict
from rralloc.io.schema import RESULT_SCHEMA, schema
from rralloc.io.values import RESULT, SCENARIO

__all__ = [
    "RESULT",
    "RESULT_SCHEMA",
    "SCENARIO",
    "dumps",
    "from_dict",
    "load",
    "load_point",
    "load_result",
    "load_scenario",
    "read_json",
    "read_point",
    "result_from_dict",
    "result_to_dict",
    "save_result",
    "save_scenario",
    "schema",
    "to_dict",
    "write_text",
]
