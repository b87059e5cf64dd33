"""Thousands of seeded histories of faults, each judged by an auditor.

Covered: kills, power cuts, SIGTERM, processes that were taken for dead, brokers that are away or forget their producers,
full disks, calls that fail or whose answer is lost; in each delivery, order, size of batch and delay of labels. In
schedules of their own: retention that deletes what was read, and what was not.
Not covered: topics of labels, partitions that are added, `lost = "skip"`, `mode.max_wait_ms`, standby; those have tests
of their own elsewhere.
"""

import logging
import os
from collections import Counter
from dataclasses import replace

import pytest

from tests.simulation.audit import ViolationError
from tests.simulation.model import REFUSED
from tests.simulation.schedule import Schedule
from tests.simulation.workload import SOURCE, draw

SCHEDULES, BLOCKS = 2_000, 8
RETENTION_SCHEDULES = 200
MANY, MANY_BLOCKS = 6_000, 4
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


def judged(seed, *, retention=False):
    """Run the schedule of a seed; a failure tells how to repeat it."""
    schedule = Schedule(seed, retention=retention)
    try:
        schedule.run()
    except ViolationError as violation:
        how = f"STREAMNN_SEED={seed} " + ("STREAMNN_RETENTION=1 " if retention else "")
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
    """The same for thousands more."""
    for seed in range(SCHEDULES + block, SCHEDULES + MANY, MANY_BLOCKS):
        judged(seed)


@pytest.mark.skipif("STREAMNN_SEED" not in os.environ, reason="repeats the schedule that STREAMNN_SEED names")
def test_one_seed():
    """The schedule of one seed, told step by step with -s."""
    retention = "STREAMNN_RETENTION" in os.environ
    print(judged(int(os.environ["STREAMNN_SEED"]), retention=retention).story())


def test_records_that_retention_deletes():
    """Deleted before they were read, they stop the run loudly and are never skipped; deleted later they harm nothing."""
    ends = Counter()
    for seed in range(RETENTION_SCHEDULES):
        schedule = judged(seed, retention=True)
        deleted = any(log.start for log in schedule.world.cluster.topics[SOURCE])
        ends["refused" if schedule.refused else "harmless" if deleted else "nothing deleted"] += 1
    assert min(ends["refused"], ends["harmless"]) >= 20, f"the schedules hardly meet retention: {ends}"


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
