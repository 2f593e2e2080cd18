"""Training curves, who has what, and the map."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rralloc.channel import Cell
from rralloc.fl import (
    History,
    Link,
    Task,
    TrainingComparison,
    mean_interval,
    paired_difference,
)
from rralloc.fl.partition import label_counts
from rralloc.plot import accuracy, cell, who_has_what, winners


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def _run(seed: int, end: float, final: float, rounds: int = 10, evaluated: int = 1) -> History:
    time = np.linspace(0, end, rounds + 1)
    curve = np.linspace(0.1, final, rounds + 1)
    curve[np.arange(rounds + 1) % evaluated != 0] = np.nan
    none = np.zeros(3)
    curves = (curve, 1 - curve, time, time / 10, 1e5 * time, np.ones(rounds + 1))
    return History("p", "s", "digits, iid", seed, *curves, none, none)


@pytest.fixture
def comparison() -> TrainingComparison:
    runs = {
        "slow": [_run(s, 20 + s, 0.8 + s / 100) for s in range(3)],
        "fast": [_run(s, 8 + s, 0.6 + s / 50) for s in range(3)],
    }
    return TrainingComparison(runs, (0, 1, 2))


def test_curves_are_means_of_step_functions(comparison: TrainingComparison) -> None:
    (ax,) = accuracy(comparison).axes
    drawn = {line.get_label().split(":")[0]: line for line in ax.get_lines()}
    for name, runs in comparison.runs.items():
        at, mean = drawn[name].get_data()
        assert at[0] == 0
        assert at[-1] == min(h.seconds[-1] for h in runs)
        for i in (0, 7, len(at) // 2, len(at) - 1):
            assert mean[i] == pytest.approx(np.mean([h.at_seconds(at[i]) for h in runs]))
        assert drawn[name].get_drawstyle() == "steps-post"


def test_bands_are_t_intervals(comparison: TrainingComparison) -> None:
    (ax,) = accuracy(comparison, x="round").axes
    final = mean_interval([h.accuracy[-1] for h in comparison.runs["slow"]])
    edges = ax.collections[0].get_paths()[0].vertices
    last = edges[np.isclose(edges[:, 0], 10), 1]
    assert np.isclose(last, final.low).any()
    assert np.isclose(last, final.high).any()


@pytest.mark.parametrize(
    ("x", "label"),
    [("seconds", "training time (s)"), ("joules", "energy of all devices (J)"),
     ("round", "communication round"), ("bits", "bits sent by all devices (Mbit)")],
)  # fmt: skip
def test_axes_carry_units(comparison: TrainingComparison, x: str, label: str) -> None:
    (ax,) = accuracy(comparison, x=x).axes  # type: ignore[arg-type]
    assert ax.get_xlabel() == label
    assert ax.get_ylabel() == "test accuracy (%)"
    ax.figure.draw_without_rendering()
    assert "80" in [t.get_text() for t in ax.get_yticklabels()]


def test_legend_is_ordered_by_final_accuracy(comparison: TrainingComparison) -> None:
    turned = TrainingComparison(dict(reversed(comparison.runs.items())), comparison.seeds)
    figure = accuracy(turned)
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert [w.split(":")[0] for w in words] == ["slow", "fast"]
    assert words[0].endswith("at 20 s")


def test_curves_that_end_together_are_labelled_directly(comparison: TrainingComparison) -> None:
    figure = accuracy(comparison, x="round")
    assert not figure.legends
    assert [t.get_text() for t in figure.axes[0].texts] == ["slow 81 %", "fast 62 %"]


def test_title_compares_pairs_at_equal_cost(comparison: TrainingComparison) -> None:
    (ax,) = accuracy(comparison).axes
    told = ax.get_title(loc="left").replace("\n", " ")
    fast, slow = (
        np.array([h.at_seconds(8.0) for h in comparison.runs[n]]) for n in ("fast", "slow")
    )
    assert told.startswith(
        f"After 8 s fast is {100 * (fast - slow).mean():.1f} points ahead of slow"
    )
    assert "3 seeds" in told


def test_a_lead_within_the_interval_is_called_unsettled() -> None:
    runs = {
        "a": [_run(0, 9, 0.5), _run(1, 9, 0.8)],
        "b": [_run(0, 9, 0.6), _run(1, 9, 0.6)],
    }
    title = accuracy(TrainingComparison(runs, (0, 1))).axes[0].get_title(loc="left")
    assert "not settled" in title.replace("\n", " ")


def test_one_seed_has_a_curve_and_no_band() -> None:
    runs = {"a": [_run(0, 9, 0.7)], "b": [_run(0, 9, 0.5)]}
    (ax,) = accuracy(TrainingComparison(runs, (0,))).axes
    assert not ax.collections
    assert "one seed" in ax.get_title(loc="left").replace("\n", " ")


def test_rounds_without_evaluation_keep_the_last_value() -> None:
    run = _run(0, 10, 0.9, evaluated=5)
    (ax,) = accuracy(TrainingComparison({"a": [run]}, (0,)), x="round").axes
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [0.1] * 5 + [0.5] * 5 + [0.9])
    assert ax.get_title(loc="left") == ""


def test_costs_far_apart_get_a_log_axis() -> None:
    runs = {"cheap": [_run(0, 1, 0.5)], "dear": [_run(0, 100, 0.9)]}
    (ax,) = accuracy(TrainingComparison(runs, (0,))).axes
    assert ax.get_xscale() == "log"
    assert min(line.get_xdata()[0] for line in ax.get_lines()) == pytest.approx(0.1)


def test_costs_that_make_no_axis_are_refused(comparison: TrainingComparison) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        accuracy(comparison, x="hours")  # type: ignore[arg-type]
    free = TrainingComparison({"a": [_run(0, 0.0, 0.5)]}, (0,))
    with pytest.raises(ValueError, match="no run spent any seconds"):
        accuracy(free)


def test_accuracy_in_given_axes_names_its_scenario(comparison: TrainingComparison) -> None:
    figure, ax = plt.subplots()
    assert accuracy(comparison, ax=ax) is figure
    assert ax.get_legend() is not None
    assert figure.rralloc_scenario == "digits,iid;seeds=0,1,2"


def test_who_has_what_writes_every_count() -> None:
    task = Task.digits(clients=6, partition="shards", shards_per_client=2, seed=0)
    counts = label_counts(task.clients, task.dataset.train_y, 10)
    figure = who_has_what(task)
    ax = figure.axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), counts)
    written = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}
    assert written == {(k, c): str(n) for (k, c), n in np.ndenumerate(counts) if n}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("class", "client")
    held = (counts > 0).sum(1).mean()
    assert f"{held:.1f} of 10 classes" in ax.get_title(loc="left").replace("\n", " ")
    assert [t.get_text() for t in ax.child_axes[0].get_yticklabels()] == [
        str(n) for n in task.samples
    ]


def test_many_clients_get_a_colour_bar() -> None:
    figure = who_has_what(Task.digits(clients=40, partition="iid", seed=0))
    assert not figure.axes[0].texts
    assert figure.axes[1].get_ylabel() == "training samples"


def test_the_map_shows_positions_in_metres() -> None:
    link = Link.cell(7, seed=0)
    assert link.placement is not None
    figure = cell(link)
    ax, bar = figure.axes
    (dots,) = ax.collections
    np.testing.assert_allclose(dots.get_offsets(), link.placement.positions_m)
    np.testing.assert_allclose(dots.get_array(), link.placement.distance_m)
    assert ax.get_aspect() == 1.0
    assert ax.get_xlabel().endswith("(m)")
    assert ax.get_ylabel().endswith("(m)")
    assert bar.get_ylabel() == "distance (m)"
    assert [t.get_text() for t in ax.texts] == [str(k) for k in range(7)]
    edge = ax.get_lines()[0]
    np.testing.assert_allclose(np.hypot(*edge.get_data()), 500.0)


def test_the_map_sizes_by_value_and_keeps_missing_ones_hollow() -> None:
    placement = Cell(500.0).drop(4, np.random.default_rng(0))
    ax, bar = cell(placement, values=[1.0, np.nan, 3.0, 2.0], label="bandwidth (kHz)").axes
    hollow, dots = ax.collections
    assert len(hollow.get_offsets()) == 1
    assert hollow.get_facecolor().size == 0
    assert np.argsort(dots.get_sizes()).tolist() == [0, 2, 1]
    assert bar.get_ylabel() == "bandwidth (kHz)"


def test_the_map_takes_equal_values_and_given_axes() -> None:
    figure, ax = plt.subplots()
    placement = Cell(500.0).drop(3, np.random.default_rng(0))
    assert cell(placement, values=np.ones(3), ax=ax) is figure
    assert ax.get_legend() is not None


def test_the_map_refuses_what_it_cannot_draw() -> None:
    blind = Link(mean_gain=np.ones(3), compute_s=np.zeros(3))
    with pytest.raises(ValueError, match="no placement"):
        cell(blind)
    with pytest.raises(ValueError, match="each of the 3 devices"):
        cell(Cell(500.0).drop(3, np.random.default_rng(0)), values=[1.0])


# -- who is best where -----------------------------------------------------------------------------

RESULTS = {
    (3, "skewed"): {"a": [9.0, 8.0, 9.5], "b": [5.0, 4.0, 6.0], "c": [1.0, 1.0, 1.0]},
    (6, "skewed"): {"a": [5.0, 6.0, 4.0], "b": [5.0, 4.0, 6.5]},
    (3, "iid"): {"b": [7.0, 7.0, 7.0], "a": [3.0, 3.0, 3.0]},
}


def test_the_map_names_the_winner_and_its_lead() -> None:
    (ax,) = winners(RESULTS, x="load", y="data").axes
    told = [text.get_text() for text in ax.texts]
    lead = paired_difference([9.0, 8.0, 9.5], [5.0, 4.0, 6.0])
    assert told[0] == "a\n8.8"
    assert told[1] == f"+{lead.mean:.1f} [{lead.low:+.1f}, {lead.high:+.1f}]\nto b"
    assert [t.split("\n")[0] for t in told[::2]] == ["a", "b", "b"]
    colours = [patch.get_facecolor() for patch in ax.patches]
    assert colours[1][:3] == colours[2][:3] != colours[0][:3]
    assert colours[1][3] < colours[0][3] == colours[2][3]  # a tie is pale
    assert [label.get_text() for label in ax.get_xticklabels()] == ["3", "6"]
    assert "b leads in 2 of 3" in ax.get_title(loc="left") + ax.get_title()


@pytest.mark.parametrize("wrong", [{}, {(1, 1): {"a": [1.0, 2.0]}}])
def test_a_map_needs_rivals(wrong: dict) -> None:
    with pytest.raises(ValueError, match="two names"):
        winners(wrong, x="x", y="y")
