"""What a pool is made of: the presets, with constants that are the same for every stream.

They were chosen on six streams and checked on thirteen others; nothing here depends on a stream.
"""

from typing import Literal, get_args

from streamnn.pool.net import NetSpec

Preset = Literal["single", "lite", "fast", "best"]
PRESETS: tuple[Preset, ...] = get_args(Preset)

THIRD = 1 / 3  # of the pool's rate: networks that learn the past again take smaller steps

PLAIN = NetSpec(name="net", beta2=0.99)
REPLAY = NetSpec(name="net_replay", rate=THIRD, again=3)
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
    ),
}
