"""What all figures share: no global state, no import by accident, files that name their data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

import rralloc as rr
from rralloc.plot import _labels, _style
from rralloc.problems import WaterFilling


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sol() -> rr.Solution:
    return rr.solve(WaterFilling.random(K=6, rng=0))


@pytest.mark.parametrize("module", ["rralloc", "rralloc.plot"])
def test_importing_does_not_load_matplotlib(module: str) -> None:
    code = f"import sys, {module}; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_public_names_are_functions_and_others_an_error() -> None:
    for name in rr.plot.__all__:
        assert callable(getattr(rr.plot, name))
        assert "Choose this when" in getattr(rr.plot, name).__doc__
    assert dir(rr.plot) == sorted(rr.plot.__all__)
    with pytest.raises(AttributeError, match="no attribute 'histogram'"):
        _ = rr.plot.histogram


def test_rcparams_are_the_users_own_before_and_after(sol: rr.Solution, tmp_path: Path) -> None:
    with mpl.rc_context({"font.size": 7.0, "axes.grid": False}):
        before = dict(mpl.rcParams)
        rr.plot.save(sol.plot(), tmp_path / "a.png")
        assert dict(mpl.rcParams) == before


def test_font_sizes_do_not_depend_on_the_users_settings(sol: rr.Solution) -> None:
    sizes = []
    for given in (5.0, 20.0):
        with mpl.rc_context({"font.size": given, "xtick.labelsize": given}):
            ax = sol.plot().axes[1]
            ax.figure.draw_without_rendering()
            texts = [ax.xaxis.label, *ax.get_xticklabels()]
            sizes.append([t.get_fontsize() for t in texts])
    assert sizes[0] == sizes[1]
    assert min(sizes[0]) >= 12


def test_nothing_is_shown(sol: rr.Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plt, "show", lambda *a, **k: pytest.fail("a window was opened"))
    assert isinstance(sol.plot(), mpl.figure.Figure)


def test_a_notebook_gets_the_figure_once(sol: rr.Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = sol.plot()
    with pytest.raises(NotImplementedError):
        figure._ipython_display_()
    assert plt.fignum_exists(figure.number)
    monkeypatch.setattr(mpl, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    with pytest.raises(NotImplementedError):
        figure._ipython_display_()
    assert not plt.fignum_exists(figure.number)


def test_saved_png_carries_the_digest(sol: rr.Solution, tmp_path: Path) -> None:
    path = rr.plot.save(sol.plot(), tmp_path / "new folder" / "figure")
    assert path.name == "figure.png"
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 500
        assert image.info["Scenario"] == sol.problem.digest
        assert image.info["Software"] == f"rralloc {rr.__version__}"
        pixels = np.asarray(image.convert("L"))
    assert pixels.min() < 80 < 250 < pixels.max()
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_saving_vector_files(sol: rr.Solution, tmp_path: Path, suffix: str) -> None:
    path = rr.plot.save(sol.plot(), tmp_path / f"figure{suffix}")
    assert sol.problem.digest.encode() in path.read_bytes()


def test_saving_refuses_other_suffixes_and_takes_foreign_figures(
    sol: rr.Solution, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"\.png, \.svg or \.pdf"):
        rr.plot.save(sol.plot(), tmp_path / "figure.jpg")
    with Image.open(rr.plot.save(plt.figure(), tmp_path / "blank.png")) as image:
        assert "Scenario" not in image.info


def test_looks_differ_in_more_than_colour() -> None:
    looks = [_style.look(i) for i in range(6)]
    for key in ("color", "linestyle", "marker"):
        assert len({str(look[key]) for look in looks}) == 6
    every = [tuple(map(str, _style.look(i).values())) for i in range(42)]
    assert len(set(every)) == 42


def test_titles_keep_numbers_and_per_cent_together() -> None:
    _, ax = plt.subplots()
    _style.title(ax, "The weakest five devices get 39 % of the band " * 3, 44)
    lines = ax.get_title(loc="center").split("\n")
    assert max(map(len, lines)) <= 44
    assert not any(line.startswith("%") for line in lines)
    assert max(map(len, lines)) - min(map(len, lines)) < 25


@pytest.mark.parametrize(
    ("unit", "largest", "told", "power"),
    [("Hz", 2.5e5, "kHz", 3), ("W", 0.02, "mW", -3), ("s", 4e4, "s", 0), ("bit", 6e8, "Mbit", 6),
     ("1", 1e6, "1", 0), ("W", 0.0, "W", 0), ("dB", 1e4, "dB", 0)],
)  # fmt: skip
def test_units_take_a_prefix(unit: str, largest: float, told: str, power: int) -> None:
    assert _labels.scaled(unit, np.array([np.nan, largest, 0.0])) == (told, power)


def test_axis_is_in_prefixed_unit_and_data_in_si() -> None:
    _, ax = plt.subplots()
    ax.plot([0, 1], [0.0, 4e5])
    _labels.name_axis(ax.yaxis, "bandwidth", "Hz", np.array([4e5]))
    ax.figure.draw_without_rendering()
    assert ax.get_ylabel() == "bandwidth (kHz)"
    assert "400" in [t.get_text() for t in ax.get_yticklabels()]


def test_names_without_units() -> None:
    assert _labels.stem("bandwidth_hz") == "bandwidth"
    assert _labels.stem("sign_power_share") == "sign power"
    assert _labels.unit_of_name("noise_psd_w_hz") == "W/Hz"
    assert _labels.unit_of_name("probability") == "1"


def test_spread_moves_only_what_is_too_close() -> None:
    far = np.array([0.1, 0.9, 0.5])
    np.testing.assert_allclose(_labels.spread(far, 0.1), far)
    close = np.array([0.50, 0.52, 0.9])
    placed = _labels.spread(close, 0.1)
    np.testing.assert_allclose(placed, [0.46, 0.56, 0.9])
    rng = np.random.default_rng(0)
    for _ in range(20):
        heights = rng.uniform(size=7)
        placed = _labels.spread(heights, 0.08)
        assert np.diff(np.sort(placed)).min() >= 0.08 - 1e-12
        np.testing.assert_array_equal(np.argsort(placed), np.argsort(heights))


def test_decibels_leave_out_silence() -> None:
    np.testing.assert_array_equal(_labels.decibel(np.array([100.0, 0.0])), [20.0, np.nan])
