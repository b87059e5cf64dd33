"""Malformed records of every kind among good ones, through `streamnn run`: each a dead letter once, with its reason.

The verifier works out by rules of its own which records are no events and why, compares bytes, key, headers, position,
stage and reason, and learns the others; here it is only counted that every reason was met.
"""

import json
import os
import random
import time

import pytest

from connectors.kafka.client import Outgoing
from tests.integration import helpers, runs, verifier

BAD = int(os.environ.get("STREAMNN_POISON", "10000"))
GOOD = 2_000


def broken(chance, good):
    """A malformed record made from a good one."""
    event = json.loads(good)
    name = chance.choice(["f0", "f1", "f2"])

    def with_(**changed):
        return json.dumps(event | changed).encode()

    return chance.choice(
        [
            lambda: good[: chance.randrange(len(good))],
            lambda: good[:-1] + b",}",
            lambda: good + good,
            lambda: b"not JSON %d" % chance.randrange(100),
            lambda: b"[" * 1500,
            lambda: good[:-1] + b', "note": "\\ud800"}',
            lambda: chance.choice([b"[1, 2]", b"null", b'"text"', b"17", b"NaN", b"true"]),
            lambda: good[:-1] + b', "note": "\xff"}',
            lambda: b"\xfe\xff" + good,
            lambda: with_(**{name: chance.choice(["1", "text", True, [1], {"a": 1}])}),
            lambda: with_(f0="text", undeclared=1),
            lambda: with_(y=chance.choice([0.5, [1]])),
            lambda: good.replace(b'"f0": ', b'"f0": ' + chance.choice([b"1e999, ", b"Infinity, "]) + b'"f00": ', 1),
            lambda: with_(**{name: 10**400}),
            lambda: with_(y={"0": 0.9, "1": 0.9}),
            lambda: with_(y=chance.choice([2, -1, "1", {"0": 0.5, "1": 0.5}])),
            lambda: with_(note="z" * 2500),
            lambda: None,
        ]
    )()


def mixture(folder, chance):
    """Good records, among them some with missing values or label, and bad ones, with keys, headers and partitions."""
    good = runs.events(folder, GOOD)
    for at in chance.sample(range(GOOD), 200):
        event = json.loads(good[at])
        good[at] = json.dumps(event | {chance.choice(list(event)): chance.choice([None, "", float("nan")])}).encode()
    good[3] = b'{"f0": 1e300, "f1": 1.0, "f2": 1.0, "y": 1}'  # finite, and not to be learned from
    values = [*good, *(broken(chance, chance.choice(good[4:])) for _ in range(BAD))]
    kept, rest = values[:4], values[4:]
    chance.shuffle(rest)
    moment_ms = int(time.time() * 1000)
    records = []
    for value in kept + rest:
        moment_ms += chance.choice([0, 0, 1, 3])
        key = chance.choice([None, b"", b"k%d" % chance.randrange(9)])
        headers = chance.choice([(), (("trace", b"\x00\xff"),), (("a", b"1"), ("a", b"2"), ("streamnn-offset", b"9"))])
        records.append(Outgoing("", value, key, headers, chance.randrange(4), moment_ms))
    return records


@pytest.mark.heavy
def test_every_malformed_record_is_a_dead_letter_once(bootstrap, tmp_path):
    """Ten thousand malformed records (or STREAMNN_POISON) change nothing of what two thousand good ones teach; all are kept."""
    out = runs.prepared(tmp_path, bootstrap, mixture(tmp_path, random.Random(11)))
    text = (tmp_path / "run.toml").read_text().replace("every_events = 50\n", "every_events = 500\n")
    (tmp_path / "run.toml").write_text(text)
    runs.finished(tmp_path)
    client = helpers.library("confluent-kafka", bootstrap)
    letters = helpers.everything(client, runs.named(tmp_path, "dead_letters_topic"))
    reasons = {dict(letter.headers)["streamnn-reason"].decode() for letter in letters}
    assert reasons == {
        "not_json", "not_object", "not_utf8", "wrong_type", "not_finite", "out_of_range", "unfit_label", "too_large",
        "tombstone",
    }  # fmt: skip
    assert len(letters) == BAD + 1
    assert len(helpers.everything(client, out)) == GOOD - 1
    assert verifier.halfway(tmp_path / "run.toml") == []
