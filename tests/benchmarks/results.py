"""Print the table of results with the default configuration: `python -m tests.benchmarks.results`.

Needs STREAMNN_DATA. Every figure comes from `streamnn replay` as it is.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.__main__ import main
from tests.recorded import STREAMS, data_folder


def results(names: Sequence[str]) -> None:
    """Replay streams, all if none is named, and print a line each."""
    print("| stream | events | metric | model | baseline | (which) | no change / last | events/s |")
    print("|---|---|---|---|---|---|---|---|")
    for recorded in (one for one in STREAMS if not names or one.name in names):
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            path = data_folder() / f"{recorded.name}.csv.gz"
            code = main(["replay", str(path), *recorded.words, "--report", str(report), "--quiet"])
            if code:
                sys.exit(f"{recorded.name}: exit code {code}")
            figures = json.loads(report.read_text())
        baselines = figures["baselines"]
        repeat = baselines.get("no_change") or baselines.get("last") or {}
        last = repeat.get(recorded.metric)
        print(
            f"| {recorded.name} | {figures['events']:,} | {recorded.metric} |"
            f" {figures['metrics'][recorded.metric]:.4f} | {baselines[recorded.baseline][recorded.metric]:.4f} |"
            f" {recorded.baseline} | {'-' if last is None else f'{last:.4f}'} |"
            f" {figures['events_per_second']:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("streams", nargs="*", metavar="STREAM", help="those alone (default: all)")
    known = sorted({one.name for one in STREAMS})
    chosen = parser.parse_args().streams
    if unknown := sorted(set(chosen) - set(known)):
        parser.error(f"there is no stream {', '.join(unknown)}; there are {', '.join(known)}")
    results(chosen)
