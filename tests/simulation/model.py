"""A model, scores and a control that keep exactly what they were told, and in which order.

In: what the loop asks of a learner. Out: predictions that are a digest of everything learned and observed before, so
that one event lost, doubled or out of order changes every later prediction, and the state.
"""

import numpy as np

from pipeline.model import Model
from streamnn.chunks import EncodedChunk
from streamnn.features.index import FeatureIndex
from streamnn.heads import Head, TargetSpec
from streamnn.lr_control import Action
from streamnn.operations import Kind, Results, Rows
from streamnn.targets import TargetIndex

TARGETS = (TargetSpec("y", "regression"),)
PRIME = (1 << 40) - 87  # digests stay exact as float64
REFUSED = 1_000_000  # codes from here on cannot be learned
_HEAD = Head(TARGETS)


def label_of(code):
    """Return the one label that belongs to an event."""
    return 3 * code + 1


def mixed(digest, *values):
    """Take values into a digest, in order."""
    for value in values:
        digest = (digest * 1_000_003 + int(value) + 17) % PRIME
    return digest


class Memory:
    """What was learned and observed.

    Attributes:
        order: codes of all events predicted, in order.
        learned: codes of all events learned, in order.
    """

    def __init__(self):
        self.digest, self.order, self.learned = 1, [], []

    def predict(self, code):
        """Return what is served for an event."""
        return float(mixed(self.digest, code))

    def observe(self, code):
        """Count an event's inputs."""
        self.digest = mixed(self.digest, 1, code)

    def loss(self, code):
        """Return the loss of an event before it is learned."""
        return mixed(self.digest, 5, code) % 1000 / 1000

    def learn(self, code, rate):
        """Learn an event's label."""
        self.digest = mixed(self.digest, 2, code, rate * 1000)
        self.learned.append(code)


class ExactModel(Model):
    """A `Model` with one input, the code of an event, and one target."""

    engine, device, compilations, parameters, head = "exact", "cpu", 0, 0, _HEAD

    def __init__(self):
        self.features, self.targets, self.growths = FeatureIndex(), TargetIndex(TARGETS), {}
        self.memory = Memory()

    def encode(self, columns, labels, number, *, batch=1):
        """Lay out the first events; now and then fewer than there are, as if capacity had to grow."""
        rows = len(number)
        cut = next((i for i in range(1, rows) if number[i] % 23 == 0 and number[i] % batch == 0), rows)
        y = labels["y"] if "y" in labels else np.full(rows, np.nan)
        truth = np.array(y[:cut], dtype=np.float64)[:, None]
        codes = columns["code"] if "code" in columns else np.full(rows, np.nan)  # labels alone
        return EncodedChunk(Rows(codes[:cut, None].copy(), truth, number[:cut]), truth.copy())

    def run(self, rows, operations, *, rate, clear=False):
        """Run the operations, one event after the other."""
        memory = self.memory
        served, loss, refused = np.full((len(rows), 1), np.nan), np.full(len(rows), np.nan), {}
        codes, labels = rows.x[:, 0].astype(np.int64).tolist(), rows.y[:, 0].tolist()
        for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
            group = range(start, stop)
            if kind != Kind.LEARN:
                for row in group:
                    served[row] = memory.predict(codes[row])
                    memory.order.append(codes[row])
            for row in group:
                code, known = codes[row], labels[row] == labels[row]
                if kind != Kind.PREDICT_OBSERVE and known:
                    assert labels[row] == label_of(code), f"event {code} got label {labels[row]}"
                    if code >= REFUSED:
                        refused[row] = "simulated: not finite"
                        if kind == Kind.PREDICT_LEARN:
                            served[row] = np.nan
                        continue
                    loss[row] = memory.loss(code)
                    memory.learn(code, rate)
                if kind != Kind.LEARN:
                    memory.observe(code)
        return Results(served, loss, refused)

    def pad(self, rows, *, head):
        """Nothing grows here."""
        return rows

    def declare(self, fields):
        """Nothing is to be declared."""

    def state_dict(self):
        """Return everything."""
        m = self.memory
        return {"digest": m.digest, "order": np.array(m.order, np.int64), "learned": np.array(m.learned, np.int64)}

    def load_state_dict(self, state):
        """Take everything back."""
        m = self.memory
        m.digest, m.order, m.learned = state["digest"], state["order"].tolist(), state["learned"].tolist()


class ExactScores:
    """Scores that are a digest of what was scored, in order."""

    values = 0  # targets that are values, for which categories would be looked up

    def __init__(self):
        self.digest = self.scored = 0

    def update(self, outcome):
        """Take scored events."""
        for number, truth, served in zip(outcome.number, outcome.truth["y"], outcome.decision["y"], strict=True):
            self.score(number, truth, served)

    def score(self, number, truth, served):
        """Take one."""
        self.digest, self.scored = mixed(self.digest, number, truth, served), self.scored + 1

    def state_dict(self):
        """Return everything."""
        return {"digest": self.digest, "scored": self.scored}

    def load_state_dict(self, state):
        """Take everything back."""
        self.digest, self.scored = state["digest"], state["scored"]


class ExactControl:
    """A learning rate that is a digest of all losses so far."""

    def __init__(self):
        self.digest = 3

    @property
    def rate(self):
        """The rate in force."""
        return self.digest % 100 / 100

    def update(self, loss, *, drifted):
        """Take the losses since the last decision."""
        self.digest = mixed(self.digest, len(loss), *(1000 * value for value in loss))
        return Action(self.rate)

    def state_dict(self):
        """Return everything."""
        return {"digest": self.digest}

    def load_state_dict(self, state):
        """Take everything back."""
        self.digest = state["digest"]
