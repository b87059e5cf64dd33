"""What the health pages say of a loop that works, waits or hangs."""

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from pipeline.server import STALE_S, UNREACHABLE_S, Health, Server


@pytest.fixture
def made():
    """A loop that has begun, and the seconds that it goes by."""
    now = [0.0]
    health = Health(lambda: now[0])
    health.ready = True
    return health, now


def test_a_loop_that_waits_is_alive_and_not_ready(made):
    """Signs of life without blocks keep a loop alive, and it takes nothing in; without either it is dead."""
    health, now = made
    assert health.serving()[0]
    now[0] = STALE_S + 1
    health.beat()
    alive, told = health.alive()
    assert alive
    assert (told["seconds_since_last_sign"], told["seconds_since_last_block"]) == (0.0, STALE_S + 1)
    assert not health.serving()[0]
    health.block()
    assert health.serving()[0]
    now[0] += STALE_S + 1
    assert not health.alive()[0]
    assert not health.serving()[0]


def page(server, name):
    """Status and content of a page."""
    try:
        with urllib.request.urlopen(f"{server.url}/{name}", timeout=60) as answer:  # noqa: S310 (our own server)
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_source_without_an_answer_is_not_ready(made):
    """While blocks come and are empty, since nothing answers, the page says so and why; it is good again by itself."""
    health, now = made
    server = Server(CollectorRegistry(), health, host="127.0.0.1", port=0)
    try:
        for unreachable_s in (0.0, UNREACHABLE_S - 0.5, 0.0):
            now[0] += 1.0
            health.block(unreachable_s)
            assert (page(server, "readyz")[0], page(server, "readyz")[1]["reason"]) == (200, "")
        for unreachable_s in (UNREACHABLE_S, 3600.0):
            now[0] += 1.0
            health.block(unreachable_s)
            status, told = page(server, "readyz")
            assert (status, told["status"], told["unreachable_seconds"]) == (503, "unavailable", unreachable_s)
            assert f"no answer for {unreachable_s:.0f} s" in told["reason"]
            assert page(server, "livez")[0] == 200
        health.block(0.0)
        assert page(server, "readyz")[0] == 200
    finally:
        server.close()


def test_what_is_not_ready_says_why(made):
    """One reason, the one that a person would begin with."""
    health, now = made
    health.ready, health.standing_by = False, True
    assert "stands by" in health.serving()[1]["reason"]
    health.standing_by = False
    assert "not begun" in health.serving()[1]["reason"]
    health.ready, health.draining = True, True
    health.block(3600.0)
    assert "is to stop" in health.serving()[1]["reason"]
    health.draining, now[0] = False, now[0] + STALE_S
    assert f"finished for {STALE_S:.0f} s" in health.serving()[1]["reason"]
