"""The data sets and generators that come with the river library, as streams.

In: a name such as `Phishing`, or `Agrawal?classification_function=2` with parameters. Out: blocks of columns. The
target of a data set with one is the field "target"; where there are several they have their names. A record is the
event as a JSON object.

A generator whose concept moves is written as several, with the event at which the next one takes over and, if it comes
gradually, over how many events: `SEA?variant=0 -> SEA?variant=2 @ 3000 -> SEA?variant=1 @ 6000 ~ 500`.
"""

import ast
import difflib
import inspect
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, overload
from urllib.parse import parse_qsl

import numpy as np
from river import datasets
from river.datasets import base, synth

from connectors.cells import cells_of
from connectors.decode import CellsBlock
from connectors.errors import SourceError
from connectors.json_text import json_text
from connectors.records import Record

TARGET = "target"

_MOST_ROWS = 512  # of a block: events are made one by one, and a poll must not take long
_TASKS = {
    base.REG: "regression",
    base.BINARY_CLF: "binary",
    base.MULTI_CLF: "multiclass",
    base.MO_BINARY_CLF: "multilabel",
    base.MO_REG: "multitarget",
}
_PROBLEMS = (OSError, RuntimeError, ValueError, TypeError, LookupError)
_NEXT = "->"
_LATER = re.compile(r"(?P<name>[^@~]+)@\s*(?P<at>[0-9]+)\s*(?:~\s*(?P<width>[0-9]+))?\s*")


class RiverReader:
    """Reads a data set or generator of river.

    A mark is a number of events; it is reached by making all events before it again.

    Args:
        name: of the class in any case, with parameters behind a question mark; of generators several, see above.
        generator: look among the generators, not among the recorded data sets.
        seed: of a generator, unless the parameters name one.

    Raises:
        SourceError: there is no such class or parameter, the data set has not been downloaded, or generators do not fit
            together.
    """

    fields: tuple[str, ...] | None = None

    def __init__(self, name: str, *, generator: bool, seed: int) -> None:
        self._name, self._generator, self._seed = name, generator, seed
        self._events: Iterator[tuple[Any, Any]] = iter(())
        self._next = 0  # event to make
        self._place = 0  # first event that `read` returned last
        self._size: int | None = None
        self.targets: tuple[str, ...] = ()
        self.task = ""
        self._several = False
        self._make()

    def open(self, mark: Mapping[str, Any] | None) -> None:
        """Go to a mark, or to the beginning."""
        self.close()
        dataset = self._make()  # anew, as a generator may go on where it was
        self._size, self.task = dataset.n_samples, _TASKS.get(dataset.task, "")
        events = iter(dataset)
        first = self._guarded(lambda: list(islice(events, 1)))
        if first:
            self._name_targets(*first[0])
        self._events = chain(first, events)
        self._next = self._place = 0 if mark is None else mark["row"]
        self._guarded(lambda: list(islice(self._events, self._next, self._next)))

    def mark(self) -> dict[str, Any]:
        """Return what finds the first record of those that `read` returned last."""
        return {"row": self._place}

    def read(self, most: int) -> CellsBlock | None:
        """Return the next records, at most `most`; None at the end."""
        events = self._guarded(lambda: list(islice(self._events, min(most, _MOST_ROWS))))
        if not events:
            return None
        self._place, self._next = self._next, self._next + len(events)
        rows = [self._event(x, y) for x, y in events]
        return CellsBlock(_Events(rows), cells_of(rows), np.arange(len(rows)), {})

    @property
    def progress(self) -> float | None:
        """The share of the events made; None for an endless generator."""
        return None if self._size is None else min(1.0, self._next / max(1, self._size))

    def close(self) -> None:
        """Let go of the data set. May be called twice."""
        with warnings.catch_warnings():
            # river closes the file of a data set only at its end, and leaves it to the interpreter before
            warnings.simplefilter("ignore", ResourceWarning)
            self._events = iter(())

    def _make(self) -> Any:
        if not self._generator or _NEXT not in self._name:
            return self._made(self._name, self._seed)
        first, *later = self._name.split(_NEXT)
        concepts, changes = [self._made(first.strip(), self._seed)], list[tuple[int, int]]()
        for number, text in enumerate(later, 1):
            found = _LATER.fullmatch(text.strip())
            if found is None:
                raise SourceError(
                    f"synth:{self._name}: {text.strip()!r} does not say when it begins; expected NAME @ EVENT, or"
                    " NAME @ EVENT ~ WIDTH for a change that takes so many events"
                )
            # other seeds, else a later concept would begin with the very inputs of the first one
            concepts.append(self._made(found["name"].strip(), self._seed + number))
            changes.append((int(found["at"]), int(found["width"] or 0)))
        if changes != sorted(changes):
            raise SourceError(f"synth:{self._name}: concepts have to be in the order in which they begin")
        tasks = {(one.task, one.n_features) for one in concepts}
        if len(tasks) > 1:
            raise SourceError(f"synth:{self._name}: generators of one stream need the same task and number of features")
        return _Moving(concepts, changes, self._seed)

    def _made(self, text: str, seed: int) -> Any:
        kind = "synth" if self._generator else "river"
        name, _, query = text.partition("?")
        known = _classes(self._generator)
        if name.lower() not in known:
            near = _near(name.lower(), {key: found.__name__ for key, found in known.items()})
            raise SourceError(f"{kind}:{name} does not exist.{near}")
        made = known[name.lower()]
        parameters = inspect.signature(made).parameters
        arguments: dict[str, Any] = {p: seed for p in parameters if p == "seed" or p.startswith("seed_")}
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key not in parameters:
                raise SourceError(
                    f"{kind}:{made.__name__} has no parameter {key!r}.{_near(key, {p: p for p in parameters})}"
                )
            arguments[key] = _value(value)
        dataset = self._guarded(lambda: made(**arguments))
        if isinstance(dataset, base.RemoteDataset) and not self._guarded(lambda: dataset.is_downloaded):
            raise SourceError(
                f"{kind}:{made.__name__} has not been downloaded; do so with"
                f" python -c 'from river import datasets; datasets.{made.__name__}().download()'"
            )
        return dataset

    def _name_targets(self, x: Any, y: Any) -> None:
        if not isinstance(x, Mapping):
            raise SourceError(f"river:{self._name} has features without names, which cannot be read")
        self._several = isinstance(y, Mapping)
        taken, names = {str(name) for name in x}, list[str]()
        for name in y if self._several else (TARGET,):
            names.append(f"target_{name}" if str(name) in taken else str(name))
        self.targets = tuple(names)

    def _event(self, x: Any, y: Any) -> dict[str, object]:
        event: dict[str, object] = {str(name): value for name, value in x.items()}
        event.update(zip(self.targets, y.values() if self._several else (y,), strict=True))
        return event

    def _guarded(self, act: Any) -> Any:
        """Call into river, and name the stream if that fails."""
        try:
            return act()
        except SourceError:
            raise
        except _PROBLEMS as problem:
            kind = "synth" if self._generator else "river"
            raise SourceError(f"{kind}:{self._name} cannot be read: {problem}") from problem


class _Moving:
    """Generators one after the other.

    Args:
        concepts: the generators, of one task.
        changes: of each but the first the event at which it is as likely as those before, and the width of the logistic
            curve of its share, which rises from .12 to .88 over so many events; 0 = at once.
        seed: of the draws.
    """

    def __init__(self, concepts: Sequence[Any], changes: Sequence[tuple[int, int]], seed: int) -> None:
        self._concepts, self._changes, self._seed = concepts, changes, seed
        self.n_samples, self.task = None, concepts[0].task

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        drawn, events = np.random.default_rng(self._seed), [iter(one) for one in self._concepts]
        number = 0
        while True:
            chosen = 0
            for place, (at, width) in enumerate(self._changes, 1):
                if drawn.random() < _share(number - at, width):
                    chosen = place
            found = next(events[chosen], None)
            if found is None:
                return
            yield found
            number += 1


def _share(after: int, width: int) -> float:
    """Return the probability of the next concept, so many events after the middle of a change: a logistic curve."""
    if not width:
        return float(after >= 0)
    return 1.0 / (1.0 + math.exp(min(-4.0 * after / width, 700.0)))


@dataclass(frozen=True, slots=True)
class _Events(Sequence[Record]):
    """Events, each of which becomes a record only when asked for."""

    rows: list[dict[str, object]]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "_Events": ...
    def __getitem__(self, index: int | slice) -> "Record | _Events":
        if isinstance(index, slice):
            return _Events(self.rows[index])
        return Record(json_text(self.rows[index]))


def _classes(generator: bool) -> dict[str, Any]:
    """Return the classes that can be named, by their names in lower case."""
    module, skipped = (synth, ()) if generator else (datasets, ("base", "synth"))
    found = {name: thing for name, thing in vars(module).items() if name not in skipped and inspect.isclass(thing)}
    return {name.lower(): thing for name, thing in found.items() if issubclass(thing, base.Dataset)}


def _near(name: str, known: Mapping[str, str]) -> str:
    near = [known[key] for key in difflib.get_close_matches(name, known, n=1)]
    return f" Did you mean {near[0]}?" if near else f" There are {', '.join(sorted(known.values()))}."


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
