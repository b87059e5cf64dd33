"""What `streamnn run` says and how it ends when a topic is not the one it should be."""

import re

import pytest

from tests.integration import helpers, runs
from tests.integration.test_kafka_verified import prepared

pytestmark = pytest.mark.heavy


def ended(folder, code, *words):
    """Run until the end, which is to have this exit code; returns the one message."""
    process = runs.run(folder, *words)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def test_outputs_that_are_not_there(bootstrap, tmp_path):
    """A topic for predictions or dead letters that does not exist is told by its name, before anything is read."""
    prepared(tmp_path, bootstrap, 100)
    for setting in ("predictions_topic", "dead_letters_topic"):
        said = ended(tmp_path, 2, "--set", f"kafka.{setting}=nowhere")
        assert re.search("topic 'nowhere' does not exist.*make it, or correct its name", said)


@pytest.mark.parametrize("delivery", ["transactional", "at_least_once"])
def test_a_topic_that_was_made_again(bootstrap, tmp_path, delivery):
    """A topic of the same name that is another one is refused, though its positions would fit."""
    prepared(tmp_path, bootstrap, 100, delivery=delivery)
    ended(tmp_path, 0)
    source = runs.named(tmp_path, "model")
    helpers.delete_topic(bootstrap, source)
    assert "does not exist" in ended(tmp_path, 2)
    helpers.topic(bootstrap, 4, name=source)
    runs.write(bootstrap, source, runs.spread(runs.events(tmp_path, 200)))
    assert re.search("deleted and made again.*another folder", ended(tmp_path, 2))
