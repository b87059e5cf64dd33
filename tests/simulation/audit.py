"""The auditor: what has to hold while a schedule runs, and at its end.

It reads logs, positions and files by itself and asks none of the product's code.
"""

import json
import struct
from collections import Counter

import numpy as np
import orjson

from pipeline.archive import decode
from tests.simulation import workload
from tests.simulation.oracle import expected, joined


class ViolationError(AssertionError):
    """Something that has to hold did not."""


class Audit:
    """Watches one schedule.

    Args:
        world: it runs in.
        work: what is read.
        group: of the model.
        folder: of the checkpoints.
        skips: the run goes on without records that were deleted before they were read.

    Attributes:
        fates: in the end, what has become of the labels of a topic of their own, or how many micro-batches the clock ended.
    """

    def __init__(self, world, work, group, folder, *, skips=False):
        self._world, self._work, self._group, self._folder, self._skips = world, work, group, folder, skips
        self.fates = {}
        self._before = {}  # checkpoint -> positions committed with it
        world.cluster.on_commit = self.committed

    def committed(self, group, positions, transactional):
        """Check positions at the moment they are committed: a checkpoint that survives a power cut holds as much."""
        require(group == self._group, f"positions are committed under {group!r}")
        positions = self._stored() | positions
        offsets = {(partition.topic, partition.number): committed.offset for partition, committed in positions.items()}
        if transactional:
            path = self._named(positions.values())
            held = self._held(path)
            require(None not in held, f"positions {offsets} name {path.name}, which a power cut may take")
            fits = all(self._alike(have, offsets) for have in held)
            require(fits, f"{path.name} has {held}, committed with it are {offsets}")
            self._nothing_skipped(path)
            before = self._before.setdefault(path.name, offsets)
            fits = self._alike(
                before, offsets, deleted=self._skips
            )  # it is saved again after a skip, with nothing learned
            require(fits, f"{path.name} was committed with {before}, and is another one with {offsets}")
            return
        paths = self._folder.glob("checkpoint-*.safetensors")
        holding = [path for path in paths if all(covers(have, offsets) for have in self._held(path))]
        require(holding, f"committed are {offsets}, and no checkpoint that a power cut leaves holds as much")
        for path in holding:
            self._nothing_skipped(path)

    def _nothing_skipped(self, path):
        """Check that a checkpoint has counted every record before its positions, those deleted since included.

        Where deleted ones may be skipped, it says how many offsets it has skipped, each once.
        """
        state = manifest(self._world.disk.after_a_power_cut(path)[-1])["state"]
        passed, lost = self._before_positions(state) - state["loop"]["offset"], state["source"]["lost_records"]
        if not self._skips:
            same(f"records before the positions of {path.name}, but for those it has counted", passed, 0)
            same("records that the source says it has skipped", lost, 0)
            return
        # besides the records there are markers, and records that a reader is not handed
        logs = self._world.cluster.topics[workload.SOURCE]
        others = sum(not log.visible(entry, True) for log in logs for entry in log.entries[: log.start])
        require(
            passed <= lost <= passed + others,
            f"offsets skipped: {path.name} says {lost}, and {passed} records to {passed + others} offsets are not counted",
        )

    def _before_positions(self, state):
        """Count the records before the positions of a checkpoint."""
        return sum(self._between(place, 0, at) for place, at in positions_in(state).items())

    def all_read(self, state):
        """Tell whether every record has come, and lies before a source's positions."""
        logs = self._world.cluster.topics[workload.SOURCE]
        came = sum(log.end for log in logs) == len(self._work.arrivals)
        return came and self._before_positions(state) == self._work.records

    def lost(self):
        """Return how many offsets the run says it has skipped."""
        return self._state()["source"]["lost_records"]

    def _alike(self, one, other, *, deleted=False):
        """Tell whether no record lies between positions, or only deleted ones; of a partition without one nothing was read."""
        for place in one.keys() | other.keys():
            start, stop = sorted((one.get(place, 0), other.get(place, 0)))
            if self._between(place, max(start, self._log(place).start) if deleted else start, stop):
                return False
        return True

    def _between(self, place, start, stop):
        """Count the records between two offsets that readers of committed ones are handed, if none is ever deleted."""
        log = self._log(place)
        return sum(log.visible(entry, True) for entry in log.entries[start:stop])

    def _log(self, place):
        topic, number = place
        return self._world.cluster.topics[topic][number]

    def refused(self):
        """Check that a run that was refused for records deleted unread was refused for a reason, and lost nothing more."""
        path = self._newest()
        self._nothing_skipped(path)
        # nothing was committed since it was written, so that a power cut may take it: an older one is refused as well
        positions = positions_in(manifest(self._world.disk.after_a_power_cut(path)[-1])["state"])
        gone = [place for place, at in positions.items() if at < self._log(place).start]
        require(gone, f"the run is refused, and nothing is deleted behind its positions {positions}")

    def _stored(self):
        """Return what stands under the group: partition -> committed position."""
        return {
            partition: one for (group, partition), one in self._world.cluster.groups.items() if group == self._group
        }

    def _named(self, committed):
        """Return the path of the checkpoint that committed positions name."""
        named = {json.loads(one.note)["checkpoint"] for one in committed}
        require(len(named) == 1, f"positions name checkpoints {named}")
        return self._folder / named.pop()

    def _held(self, path):
        """Return the positions in each state in which a power cut may leave a checkpoint; None = gone."""
        left = self._world.disk.after_a_power_cut(path)
        return [None if data is None else positions_in(manifest(data)["state"]) for data in left]

    def final(self):
        """Check everything at the end."""
        w, cluster = self._work, self._world.cluster
        state = self._state()
        arrays = state["learner"]
        order = arrays["order"].tolist()
        places = workload.offset_of(cluster)
        self._order(order, places)
        wanted, self.fates = self._wanted(order, state["loop"])
        same("learned", arrays["learned"].tolist(), wanted.memory.learned)
        same("digest of the model", arrays["digest"], wanted.memory.digest)
        same("scores", state["scores"], wanted.scores.state_dict())
        same("learning rate", state["rate_control"], wanted.control.state_dict())
        same("labels awaited", self._awaited(state["labels"]), wanted.pending)
        if w.label_partitions:
            same("labels by what became of them", self._fates(state["labels"]), self.fates)
        counters = state["loop"]["counters"]
        same("events", counters["events"], len(order))
        same("events learned", counters["learned"], len(wanted.memory.learned))
        same("events without label", counters["unlabelled"], wanted.unlabelled)
        unusable = sum(counters["dropped"].values()) - len(wanted.refused)
        require(
            unusable == len(w.bad) or (self._skips and unusable < len(w.bad)), f"{unusable} of {len(w.bad)} dropped"
        )
        same("records", state["loop"]["offset"], len(order) + unusable + w.labels)
        positions = positions_in(state)
        there = [(topic, n) for topic in (workload.SOURCE, workload.LABELS) for n in range(len(cluster.topics[topic]))]
        left = {place: self._between(place, positions.get(place, 0), self._log(place).end) for place in there}
        same("records behind the positions", sum(left.values()), 0)
        stages = {workload.SOURCE: "decode", workload.LABELS: "label"}
        letters = Counter({(*place, stages[place[0]]): 1 for place in w.bad})
        letters.update((workload.SOURCE, *places[code], "learn") for code in wanted.refused)
        self._outputs(wanted, places, letters, unusable)

    def _wanted(self, order, loop):
        """Return what has to come out, and what has to become of the labels of a topic of their own."""
        w = self._work
        if w.label_partitions:
            records = w.merged() if w.strict else self._handled(loop)
            return joined(records, control_every=w.control_every, wait_ms=w.label_wait_ms)
        ends = self._ends() if w.wait_s else ()
        one = expected(
            order, w.labelled, batch=w.batch, delay_events=w.delay_events, control_every=w.control_every, ends=ends
        )
        return one, {"ended by the clock": len(ends)} if w.wait_s else {}

    def _handled(self, loop):
        """Return the records that could be used in the order in which they were handled: pairs of them and timestamps.

        Predictions and dead letters tell it; what a process tells replaces what earlier ones tell of records from its first
        one on. Of labels behind the last prediction the checkpoint tells.
        """
        lives = {}  # process -> (its first record, number -> place)
        for topic in ("out", "dead"):
            for log in self._world.cluster.topics[topic]:
                for entry in log.entries[: log.stable_end]:
                    if not log.visible(entry, True):
                        continue
                    headers = {name: value.decode() for name, value in entry.headers}
                    number, place = int(headers["streamnn-record"]), (int(headers["streamnn-partition"]),)
                    since, places = lives.get(int(headers["streamnn-started"]), (number, {}))
                    places[number] = headers["streamnn-topic"], *place, int(headers["streamnn-offset"])
                    told = headers.get("streamnn-labels", "") if topic == "out" else ""
                    places |= _labels_in([map(int, run.split(":")) for run in told.split(",") if run])
                    since = min(since, int(headers.get("streamnn-since", number)))
                    lives[int(headers["streamnn-started"])] = since, places
        handled = {}
        for _, (since, places) in sorted(lives.items()):
            handled = {number: place for number, place in handled.items() if number < since} | places
        handled |= _labels_in(loop["trail"]["runs"].tolist())
        same("records of which something tells", sorted(handled), list(range(loop["offset"])))
        entries = [
            (topic, self._log((topic, number)).entries[offset])
            for _, (topic, number, offset) in sorted(handled.items())
        ]
        found = [(workload.usable(topic, entry), entry.timestamp_ms) for topic, entry in entries]
        return [(one, stamp) for one, stamp in found if one is not None]

    def _ends(self):
        """Return the codes of the events with which the clock ended a micro-batch, as predictions tell.

        What a process tells counts as long as no later one has done again the record that tells it.
        """
        told, began = [], {}  # (record, process, place), process -> its first record
        for topic in ("out", "dead"):
            for log in self._world.cluster.topics[topic]:
                for entry in log.entries[: log.stable_end]:
                    headers = dict(entry.headers)
                    if not log.visible(entry, True) or headers.get("streamnn-stage") == b"learn":
                        continue  # a label that came late tells of a record that an earlier process may have handled
                    record, process = int(headers["streamnn-record"]), int(headers["streamnn-started"])
                    began[process] = min(began.get(process, record), record)
                    for place in headers.get("streamnn-cut", b"").decode().split(",") if topic == "out" else ():
                        told += [(record, process, tuple(map(int, place.split(":"))))] if place else []
        kept = {
            place
            for record, process, place in told
            if all(first > record for later, first in began.items() if later > process)
        }
        codes = {place: code for code, place in workload.offset_of(self._world.cluster).items()}
        return {codes[place] for place in kept}

    def _fates(self, labels):
        """Return what a checkpoint says has become of them."""
        return {name: labels["counts"][name] for name in self.fates}

    def _awaited(self, labels):
        """Return the numbers of the events whose labels a checkpoint waits for."""
        if self._work.label_partitions:
            return [number for _, number in labels["events"]["at"].tolist()]
        return labels.get("pending", {}).get("number", np.zeros(0, np.int64)).tolist()

    def _order(self, order, places):
        w = self._work
        twice = [code for code, times in Counter(order).items() if times > 1]
        require(not twice, f"events {twice} count twice in the model")
        foreign = set(order) - set(w.good)
        require(not foreign, f"events {foreign} in the model are none")
        missing = [places[code] for code in w.good if code not in set(order)]
        kept = [place for place in missing if not (self._skips and self._deleted(workload.SOURCE, *place))]
        require(not kept, f"missing in the model, and not deleted: events at {kept}")
        for number in range(w.partitions + len(w.added)):
            offsets = [places[code][1] for code in order if w.good[code] == number]
            same(f"order within partition {number}", offsets, sorted(offsets))
        if w.strict and not self._skips:
            same("order of events", order, [code for code, _ in w.merged() if not isinstance(code, tuple)])

    def _deleted(self, topic, number, offset):
        return offset < self._log((topic, number)).start

    def _letters(self, dead, letters, unusable):
        """Check dead letters: each once, or at least once; with records that were skipped, which have none."""
        once = self._work.delivery != "at_least_once"
        if not self._skips:
            same("dead letters", dead if once else set(dead), letters if once else set(letters))
            return
        left = {place for place in letters if place in dead or place[-1] == "learn" or not self._deleted(*place[:-1])}
        # what was read, and deleted before a checkpoint held it, is skipped by who comes next
        known = {place for place in dead if once or place in letters or place[-1] != "learn"}
        same("dead letters", known, left)
        count = sum(place[-1] == "decode" for place in known)
        require(count == unusable or (count > unusable and not once), f"{unusable} dropped, {count} dead letters")
        require(not once or max(dead.values(), default=1) == 1, f"dead letters more than once: {dead}")

    def _outputs(self, wanted, places, letters, unusable):
        w = self._work
        if w.delivery == "files":
            predictions, dead = self._from_files()
            self._letters(dead, letters, unusable)
            same("predictions", predictions, [(served, label) for _, served, label in wanted.predictions.values()])
            return
        predictions, dead = self._from_topics()
        rows = {n: (*places[code], served, label) for n, (code, served, label) in wanted.predictions.items()}
        self._letters(dead, letters, unusable)
        if w.delivery == "transactional":
            twice = [n for n, times in Counter(n for n, _ in predictions).items() if times > 1]
            require(not twice, f"events {twice} were predicted twice for readers of committed records")
            same("predictions", dict(predictions), rows)
            return
        missing = set(rows.items()) - set(predictions)
        require(not missing, f"predictions are missing: {missing}")
        if w.strict and not self._skips:
            others = set(predictions) - set(rows.items())
            require(not others, f"predictions that an uninterrupted run does not make: {others}")

    def _from_topics(self):
        """Return predictions (event, row) and dead letters (topic, partition, offset, stage), as readers see them."""
        predictions, dead = [], []
        for log in self._world.cluster.topics["out"]:
            seen = [entry for entry in log.entries[: log.stable_end] if log.visible(entry, True)]
            numbers = []
            for entry in seen:
                headers, told = dict(entry.headers), orjson.loads(entry.value)
                target = told["targets"]["y"]
                place = int(headers["streamnn-partition"]), int(headers["streamnn-offset"])
                predictions.append((told["event"], (*place, target["prediction"], target["label"])))
                numbers.append(told["event"])
            if self._work.delivery == "transactional":
                same("order of predictions in a partition", numbers, sorted(numbers))
        for log in self._world.cluster.topics["dead"]:
            for entry in log.entries[: log.stable_end]:
                if log.visible(entry, True):
                    h = dict(entry.headers)
                    place = h["streamnn-topic"].decode(), int(h["streamnn-partition"]), int(h["streamnn-offset"])
                    dead.append((*place, h["streamnn-stage"].decode()))
        return predictions, Counter(dead)

    def _from_files(self):
        """Return predictions (served, label) in their order, and dead letters, as they stand in files."""
        disk = self._world.disk
        lines = {name: self._lines(disk.path(f"state/{name}.jsonl")) for name in ("predictions", "dead")}
        positions = [line["position"] for line in lines["predictions"]]
        same("order of predictions", positions, sorted(set(positions)))
        dead = []
        for line in lines["dead"]:
            origin = line["origin"]
            dead.append((origin["topic"], origin["partition"], origin["offset"], line["stage"]))
        return [(line["prediction"], line["label"]) for line in lines["predictions"]], Counter(dead)

    def _lines(self, path):
        return [orjson.loads(line) for line in path.read_bytes().splitlines()]

    def _newest(self):
        """Return the path of the checkpoint that a new start would go on from."""
        if self._work.delivery == "transactional":
            return self._named(self._stored().values())
        return self._folder.glob("checkpoint-*.safetensors")[-1]

    def _state(self):
        """Return the state that a new start would go on from."""
        path = self._newest()
        left = self._world.disk.after_a_power_cut(path)
        require(None not in left, f"{path.name} may be lost")
        return decode(left[-1], path.name).state


def _labels_in(runs):
    """Return number -> place of the labels in runs: number, partition and offset of the first one, and how many."""
    found = {}
    for number, partition, offset, records in runs:
        found |= {number + n: (workload.LABELS, partition, offset + n) for n in range(records)}
    return found


def require(holds, message):
    """Raise a violation if something does not hold."""
    if not holds:
        raise ViolationError(message)


def same(what, found, wanted):
    """Raise a violation if two things differ."""
    if found != wanted:
        raise ViolationError(f"{what}: found {found}\n  expected {wanted}")


def covers(held, offsets):
    """Tell whether positions, if there are any, reach as far as others."""
    return held is not None and all(at <= held.get(place, 0) for place, at in offsets.items())


def positions_in(state):
    """Return the positions that a checkpoint holds: topic and partition -> offset."""
    topics = (state["source"], state["source"]["labels"])
    return {(topic["topic"], number): at for topic in topics if topic for number, at in topic["positions"]}


def manifest(data):
    """Return what a checkpoint's file says, read by hand."""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["manifest"])
