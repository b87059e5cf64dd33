"""What the health pages say of a loop that works, waits or hangs."""

from pipeline.server import STALE_S, Health


def test_a_loop_that_waits_is_alive_and_not_ready():
    """Signs of life without blocks keep a loop alive, and it takes nothing in; without either it is dead."""
    now = [0.0]
    health = Health(lambda: now[0])
    health.ready = True
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
