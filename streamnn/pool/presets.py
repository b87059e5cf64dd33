"""What a pool is made of: the presets, with constants that are the same for every stream.

Nothing here depends on a stream; docs/quality.md says by which streams they were chosen, and what later changes gained and lost.
"""

from dataclasses import replace
from typing import Literal, get_args

from streamnn.pool.net import NetSpec

Preset = Literal["single", "lite", "fast", "best"]
PRESETS: tuple[Preset, ...] = get_args(Preset)

FORESTS: tuple[Preset, ...] = ("best",)  # presets with trees, which take as long as a network or two

THIRD = 1 / 3  # of the pool's rate: networks that learn the past again take smaller steps

PLAIN = NetSpec(name="net", beta2=0.99)
REPLAY = NetSpec(name="net_replay", rate=THIRD, again=3, lean=True)
NETWORKS: dict[Preset, tuple[NetSpec, ...]] = {
    "single": (PLAIN,),
    "lite": (PLAIN,),
    "fast": (PLAIN, REPLAY),
    "best": (
        PLAIN,
        REPLAY,
        NetSpec(name="net_replay_short", rate=THIRD, again=3, window=200),
        NetSpec(name="net_replay_all", rate=THIRD, again=8, window=0),
        NetSpec(name="net_replay_lean", rate=THIRD, again=8, lean=True),
        NetSpec(name="net_replay_quick", again=8, window=0, lean=True),
    ),
}

_STEADY = NetSpec(name="value", rate=THIRD, objective="huber")
_QUICK = NetSpec(name="value_quick", beta2=0.99, objective="huber")
_REPLAY = NetSpec(name="value_replay", rate=THIRD, again=3, objective="huber")


def _both(specs: tuple[NetSpec, ...]) -> tuple[NetSpec, ...]:
    """Networks for the value, then the same for its residual."""
    residual = tuple(replace(s, name=s.name.replace("value", "residual"), residual=True) for s in specs)
    return (*specs, *residual)


_ALL = (
    _STEADY,
    _QUICK,
    _REPLAY,
    replace(_REPLAY, name="value_replay_short", window=200),
    replace(_REPLAY, name="value_replay_all", again=8, window=0),
    replace(_REPLAY, name="value_replay_lean", again=8, lean=True),
    replace(_REPLAY, name="value_replay_quick", rate=1.0, again=8, window=0, lean=True),
)
_ABSOLUTE = tuple(
    replace(s, name=s.name.replace("value", "residual_absolute"), residual=True, objective="absolute")
    for s in (_STEADY, _REPLAY)
)
VALUE_NETWORKS: dict[Preset, tuple[NetSpec, ...]] = {
    "single": (replace(_QUICK, name="residual", residual=True),),
    "lite": _both((_STEADY,)),
    "fast": _both((_STEADY, _REPLAY)),
    "best": (*_both(_ALL), *_ABSOLUTE),
}

_LABELS = NetSpec(name="net", objective="labels", lean=True)
_STEPS = (
    _LABELS,
    replace(_LABELS, name="net_steady", rate=THIRD),
    replace(_LABELS, name="net_replay", rate=THIRD, again=3),
    replace(_LABELS, name="net_replay_slow", rate=0.1, again=3),
)
_NARROW = tuple(replace(s, name=f"{s.name}_narrow", lean=False, narrow=True) for s in _STEPS)
LABEL_NETWORKS: dict[Preset, tuple[NetSpec, ...]] = {
    "single": (_STEPS[1],),
    "lite": (_STEPS[1], _NARROW[1]),
    "fast": (_STEPS[1], _NARROW[1], _NARROW[2]),
    "best": (*_STEPS, *_NARROW),
}
NARROW_LABEL_NETWORKS: dict[Preset, tuple[NetSpec, ...]] = {
    "single": (_NARROW[1],),
    "lite": (_NARROW[1],),
    "fast": (_NARROW[1], _NARROW[2]),
    "best": _NARROW,
}
