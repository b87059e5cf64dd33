"""Nothing is tuned for a stream: the packages know no recorded stream by name."""

import re
from pathlib import Path

from tests.benchmarks.quality.streams import CLASSIFICATION, MULTILABEL, REGRESSION
from tests.recorded import STREAMS

ROOT = Path(__file__).parent.parent
PACKAGES = ("connectors", "streamnn", "pipeline", "deploy")
EXAMPLES = ROOT / "deploy" / "examples"  # an example is made of a stream
FURTHER = ("shuttle", "sms_spam", "spam_full", "tinyshakespeare", "ml_20ng", "mtr_enb", "mnist", "nab")
SHOWN = re.compile(r"river:Phishing|a name such as `Phishing`")  # how a data set of river is asked for, in help texts
KINDS = {".py", ".c", ".toml", ".yaml", ".json"}


def names():
    """The recorded streams, as files and without their family."""
    full = {name for name, _, _ in (*CLASSIFICATION, *REGRESSION, *MULTILABEL)} | {s.name for s in STREAMS} | {*FURTHER}
    return full | {name.removeprefix("ml_").removeprefix("mtr_") for name in full if len(name) > 8}


def test_no_package_names_a_recorded_stream():
    """A name of a stream may stand in no string, comparison or path of ours."""
    pattern = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, names())))})\b", re.IGNORECASE)
    files = [
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*"))
        if path.suffix in KINDS and EXAMPLES not in path.parents
    ]
    assert len(files) > 50
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(SHOWN.sub("", line))
    ]
    assert not found, "\n".join(found)
