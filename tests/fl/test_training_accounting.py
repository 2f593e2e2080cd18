"""Seconds, joules and bits by hand; limits of a run; its file."""

import dataclasses
import math

import numpy as np
import pytest
from toys import Everybody, OneByOne, make_link, make_task

import rralloc as rr
from rralloc.errors import ScenarioError
from rralloc.fl import DigitalPacket, ErrorFree, History

GAIN = np.array([1e-10, 2e-11, 5e-11, 4e-12])
COMPUTE = np.array([0.1, 0.4, 0.2, 0.3])
POWER = np.array([0.1, 0.2, 0.1, 0.05])
FIELDS = {
    "mean_gain": GAIN,
    "compute_s": COMPUTE,
    "power_w": POWER,
    "fading": "none",
    "bandwidth_hz": 2e6,
    "noise_psd_w_hz": 1e-20,
    "compute_j": 0.25,
}


def airtime(band, gain, power, bits=1e5):
    return bits / (band * math.log2(1 + power * gain / (1e-20 * band)))


def test_side_by_side_ends_with_the_slowest():
    link = make_link(**FIELDS)
    history = rr.fl.train(make_task(), link, Everybody(), rounds=3, scheme=ErrorFree())
    air = [airtime(5e5, g, p) for g, p in zip(GAIN, POWER)]
    seconds = max(c + a for c, a in zip(COMPUTE, air))
    joules = sum(p * a for p, a in zip(POWER, air)) + 4 * 0.25
    np.testing.assert_allclose(history.seconds, seconds * np.arange(4), rtol=1e-12)
    np.testing.assert_allclose(history.joules, joules * np.arange(4), rtol=1e-12)
    np.testing.assert_allclose(history.bits, 4e5 * np.arange(4), rtol=1e-12)
    assert history.scheduled.tolist() == [3, 3, 3, 3]


def test_in_turn_only_the_scheduled_count():
    link = make_link(**FIELDS)
    history = rr.fl.train(make_task(), link, OneByOne(), rounds=4, scheme=ErrorFree())
    air = [airtime(2e6, g, p) for g, p in zip(GAIN, POWER)]
    np.testing.assert_allclose(np.diff(history.seconds), COMPUTE + air, rtol=1e-12)
    np.testing.assert_allclose(np.diff(history.joules), POWER * air + 0.25, rtol=1e-12)
    np.testing.assert_allclose(np.diff(history.bits), 1e5, rtol=1e-12)
    assert history.scheduled.tolist() == [1, 1, 1, 1]


def test_a_margin_lengthens_the_airtime():
    link = make_link(**FIELDS)
    history = rr.fl.train(
        make_task(), link, Everybody(), rounds=1, scheme=DigitalPacket(margin=0.25)
    )
    air = [airtime(5e5, 0.25 * g, p) for g, p in zip(GAIN, POWER)]
    assert history.seconds[1] == pytest.approx(max(np.add(COMPUTE, air)), rel=1e-12)


def test_the_payload_follows_the_model_unless_given():
    task = make_task()
    link = make_link(**FIELDS | {"payload_bit": None, "bits_per_weight": 16.0})
    history = rr.fl.train(task, link, Everybody(), rounds=1)
    assert history.bits[1] == 4 * 16 * task.learner.size


def test_a_run_ends_when_its_seconds_are_used():
    link, task = make_link(**FIELDS), make_task()
    one = rr.fl.train(task, link, Everybody(), rounds=1).seconds[1]
    history = rr.fl.train(
        task, link, Everybody(), rounds=50, max_seconds=3.5 * one, evaluate_every=10
    )
    assert history.rounds == 3  # the fourth would end too late and does not count
    assert history.seconds[-1] == pytest.approx(3 * one)
    assert not np.isnan(history.accuracy[-1])
    assert rr.fl.train(task, link, Everybody(), rounds=2, max_seconds=1e9).rounds == 2


def test_evaluations_are_as_rare_as_asked_and_change_nothing():
    task, link = make_task(), make_link()
    rare = rr.fl.train(task, link, Everybody(), rounds=7, evaluate_every=3)
    dense = rr.fl.train(task, link, Everybody(), rounds=7)
    seen = ~np.isnan(rare.accuracy)
    assert np.flatnonzero(seen).tolist() == [0, 3, 6, 7]
    np.testing.assert_array_equal(rare.accuracy[seen], dense.accuracy[seen])
    np.testing.assert_array_equal(rare.seconds, dense.seconds)
    assert np.isnan(rare.loss[~seen]).all()
    assert not np.isnan(dense.accuracy).any()


def test_no_rounds_leave_the_start():
    history = rr.fl.train(make_task(), make_link(), Everybody(), rounds=0)
    assert history.rounds == 0
    assert history.seconds.tolist() == [0.0]
    assert len(history.accuracy) == 1


def test_reading_a_curve():
    nan = np.nan
    history = History(
        *("p", "s", "t", 0),
        accuracy=np.array([0.1, nan, 0.5, 0.4, 0.9]),
        loss=np.array([2.0, nan, 1.0, 1.1, 0.1]),
        seconds=np.array([0.0, 1.0, 2.0, 3.0, 4.0]),
        joules=np.array([0.0, 10.0, 20.0, 30.0, 40.0]),
        bits=np.zeros(5),
        local_steps=np.ones(5),
        scheduled=np.zeros(2),
        arrived=np.zeros(2),
    )
    assert [history.at_seconds(s) for s in (0.0, 1.5, 2.0, 3.9, 99.0)] == [0.1, 0.1, 0.5, 0.4, 0.9]
    assert history.at_joules(25.0) == 0.5
    assert history.seconds_to(0.5) == 2.0
    assert history.seconds_to(0.6) == 4.0
    assert history.seconds_to(0.95) == math.inf
    assert history.to_dataframe().shape == (5, 6)
    assert "4 rounds, accuracy 0.900, 4.0 s" in repr(history)


# -- the file -------------------------------------------------------------------------------------


def same(one, two):
    for name in History.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


def test_a_history_survives_its_file(tmp_path):
    history = rr.fl.train(make_task(), make_link(), Everybody(), rounds=5, evaluate_every=2, seed=3)
    path = tmp_path / "deep" / "run.nc"
    history.save(path)
    same(History.load(path), history)
    assert [p.name for p in path.parent.iterdir()] == ["run.nc"]


def test_a_diverged_run_survives_its_file(tmp_path):
    inf, nan = math.inf, math.nan
    curve = np.array([1.0, inf, nan, -inf])
    history = History("p", "s", "t", 0, *[curve] * 6, np.zeros(2), np.zeros(2))
    history.save(tmp_path / "run.nc")
    same(History.load(tmp_path / "run.nc"), history)


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    history = rr.fl.train(make_task(), make_link(), Everybody(), rounds=1)
    history.save(path)
    before = path.read_bytes()

    def full_disk(*args, **options):
        raise OSError("no space left")

    monkeypatch.setattr("xarray.Dataset.to_netcdf", full_disk)
    with pytest.raises(OSError, match="no space"):
        rr.fl.train(make_task(), make_link(), Everybody(), rounds=2).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{}", b"CDF", b"CDF\x01" + bytes(12)])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "run.nc"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match="training runs"):
        History.load(path)


def test_who_asks_for_reports_pays_for_everybodys_computing():
    """Two devices compute 1 s and 9 s; the fast one sends. Asking costs the other's 8 s and 5 J."""

    class First(Everybody):
        def decide(self, round, memory, rng):
            decision, memory = super().decide(round, memory, rng)
            only = np.arange(round.devices) == 0
            return dataclasses.replace(decision, scheduled=only, in_turn=True), memory

    class Asks(First):
        reports = ("gradient_norm",)

    task = make_task()
    count = task.clients_count
    settings = {"fading": "none", "payload_bit": 1e5, "compute_j": 5.0}
    compute = np.where(np.arange(count) == 0, 1.0, 9.0)
    uplink = rr.fl.Link(mean_gain=np.full(count, 1e-10), compute_s=compute, **settings)
    free = rr.fl.train(task, uplink, First(), rounds=1)
    paid = rr.fl.train(task, uplink, Asks(), rounds=1)
    assert paid.seconds[1] - free.seconds[1] == pytest.approx(8.0)
    assert paid.joules[1] - free.joules[1] == pytest.approx(5.0 * (count - 1))
    assert paid.accuracy[1] == free.accuracy[1]
