"""deep-river's side, in a process of its own: it needs another version of river than we do.

The process is this Python with the folder `deep_river` of STREAMNN_PEERS in front, where that is set. It says that it is ready,
then reads what to do, a line of JSON each, and answers likewise.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import torch
from river import preprocessing

from pipeline.bench.peers import Outcome, replay
from pipeline.bench.steps import RATE, Case, data, names, network
from pipeline.bench.timing import Side

PACKAGES = ("deep-river==0.3.4", "river==0.25.0", "sortedcontainers==2.4.0")  # all that it needs besides what we have
INSTALL = f"""\
  pip install --no-deps --target peers/deep_river \\
    {" ".join(PACKAGES)}
  export STREAMNN_PEERS=$PWD/peers"""
EVENTS = 50  # of one call
LENGTH = 4_000  # of the stream of a step, which begins again at its end


class AbsentError(RuntimeError):
    """There is no deep-river here; the message says why."""


@dataclass(frozen=True, slots=True)
class DeepRiver:
    """The process while it runs.

    Attributes:
        process: reads and writes lines of JSON.
        said: its standard error.
    """

    process: subprocess.Popen[str]
    said: IO[str]

    def side(self, case: Case) -> Side:
        """Predict and learn events with one network; timed by the process's own clock."""
        spent, given = 0.0, asdict(case)

        def run(events: int) -> None:
            nonlocal spent
            spent = self._ask({"case": given, "events": events})["spent"]

        return Side(run, EVENTS, lambda: spent)

    def replay(self, path: Path, target: str, rows: int, predictions: Path, *, units: tuple[int, ...]) -> Outcome:
        """Let a network with hidden layers of `units` learn the first rows of a CSV file, as `peers.replay` has it."""
        asked = {"path": str(path), "target": target, "rows": rows, "predictions": str(predictions), "units": units}
        return Outcome(**self._ask(asked))

    def last_words(self) -> str:
        """Return why the process has ended."""
        self.said.seek(0)
        lines = self.said.read().strip().splitlines()
        return lines[-1] if lines else f"its process ended with {self.process.wait()}"

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"deep-river ended at {asked}: {self.last_words()}")
        found: dict[str, Any] = json.loads(answer)
        return found


@contextmanager
def beside() -> Iterator[DeepRiver]:
    """Start the process; ends it afterwards.

    Raises:
        AbsentError: deep-river is not installed where it is looked for, or cannot be imported.
    """
    peers = os.environ.get("STREAMNN_PEERS")
    if peers and not (Path(peers) / "deep_river").is_dir():
        raise AbsentError(f"STREAMNN_PEERS={peers} has no folder deep_river")
    if not peers and find_spec("deep_river") is None:
        raise AbsentError("it is not installed")
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([*([str(Path(peers).absolute() / "deep_river")] if peers else []), root])
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(  # this Python, with a module of ours
            [sys.executable, "-P", "-m", "pipeline.bench.deep_river"],
            env={**os.environ, "PYTHONPATH": path}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
        ) as process,
    ):  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        found = DeepRiver(process, said)
        try:
            if not process.stdout.readline():
                raise AbsentError(found.last_words())
            yield found
        finally:
            process.stdin.close()


def work() -> None:
    """Do what each line asks for: learn events of a network, inputs as they are, or a file."""
    classifier = importlib.import_module("deep_river.classification").Classifier

    def make(case: Case) -> Any:
        torch.manual_seed(0)
        return classifier(
            module=network(case),
            loss_fn="cross_entropy",
            optimizer_fn=case.optimizer,
            lr=RATE,
            is_class_incremental=True,
        )

    torch.set_num_threads(1)
    print("ready", flush=True)
    steps: dict[Case, Callable[[int], None]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "case" in asked:
            case = Case(**{**asked["case"], "units": tuple(asked["case"]["units"])})
            if case not in steps:
                steps[case] = _learn(make(case), case)
            steps[case](asked["events"])
            print(json.dumps({"spent": time.process_time()}), flush=True)
            continue
        path = Path(asked["path"])
        with path.open(encoding="utf-8") as source:
            inputs = source.readline().count(",")
        made = preprocessing.StandardScaler() | make(Case(inputs, tuple(asked["units"]), 2, "layer", "adam"))
        done = replay(made, path, asked["target"], asked["rows"], Path(asked["predictions"]))
        print(json.dumps(asdict(done)), flush=True)


def _learn(made: Any, case: Case) -> Callable[[int], None]:
    """Return what learns the next events of a case: predict_proba_one, learn_one."""
    x, y = data(case, LENGTH)
    fields, labels, at = names(case.inputs), y.tolist(), 0

    def run(events: int) -> None:
        nonlocal at
        for _ in range(events):
            event = dict(zip(fields, x[at].tolist(), strict=True))
            made.predict_proba_one(event)
            made.learn_one(event, labels[at])
            at = (at + 1) % LENGTH

    return run


if __name__ == "__main__":
    work()
