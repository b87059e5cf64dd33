"""deep-river's side of the step benchmark, in a process of its own: it needs another version of river than we do.

The process is this Python with the folder `deep_river` of STREAMNN_PEERS in front (see `tests.benchmarks.quality.environments`).
It reads how many events to do, a line each, and answers with the processor time that it has taken so far, in seconds.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.bench.steps import RATE, Case, data, names, network
from pipeline.bench.timing import Side

EVENTS = 50  # of one call
LENGTH = 4_000  # of the stream, which begins again at its end


@contextmanager
def beside(case: Case) -> Iterator[Side]:
    """Start the process for one case; ends it afterwards."""
    root, peers = Path(__file__).parents[2], Path(os.environ["STREAMNN_PEERS"]) / "deep_river"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(peers), str(root)])}
    command = [sys.executable, "-m", "tests.benchmarks.deep_river", json.dumps(asdict(case))]
    with subprocess.Popen(command, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        spent = 0.0

        def run(events: int) -> None:
            nonlocal spent
            process.stdin.write(f"{events}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise RuntimeError(f"deep-river's process ended with {process.wait()}: {case}")
            spent = float(answer)

        try:
            yield Side(run, EVENTS, lambda: spent)
        finally:
            process.stdin.close()


def work(case: Case) -> None:
    """Learn as many events as each line asks for: predict_proba_one, learn_one; inputs as they are."""
    from deep_river.classification import Classifier

    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = Classifier(
        module=network(case), loss_fn="cross_entropy", optimizer_fn=case.optimizer, lr=RATE, is_class_incremental=True
    )
    x, y = data(case, LENGTH)
    fields, labels, at = names(case.inputs), y.tolist(), 0
    for line in sys.stdin:
        for _ in range(int(line)):
            event = dict(zip(fields, x[at].tolist(), strict=True))
            made.predict_proba_one(event)
            made.learn_one(event, labels[at])
            at = (at + 1) % LENGTH
        print(time.process_time(), flush=True)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    work(Case(**{**given, "units": tuple(given["units"])}))
