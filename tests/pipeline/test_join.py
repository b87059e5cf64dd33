"""Labels of a topic of their own: the join against a slow one, cuts, stops, bounds and odd records."""

import io
import json
import random
from collections import Counter
from dataclasses import asdict, replace

import fastavro
import numpy as np
import pytest
import torch

from connectors import JsonCodec, LabelledCodec, Schema, event_schema, label_schema
from pipeline.archive import decode, encode
from pipeline.blocks import Block
from pipeline.join import FATES, LabelJoin
from pipeline.report import labels
from pipeline.telemetry import Telemetry
from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.operations import Kind, Rows
from tests.pipeline.joined import Loop, config, oracle, record, records_of, scenario

SCHEMA = Schema(kinds={"a": "number", "b": "number", "y": "class"}, targets=("y",), id="id")
NAMES = {Kind.PREDICT_OBSERVE: "predict", Kind.PREDICT_LEARN: "both", Kind.LEARN: "learn"}


def same(a, b):
    """Whether two states are equal, bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return a == b or (a != a and b != b)


def happened(came, cuts, *, wait_s, most):
    """What a join does with records that come in pieces, as ("predict", number), ("both" or "learn", number, label)."""
    learner = Learner(LearnerSpec(targets=(TargetSpec("y", "binary"),), engine="eager"))
    learner.targets.declare("y", (0, 1))
    made = LabelledCodec(JsonCodec(event_schema(SCHEMA)), JsonCodec(label_schema(SCHEMA)), "labels", "id", ("y",))
    queue = LabelJoin({"y": np.dtype(object)}, id_field="id", wait_s=wait_s, capacity=most)
    log, records, at, number, most_rows = [], records_of(came), 0, 0, 0
    while at < len(records):
        stop = min(at + cuts(), len(records))
        chunk = made.decode(records[at:stop], np.arange(at, stop), start=at, stop=stop)
        for steps in queue.steps(chunk, number + np.arange(len(chunk)), ("y",)):
            rest, _ = steps.without(learner.targets.misfits(steps.labels, len(steps)))
            fields = {name: chunk.columns[name] for name in ("a", "b") if name in chunk.columns}
            while len(rest):
                encoded = learner.encode(rest.of(fields), rest.labels, rest.order)
                part, rest = rest.split(len(encoded.rows))
                log += listed(queue, learner, encoded, part)
        most_rows = max(most_rows, len(queue._rows))
        at, number = stop, number + len(chunk)
    return log, queue, most_rows


def listed(queue, learner, encoded, part):
    """Arrange and keep a piece; returns its operations."""
    none = np.full(len(part), np.nan)
    rows = Rows(encoded.rows.x, encoded.rows.y, part.number)
    work = queue.arrange(Block(rows, encoded.truth, none[:, None], part.offset, none, part.records), learner)
    b, o, log = work.block, work.operations, []
    served = work.served(b.rows.number[:, None].astype(float))
    for kind, row in zip(o.kind.tolist(), o.start.tolist(), strict=True):
        label = () if kind == Kind.PREDICT_OBSERVE else (int(b.truth[row, 0]),)
        log.append((NAMES[Kind(kind)], int(b.rows.number[row]), *label))
        if kind == Kind.LEARN:  # inputs, output and record are those of the event
            assert served[row, 0] == b.rows.number[row]
            assert f'"b": {b.rows.x[row, learner.features.names.index("b")]}'.encode() in b.records[row].value
    queue.keep(work, served, learner, {})
    return log


@pytest.mark.parametrize("seed", range(8))
def test_the_join_is_that_of_a_slow_one_however_records_are_cut(seed):
    """Order, labels and counts are those of a join one record at a time, with bounds of time and size that act."""
    draw = random.Random(seed)
    wait_s, most = draw.choice([(0.0, 30), (1.0, 10_000), (1.0, 40), (5.0, 10_000)])
    came = scenario(seed, 400)
    log, counts, waiting, early = oracle(came, 1000 * wait_s, most)
    assert counts["joined"] > 50
    assert counts["duplicate"] > 0
    assert counts["unmatched"] + counts["expired"] > 0
    for cuts in (lambda: 1, lambda: 10**9, lambda: draw.choice((1, 2, 3, 50))):
        found, queue, rows = happened(came, cuts, wait_s=wait_s, most=most)
        assert found == log
        assert {name: counts[name] for name in queue.counts} == queue.counts
        assert (len(queue), queue.early) == (waiting, early)
        assert len(queue._rows) == waiting
        assert rows <= most
        # every event and every label is in exactly one count
        events = sum(topic == "events" for topic, _, _ in came)
        assert events == sum(what != "learn" for what, *_ in found)
        assert events == sum(queue.counts[n] for n in ("joined", "expired", "repeated", "without_id")) + waiting
        labels = sum(queue.counts[n] for n in ("joined", "duplicate", "late", "unmatched")) + early
        assert labels + counts["bad"] == len(came) - events


def test_weights_scores_and_letters_do_not_depend_on_cuts():
    """The loop comes to the same bits for every way to cut the records; each odd record is one dead letter."""
    records = records_of(scenario(1, 150, odd=0.3))
    whole = Loop(records, config(wait_s=1.0)).run()
    want = whole.state
    assert want["loop"]["counters"]["learned"] > 50
    assert {(stage, reason, topic) for stage, reason, topic, _ in whole.buried} == {
        ("label", reason, "labels") for reason in ("no_id", "no_target", "unfit_label", "not_object")
    }
    for seed in range(3):
        cut = Loop(records, config(wait_s=1.0), cuts=random.Random(seed), chunk=16).run()
        assert cut.served == whole.served
        assert cut.buried == whole.buried
        assert same(cut.state, want)


def growing(seed, events):
    """A scenario in which fields and classes appear later and later, so that everything grows while events wait."""
    draw, came = random.Random(seed), scenario(seed, events, odd=0.0)
    for topic, _, value in came:
        n = int(value["id"][1:])
        if topic == "events":
            value |= {f"f{n // 9}": draw.random(), "kind": f"k{n // 12}"}
        else:
            value["y"] = f"c{draw.randrange(1 + n // 3)}"
    return came


def test_a_pool_learns_labels_that_come_apart():
    """With a pool as the model cuts change nothing either."""
    records = records_of(scenario(9, 120))
    whole = Loop(records, config(preset="lite", wait_s=1.0)).run()
    assert whole.loop.counters.learned > 50
    cut = Loop(records, config(preset="lite", wait_s=1.0), cuts=random.Random(1)).run()
    assert cut.served == whole.served
    assert same(cut.state, whole.state)


def test_events_wait_while_fields_and_classes_are_added():
    """With new fields, categories and classes while events wait, cuts and stops change nothing."""
    settings = config(stream={"task": "multiclass"}, wait_s=1.0)
    records = records_of(growing(7, 110))
    whole = Loop(records, settings).run()
    assert whole.loop.parts.learner.growths["features"] > 0
    assert whole.loop.parts.learner.growths["classes"] > 0
    assert len(whole.served[-1][1]) > 8
    cut = Loop(records, settings, cuts=random.Random(1)).run()
    assert cut.served == whole.served
    assert same(cut.state, whole.state)
    first = Loop(records, settings, cuts=random.Random(2)).run(12)
    then = Loop(records, settings, checkpoint=decode(encode(0, first.state, created_s=0.0), "kept")).run()
    assert first.served + then.served == whole.served
    assert same(then.state, whole.state)


def test_metrics_and_report_tell_what_became_of_labels():
    """Prometheus is told each count once, over a stop too, and what waits; the report has the same figures."""
    records, told = records_of(scenario(8, 120)), Counter()
    first = Loop(records, config(wait_s=1.0)).run(1)
    then = Loop(records, config(wait_s=1.0), checkpoint=decode(encode(0, first.state, created_s=0.0), "kept"))
    for made, blocks in ((first, 0), (then, 10**9)):
        telemetry = Telemetry()
        if made is then:
            telemetry.resumed(made.loop)
        made.run(blocks)
        telemetry.block(made.loop)
        for fate in FATES:
            told[fate] += telemetry.registry.get_sample_value("streamnn_labels_joined_total", {"fate": fate})
    queue = then.loop.parts.queue
    assert told == queue.counts
    assert told["joined"] > 50
    telemetry.gauges(then.loop)
    assert telemetry.registry.get_sample_value("streamnn_labels_pending") == len(queue)
    assert telemetry.registry.get_sample_value("streamnn_labels_early") == queue.early
    figures = labels(queue)
    assert figures == {**told, "events_waiting": len(queue), "labels_waiting": queue.early}


@pytest.mark.parametrize("blocks", [1, 9, 25])
def test_a_stop_and_a_new_start_change_nothing(blocks):
    """A loop that goes on from the bytes of a checkpoint comes to what one that was not stopped comes to."""
    records = records_of(scenario(2, 120))
    whole = Loop(records, config(wait_s=1.0)).run()
    first = Loop(records, config(wait_s=1.0), cuts=random.Random(blocks)).run(blocks)
    kept = decode(encode(0, first.state, created_s=0.0), "kept")
    then = Loop(records, config(wait_s=1.0), cuts=random.Random(-blocks), checkpoint=kept).run()
    assert first.served + then.served == whole.served
    assert sorted(first.buried + then.buried) == whole.buried
    assert same(then.state, whole.state)


def test_a_record_dated_far_ahead_ends_every_wait_and_is_told_once(caplog):
    """The warning says where it lies; a silence in which nothing waits is none."""
    day = 86_400_000
    came = [("events", 1000 + n, {"id": f"e{n}", "a": 0.5, "b": n / 9}) for n in range(5)]
    came += [("events", 9 * day, {"id": "far", "a": 0.5, "b": 0.5}), ("events", 2000, {"id": "e5", "a": 0.5, "b": 0.5})]
    came += [("labels", 3000 + n, {"id": f"e{n}", "y": n % 2}) for n in range(6)]
    came += [("labels", 19 * day, {"id": "far", "y": 1}), ("events", 29 * day, {"id": "next", "a": 0.5, "b": 0.5})]
    counts = []
    for cuts in (None, random.Random(1)):
        caplog.clear()
        counts.append(Loop(records_of(came), config(wait_s=3600.0), cuts=cuts).run().loop.parts.queue.counts)
        (line,) = [text for text in (r.getMessage() for r in caplog.records) if "labels.wait_s" in text]
        assert line.startswith("record 5 of events/0 is dated 777599 s after every record before it, more than ")
        assert "(3600): 5 events and 0 labels" in line
    assert counts[0] == counts[1]
    assert (counts[0]["expired"], counts[0]["late"], counts[0]["joined"]) == (6, 6, 1)


def test_labels_that_all_come_first_are_those_in_the_events():
    """Where every label waits for its event the weights are, bit for bit, those of events that hold their label."""
    came = scenario(3, 100, early=1.0, lost=0.0, twice=0.0, odd=0.0)
    joined = Loop(records_of(came), config()).run()
    label = {value["id"]: value["y"] for topic, _, value in came if topic == "labels"}
    held = [(topic, at, {**v, "y": label[v["id"]]}) for topic, at, v in came if topic == "events"]
    plain = config()
    plain = type(plain)(**{**{n: getattr(plain, n) for n in plain.__slots__}, "labels": type(plain.labels)()})
    alone = Loop(records_of(held), plain).run()
    assert joined.served == alone.served
    assert same(joined.state["learner"], alone.state["learner"])
    assert same(joined.state["scores"], alone.state["scores"])
    assert joined.loop.parts.queue.counts["early"] == 100


def test_a_label_in_the_event_is_no_input():
    """A target among the fields of an event is left out where labels come on a topic of their own."""
    came = scenario(4, 60)
    leaking = [(t, at, {**v, "y": 7} if t == "events" else v) for t, at, v in came]
    assert Loop(records_of(leaking), config()).run().served == Loop(records_of(came), config()).run().served


def test_a_prediction_is_scored_as_it_was_served():
    """The score is that of the probabilities in the predictions, not of what would be said when the label comes."""
    came = scenario(5, 150, lost=0.0, twice=0.0, early=0.0, odd=0.0)
    done = Loop(records_of(came), config()).run()
    label = {value["id"]: value["y"] for topic, _, value in came if topic == "labels"}
    decided = [y for item in done.predictions.items for y in item.decisions["y"]]
    right = [decided[n] == label[f"e{n}"] for n in range(150)]
    assert done.loop.parts.scores.metrics()["accuracy"] == pytest.approx(np.mean(right))
    assert done.loop.counters.learned == 150
    assert done.loop.counters.unlabelled == 0


def test_labels_in_avro_have_a_schema_of_their_own(tmp_path):
    """They give what the same labels give in JSON, bit for bit; one that its schema does not fit is a dead letter."""
    fields = {
        "events": {"id": ["null", "string"], "a": ["null", "double"], "b": "double"},
        "labels": {"y": "int", "id": "string"},
    }
    schemas = {
        topic: {"type": "record", "name": topic, "fields": [{"name": n, "type": kind} for n, kind in named.items()]}
        for topic, named in fields.items()
    }
    for topic, schema in schemas.items():
        (tmp_path / f"{topic}.avsc").write_text(json.dumps(schema))
    came = scenario(5, 120, odd=0.0)
    plain, packed = records_of(came), records_of(came)
    for n, (topic, _, value) in enumerate(came):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(schemas[topic]), {"a": None, **value})
        packed[n] = packed[n]._replace(value=out.getvalue())
    settled = config(wait_s=1.0)
    avro = replace(
        settled,
        kafka=replace(settled.kafka, format="avro", avro_schema=str(tmp_path / "events.avsc")),
        labels=replace(settled.labels, avro_schema=str(tmp_path / "labels.avsc")),
    )
    one, other = Loop(plain, settled).run(), Loop(packed, avro).run()
    assert (one.served, one.buried) == (other.served, [])
    assert same(one.state["learner"], other.state["learner"])
    bad = next(n for n, (topic, *_) in enumerate(came) if topic == "labels")
    packed[bad] = packed[bad]._replace(value=b"\x02")
    assert Loop(packed, avro).run().buried == [("label", "not_avro", "labels", 0)]


def test_a_limit_ends_at_an_event():
    """With a limit what comes after its last event is not looked at, however records are cut."""
    records = records_of(scenario(6, 80))
    runs = [Loop(records, config(), limit=32, chunk=16).run()]
    runs += [Loop(records, config(), cuts=random.Random(seed), limit=32, chunk=16).run() for seed in range(3)]
    assert all(same(run.state, runs[0].state) for run in runs)
    assert runs[0].loop.counters.events == 32


def test_an_event_that_cannot_be_counted_takes_its_label_along():
    """An input that would make statistics infinite: one dead letter, and its label is joined and not learned."""
    came = [("events", 1000 + n, {"id": f"e{n}", "a": 1e300 if n == 3 else 0.5, "b": n / 9}) for n in range(8)]
    came += [("labels", 2000 + n, {"id": f"e{n}", "y": n % 2}) for n in range(8)]
    for cuts in (None, random.Random(1)):
        done = Loop(records_of(came), config(), cuts=cuts).run()
        counted = asdict(done.loop.counters)
        assert (counted["learned"], counted["events"], counted["dropped"]) == (7, 8, {"learn/not_finite": 1})
        assert done.buried == [("learn", "not_finite", "events", 3)]
        assert done.loop.parts.queue.counts["joined"] == 8
        assert not done.loop.parts.queue._wanted


@pytest.mark.parametrize("preset", ["single", "lite"])
def test_a_label_that_cannot_be_learned_leaves_its_prediction(preset):
    """A value that would make the model infinite: one dead letter; its event has been predicted, however records are cut."""
    settings = config(stream={"task": "regression", "kinds": {"a": "number", "b": "number"}}, preset=preset)
    if preset == "lite":
        settings = replace(settings, model=replace(settings.model, engine="native"))
    came = []
    for n in range(8):
        came.append(("events", 1000 + 2 * n, {"id": f"e{n}", "a": 0.5, "b": n / 9}))
        came.append(("labels", 1001 + 2 * n, {"id": f"e{n}", "y": 1e308 if n == 3 else n / 3}))
    found = []
    for cuts in (None, random.Random(1)):
        done = Loop(records_of(came), settings, cuts=cuts).run()
        assert done.loop.counters.dropped == {"learn/not_finite": 1}
        assert done.loop.counters.learned == 7
        found.append([float(y) for item in done.predictions.items for y in item.decisions["y"]])
    assert len(found[0]) == 8
    assert repr(found[0]) == repr(found[1])


def test_soft_and_early_labels_survive_a_checkpoint():
    """A label that waits, as a class, a soft one, a number or partly missing, is the same after a stop."""
    kinds = {"m": np.dtype(object), "v": np.dtype(np.float64)}
    codec = LabelledCodec(
        JsonCodec(Schema(id="id")), JsonCodec(Schema(kinds={"m": "class", "v": "value"}, id="id", extra="ignore")),
        "labels", "id", ("m", "v"),
    )  # fmt: skip
    values = [{"m": "x"}, {"m": 3, "v": 0.1}, {"m": {"x": 0.25, "y": 0.75}}, {"v": 2}, {"m": True, "v": 1e-9}]
    records = [record("labels", n, n, {"id": f"ü{n}"} | value) for n, value in enumerate(values)]
    queue = LabelJoin(kinds, id_field="id", wait_s=0.0, capacity=10)
    learner = Learner(
        LearnerSpec(targets=(TargetSpec("m", "multiclass"), TargetSpec("v", "regression")), engine="eager")
    )
    queue.steps(codec.decode(records, np.arange(5), start=0, stop=5), np.arange(0), ("m", "v"))
    again = LabelJoin(kinds, id_field="id", wait_s=0.0, capacity=10)
    again.load_state_dict(decode(encode(0, queue.state_dict(), created_s=0.0), "q").state, learner=learner)
    assert list(again._early) == [f"ü{n}" for n in range(5)]
    for a, b in zip(queue._early.values(), again._early.values(), strict=True):
        assert (a.offset, a.record, repr(a.values)) == (b.offset, b.record, repr(b.values))


@pytest.mark.parametrize(
    ("wrong", "message"), [({"wait_s": -1.0}, "0 \\(no limit\\)"), ({"capacity": 0}, "able to wait")]
)
def test_wrong_settings_are_refused(wrong, message):
    """Each has its message."""
    with pytest.raises(ValueError, match=message):
        LabelJoin({}, **{"id_field": "id", "wait_s": 1.0, "capacity": 1} | wrong)
