"""Who runs the parts: C, or the NumPy reference where there is no compiler (hundreds of times slower)."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from streamnn.native.build import CompilerError
from streamnn.pool import (
    blend,
    forest,
    label_mixer,
    label_sets,
    linear,
    maps,
    mixer,
    native,
    net,
    replay,
    squares,
    tables,
    value_forest,
    values,
    votes,
)
from streamnn.pool.reference import blend as slow_blend
from streamnn.pool.reference import forest as slow_forest
from streamnn.pool.reference import label_mixer as slow_label_mixer
from streamnn.pool.reference import label_sets as slow_label_sets
from streamnn.pool.reference import linear as slow_linear
from streamnn.pool.reference import maps as slow_maps
from streamnn.pool.reference import mixer as slow_mixer
from streamnn.pool.reference import net as slow_net
from streamnn.pool.reference import replay as slow_replay
from streamnn.pool.reference import squares as slow_squares
from streamnn.pool.reference import tables as slow_tables
from streamnn.pool.reference import value_forest as slow_value_forest
from streamnn.pool.reference import values as slow_values
from streamnn.pool.reference import votes as slow_votes

EngineName = Literal["auto", "native", "eager"]
PARTS = (
    "maps",
    "linear",
    "tables",
    "forest",
    "net",
    "replay",
    "mixer",
    "values",
    "value_forest",
    "squares",
    "blend",
    "votes",
    "label_mixer",
    "label_sets",
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The functions that run the parts of a pool; see the modules they come from."""

    name: str
    maps: Callable[..., None]
    linear: Callable[..., None]
    tables: Callable[..., None]
    forest: Callable[..., None]
    net: Callable[..., None]
    mixer: Callable[..., None]
    choose: Callable[..., None]
    values: Callable[..., None]
    value_forest: Callable[..., None]
    squares: Callable[..., None]
    blend: Callable[..., None]
    votes: Callable[..., None]
    label_mixer: Callable[..., None]
    label_sets: Callable[..., None]


NATIVE = Parts(
    "native",
    maps.run,
    linear.run,
    tables.run,
    forest.run,
    net.run,
    mixer.run,
    replay.choose,
    values.run,
    value_forest.run,
    squares.run,
    blend.run,
    votes.run,
    label_mixer.run,
    label_sets.run,
)
EAGER = Parts(
    "eager",
    slow_maps.run,
    slow_linear.run,
    slow_tables.run,
    slow_forest.run,
    slow_net.run,
    slow_mixer.run,
    slow_replay.choose,
    slow_values.run,
    slow_value_forest.run,
    slow_squares.run,
    slow_blend.run,
    slow_votes.run,
    slow_label_mixer.run,
    slow_label_sets.run,
)


def select(engine: EngineName) -> Parts:
    """Return the parts of an engine; auto is native where there is a compiler, else eager with a warning.

    Raises:
        CompilerError: native is asked for, but there is no compiler, or it fails.
    """
    if engine == "eager":
        return EAGER
    try:
        for part in PARTS:
            native.library(part)
    except CompilerError as error:
        if engine == "native":
            raise
        warnings.warn(f"running the pool in NumPy, some hundred times slower: {error}", RuntimeWarning, stacklevel=3)
        return EAGER
    return NATIVE
