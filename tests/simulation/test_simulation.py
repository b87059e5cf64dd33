"""Thousands of seeded histories of faults, each judged by an auditor.

Covered: kills, power cuts, SIGTERM, processes that were taken for dead, brokers that are away or forget their producers,
full disks, calls that fail or whose answer is lost; in each delivery, order, size of batch and delay of labels. In
schedules of their own: retention that deletes what was read, and what was not, with a run that stops there or goes on; labels
on a topic of their own, also in an order that the clock made; partitions that are added; micro-batches that the clock ends;
workers that stand by; partitions that are no longer fetched.
"""

import logging
import os
from collections import Counter
from dataclasses import replace

import pytest

from connectors.kafka.positions import PositionTrail
from tests.simulation.audit import ViolationError
from tests.simulation.model import REFUSED
from tests.simulation.schedule import Schedule
from tests.simulation.workload import SOURCE, draw

SCHEDULES, BLOCKS = 1_600, 8
KIND_SCHEDULES = 200  # of each kind
MANY, MANY_BLOCKS = 2_800, 4
BEFALL = {
    "broker_bounce", "broker_down", "commit", "commit_positions", "committed", "connect", "disk_full", "ends", "kill",
    "kill_at", "metadata", "poll", "power", "power_at", "produce", "produce_full", "sigterm", "take_over", "zombie",
    "zombie_at",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet():
    """Keep the product's warnings, of which there are thousands, out of the report."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def judged(seed, kind=""):
    """Run the schedule of a seed; a failure tells how to repeat it."""
    schedule = Schedule(seed, kind=kind)
    try:
        schedule.run()
    except ViolationError as violation:
        how = f"STREAMNN_SEED={seed} " + (f"STREAMNN_KIND={kind} " if kind else "")
        pytest.fail(
            f"seed {seed}: {violation}\n\nrepeat it with: {how}pytest tests/simulation -k one_seed",
            pytrace=False,
        )
    return schedule


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_event_counts_once_under_faults(block):
    """Whatever befalls it, the model is that of an uninterrupted run, and what it wrote is what it promised."""
    befell = Counter()
    for seed in range(block, SCHEDULES, BLOCKS):
        trace = judged(seed).world.trace
        befell.update(text.split()[1] for *_, text in trace if text.startswith("***"))
    missing = BEFALL - set(befell)
    assert not missing, f"no schedule met {missing}"


@pytest.mark.heavy
@pytest.mark.parametrize("block", range(MANY_BLOCKS))
def test_many_more_schedules(block):
    """The same for a thousand more."""
    for seed in range(SCHEDULES + block, SCHEDULES + MANY, MANY_BLOCKS):
        judged(seed)


@pytest.mark.skipif("STREAMNN_SEED" not in os.environ, reason="repeats the schedule that STREAMNN_SEED names")
def test_one_seed():
    """The schedule of one seed, told step by step with -s."""
    print(judged(int(os.environ["STREAMNN_SEED"]), os.environ.get("STREAMNN_KIND", "")).story())


def test_records_that_retention_deletes():
    """Deleted before they were read, they stop the run loudly and are never skipped; deleted later they harm nothing."""
    ends = Counter()
    for seed in range(KIND_SCHEDULES):
        schedule = judged(seed, "retention")
        deleted = any(log.start for log in schedule.world.cluster.topics[SOURCE])
        ends["refused" if schedule.refused else "harmless" if deleted else "nothing deleted"] += 1
    assert min(ends["refused"], ends["harmless"]) >= 20, f"the schedules hardly meet retention: {ends}"


def test_a_run_goes_on_without_what_retention_deletes():
    """What was deleted before it was read is skipped and counted, each offset once; nothing else is missing."""
    skipped = Counter()
    for seed in range(KIND_SCHEDULES):
        skipped["some" if judged(seed, "skip").audit.lost() else "none"] += 1
    assert skipped["some"] >= 40, f"the schedules hardly meet retention: {skipped}"


def test_labels_on_a_topic_of_their_own():
    """Each counts once, whether it came before its event, after it, twice or for nobody; so do the positions of both topics."""
    fates = Counter()
    for seed in range(KIND_SCHEDULES):
        fates.update(judged(seed, "labels").audit.fates)
    assert min(fates.values()) >= 200, f"the schedules hardly meet labels: {fates}"


def test_labels_in_an_order_that_the_clock_made():
    """Where that depends on when records come, what was written tells it, whoever was killed, and time gives labels up."""
    fates = Counter()
    for seed in range(KIND_SCHEDULES):
        fates.update(judged(seed, "trickle").audit.fates)
    assert min(fates.values()) >= 50, f"the schedules hardly meet labels that wait: {fates}"


def test_partitions_that_are_added(monkeypatch):
    """They are taken up at a checkpoint, from their beginning, and nothing of them is lost or counted twice."""
    taken_up, grow = [], PositionTrail.grow
    monkeypatch.setattr(PositionTrail, "grow", lambda trail, at: taken_up.append(at) or grow(trail, at))
    works = [judged(seed, "growth").work for seed in range(KIND_SCHEDULES)]
    later = sum(number >= work.partitions for work in works for number in work.good.values())
    assert min(len(taken_up), later) >= 50, f"taken up: {len(taken_up)} partitions, {later} events in added ones"


def test_micro_batches_that_the_clock_ends():
    """Where each ended is told by what was written, whoever was killed: with that the model can be worked out."""
    ended = sum(judged(seed, "waits").audit.fates["ended by the clock"] for seed in range(KIND_SCHEDULES))
    assert ended >= 300, f"the clock hardly ended any: {ended}"


def test_workers_that_stand_by():
    """Three workers share a folder and take turns, whoever is killed, frozen or out of the group: each event counts once."""
    met = Counter()
    for seed in range(KIND_SCHEDULES):
        told = [text for *_, text in judged(seed, "standby").world.trace]
        met.update(text for text in told if text == "taking over")
        met.update("out of the group" for text in told if text.endswith(" is out"))
    assert min(met["taking over"] - KIND_SCHEDULES, met["out of the group"]) >= 200, f"workers hardly take turns: {met}"


def test_a_partition_that_is_no_longer_fetched():
    """While others bring records the consumer is made anew, soon, and each event counts once."""
    stuck = 0
    for seed in range(KIND_SCHEDULES):
        stuck += sum(text == "a partition is stuck" for *_, text in judged(seed, "stall").world.trace)
    assert stuck >= 200, f"partitions are hardly ever stuck: {stuck}"


@pytest.mark.parametrize("chunk", [4, 512])
@pytest.mark.parametrize("delay_events", [0, 5])
def test_an_event_whose_label_is_unusable(chunk, delay_events):
    """It has its prediction if that came before the label, whether both were in one block or not."""
    drawn = (draw(seed) for seed in range(1000))
    work = next(work for work in drawn if max(work.labelled) >= REFUSED and work.delivery == "transactional")
    work = replace(work, chunk=chunk, delay_events=delay_events, batch=1)
    Schedule(0, work=work, faults=[]).run()


def test_a_seed_repeats_its_history():
    """The same seed gives the same steps at the same moments."""
    for seed in range(20):
        assert judged(seed).story() == judged(seed).story()


def test_a_failure_names_its_seed_and_tells_its_history(monkeypatch):
    """What fails is told with the seed, the command that repeats it, and every step."""
    monkeypatch.setattr(
        "tests.simulation.audit.Audit.final", lambda audit: (_ for _ in ()).throw(ViolationError("wrong"))
    )
    with pytest.raises(pytest.fail.Exception) as failed:
        judged(3)
    told = str(failed.value)
    assert "seed 3: wrong" in told
    assert "STREAMNN_SEED=3 pytest tests/simulation -k one_seed" in told
    assert "life-1   disk mkdir checkpoints" in told
