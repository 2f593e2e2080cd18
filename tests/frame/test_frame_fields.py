"""Fields: what a constructor accepts, what it refuses and in which words."""

import numpy as np
import pytest

from rralloc.errors import InvalidProblem, RRAllocError
from rralloc.fields import data, option, variable
from rralloc.problem import Problem
from rralloc.problems import FEELScheduling, SumRate, WaterFilling
from rralloc.typing import Field


class Zoo(Problem):
    """One field of every kind."""

    gain: Field = data("K", unit="1/W", low=0, open_low=True, doc="channel gain")
    share: Field = data("K", unit="1", low=0, high=1, open_high=True, default=0.5)
    delay_s: Field = data("K", unit="s", low=0, inf=True, default=np.inf)
    level_db: Field = data(unit="dB", default=0.0)
    active: Field = data("K", unit="1", dtype=bool, default=True)
    count: Field = data("K", unit="1", low=1, dtype=int, default=1)
    channel: Field = data("N K", unit="1", dtype=complex, default=1.0)
    cross: Field = data("K K", unit="1", default=None)
    limit: Field = data("K", unit="W", low=0, default=None)
    kind: str = option(default="plain", choices=("plain", "fair"))

    power_w = variable("K", unit="W", low=0, high=1)

    def objective(self, x):
        return (self.gain * x["power_w"]).sum(-1)


def refused(**fields) -> str:
    with pytest.raises(InvalidProblem) as caught:
        Zoo(**({"gain": 1.0} | fields))
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RRAllocError)
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "index", "shown", "allowed"),
    [
        ("gain", [1.0, -2.0, -5.0, 3.0], "[2]", "-5 1/W", "(0, inf) 1/W"),
        ("gain", [[1.0, 2.0], [3.0, 0.0]], "[1, 1]", "0 1/W", "(0, inf) 1/W"),
        ("gain", [1.0, np.nan], "[1]", "nan 1/W", "(0, inf) 1/W"),
        ("gain", [np.inf, 1.0], "[0]", "inf 1/W", "(0, inf) 1/W"),
        ("share", [0.2, 1.0], "[1]", "1", "[0, 1)"),
        ("share", [0.2, 1.5, 7.0], "[2]", "7", "[0, 1)"),
        ("delay_s", [1.0, -1.0], "[1]", "-1 s", "[0, inf] s"),
        ("delay_s", [1.0, np.nan], "[1]", "nan s", "[0, inf] s"),
        ("level_db", np.nan, "", "nan dB", "(-inf, inf) dB"),
        ("level_db", -np.inf, "", "-inf dB", "(-inf, inf) dB"),
        ("count", [2, 0, 1], "[1]", "0", "[1, inf)"),
        ("channel", [[1.0, 2.0], [3.0, complex(0, np.inf)]], "[1, 1]", "+infj", "(-inf, inf)"),
        ("channel", [[complex(np.nan, 1)]], "[0, 0]", "nan+1j", "(-inf, inf)"),
    ],
)
def test_a_value_out_of_range_is_named_with_place_unit_and_range(
    field, value, index, shown, allowed
):
    words = refused(**{field: value})
    assert words.startswith(f"Zoo.{field}{index} = ")
    assert shown in words.split(" is not in ")[0]
    assert f"is not in {allowed}" in words
    assert words.rstrip().endswith(".")


def test_the_message_counts_and_advises():
    words = refused(gain=[1.0, -2.0, -5.0, 3.0])
    assert "(2 of 4 values are not)" in words
    assert "channel gain" in words
    assert "not in dB" in words
    assert "remove missing values" in refused(gain=[np.nan])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gain", "3"),
        ("gain", ["1", "2"]),
        ("gain", "loud"),
        ("gain", {}),
        ("gain", [[1.0], [1.0, 2.0]]),
        ("gain", [1.0, 2.0 + 1.0j]),
        ("gain", np.array([1.0 + 1.0j])),
        ("gain", np.array(["2020-01-01"], dtype="datetime64[D]")),
        ("active", "no"),
        ("active", ["True", "False"]),
        ("active", [True, np.nan]),
        ("active", 2.7),
        ("active", [0, 2]),
        ("count", 1.5),
        ("count", np.array([1.0, np.nan])),
        ("count", [1.0, np.inf]),
        ("channel", [["1j"]]),
    ],
)
def test_what_is_not_a_number_of_the_declared_type_is_refused(field, value):
    words = refused(**{field: value})
    assert words.startswith(f"Zoo.{field}: cannot read ")
    assert words.endswith("pass an array")


def test_masked_values_are_missing_values():
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    assert "gain[1] = nan" in refused(gain=masked)
    assert Zoo(gain=np.ma.masked_array([1.0, 2.0])).sizes["K"] == 2


def test_a_long_list_does_not_flood_the_message():
    assert len(refused(gain=["x"] * 5000)) < 400


@pytest.mark.parametrize("value", [[], [[]], np.zeros((0, 3)), np.zeros((3, 0))])
def test_empty_arrays_are_refused(value):
    assert "is empty" in refused(gain=value)


def test_missing_axes_are_named():
    words = refused(channel=[1.0, 2.0])
    assert words.startswith("Zoo.channel: shape (2,) lacks axes (N, K)")
    assert "a scalar stands for all of them" in words


def test_two_fields_with_different_sizes_are_named_with_both_sizes():
    words = refused(gain=[1.0, 2.0], share=[0.1, 0.2, 0.3])
    for part in ("axis K", "size 2", "in gain", "3 in share"):
        assert part in words
    assert "axis K" in refused(gain=[1.0, 2.0], cross=np.ones((3, 3)))
    assert "axis K" in refused(cross=np.ones((2, 3)))


def test_batch_shapes_that_do_not_broadcast_are_listed():
    words = refused(gain=np.ones((4, 2)), share=np.full((3, 2), 0.5))
    assert "batch shapes do not broadcast" in words
    assert "gain: (4,)" in words
    assert "share: (3,)" in words


def test_an_unknown_option_value_lists_the_choices():
    words = refused(kind="fast")
    assert "Zoo.kind = 'fast'" in words
    assert "'plain', 'fair'" in words


def test_required_and_unknown_fields_are_type_errors():
    with pytest.raises(TypeError, match="gain"):
        Zoo()
    with pytest.raises(TypeError, match="nonsense"):
        Zoo(gain=1.0, nonsense=2.0)
    with pytest.raises(TypeError, match="positional"):
        Zoo(1.0)


def test_values_at_the_ends_of_their_ranges_are_accepted():
    zoo = Zoo(gain=np.nextafter(0, 1), share=0.0, delay_s=np.inf, count=1, level_db=-1e300)
    assert np.isinf(zoo.delay_s).all()
    assert Zoo(gain=1, share=np.nextafter(1.0, 0)).share < 1
    assert Zoo(gain=1.0, active=[1, 0]).active.tolist() == [True, False]
    assert Zoo(gain=1.0, count=np.array([3.0, 4.0])).count.dtype == int
    assert Zoo(gain=[True, True]).gain.tolist() == [1.0, 1.0]


def test_a_scalar_stands_for_all_axes_and_is_stored_unbroadcast():
    zoo = Zoo(gain=np.ones((5, 3)), channel=np.ones((2, 3)))
    assert zoo.sizes == {"K": 3, "N": 2}
    assert zoo.share.shape == (1,)
    assert zoo.level_db.shape == ()
    assert zoo.batch_shape == (5,)
    assert Zoo(gain=2.0).sizes["K"] == 1


def test_types_are_kept():
    zoo = Zoo(gain=np.ones(2, dtype=np.float32), channel=np.ones((2, 2)))
    assert zoo.gain.dtype == np.float64
    assert zoo.channel.dtype == np.complex128
    assert zoo.active.dtype == bool
    assert Zoo(gain=[1, 2]).gain.dtype == np.float64


def test_a_default_of_none_stays_none():
    zoo = Zoo(gain=np.ones((4, 3)))
    assert zoo.limit is None
    assert zoo[0].limit is None
    assert zoo.flat().limit is None
    assert zoo.select(K=[0]).limit is None
    assert Zoo(gain=1.0, limit=[1.0, 2.0]).sizes["K"] == 2


def test_matrix_axes_must_be_square():
    assert Zoo(gain=np.ones(3), cross=np.ones((3, 3))).cross.shape == (3, 3)
    with pytest.raises(InvalidProblem, match="axis K"):
        SumRate(gain=np.ones((2, 3)), noise_w=1.0, power_max_w=1.0)


def test_a_positional_field():
    class Antenna(Problem):
        channel: Field = data("N K", unit="1", dtype=complex, kw_only=False)
        noise_w: Field = data(unit="W", low=0, default=1.0)
        x = variable("N", unit="1", dtype=complex)

    antenna = Antenna([[1.0, 1j], [2.0, 3.0]], noise_w=2.0)
    assert antenna.sizes == {"N": 2, "K": 2}
    assert antenna == Antenna(channel=[[1.0, 1j], [2.0, 3.0]], noise_w=2.0)
    with pytest.raises(TypeError, match="positional"):
        Antenna([[1.0]], 2.0)


def test_conditions_across_fields_name_their_field():
    with pytest.raises(InvalidProblem, match=r"latency_s.*inf"):
        FEELScheduling(importance=[1.0, 1.0], latency_s=np.inf, tradeoff=0.5)
    with pytest.raises(InvalidProblem, match=r"draws = 3 is not in \[1, 2\]"):
        FEELScheduling(importance=[1.0, 1.0], latency_s=1.0, tradeoff=0.5, draws=3)
    with pytest.raises(InvalidProblem, match=r"tradeoff = 0 is not in \(0, 1\]"):
        FEELScheduling(importance=[1.0], latency_s=1.0, tradeoff=0.0)


def test_a_negative_budget_is_refused_by_name():
    with pytest.raises(InvalidProblem, match=r"WaterFilling.power_budget_w\[1\] = -3 W"):
        WaterFilling(gain=[1.0], power_budget_w=[1.0, -3.0])
