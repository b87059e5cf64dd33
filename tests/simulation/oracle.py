"""What an uninterrupted run comes to: written plainly, event by event, without any code of the loop.

In: the events in their order. Out: predictions, refused events, and the final state.
"""

from dataclasses import dataclass, field

from tests.simulation.model import REFUSED, ExactControl, ExactScores, Memory, label_of


@dataclass
class Expected:
    """What has to come out.

    Attributes:
        predictions: event number -> (code, served, label).
        refused: codes that could not be learned, in order.
        pending: event numbers whose label is still on its way.
    """

    memory: Memory = field(default_factory=Memory)
    scores: ExactScores = field(default_factory=ExactScores)
    control: ExactControl = field(default_factory=ExactControl)
    predictions: dict = field(default_factory=dict)
    refused: list = field(default_factory=list)
    pending: list = field(default_factory=list)
    unlabelled: int = 0


def micro_batches(codes, batch, ends):
    """Cut events into micro-batches: of so many, or up to an event that the clock ended one with."""
    start = 0
    while start < len(codes):
        stop = next(
            (at + 1 for at in range(start, len(codes)) if at + 1 == start + batch or codes[at] in ends), len(codes)
        )
        yield list(enumerate(codes[start:stop], start))
        start = stop


def expected(codes, labelled, *, batch, delay_events, control_every, ends=()):
    """Run over events.

    Args:
        codes: of the events, in order.
        labelled: codes that have a label.
        batch: events of a micro-batch.
        delay_events: after how many events a label comes.
        control_every: events between two decisions on the rate.
        ends: codes of the events with which the clock ended a micro-batch.
    """
    out = Expected()
    memory, losses, rate = out.memory, [], out.control.rate
    waiting = []  # (number, code, served) whose label is on its way

    def learn(number, code, served):
        if code >= REFUSED:
            out.refused.append(code)
            return False
        losses.append(memory.loss(code))
        memory.learn(code, rate)
        out.scores.score(number, label_of(code), served)
        return True

    for group in micro_batches(codes, batch, ends):
        start = group[0][0]
        while waiting and waiting[0][0] + delay_events <= start:
            learn(*waiting.pop(0))
        served = [memory.predict(code) for _, code in group]
        memory.order += [code for _, code in group]
        for (number, code), value in zip(group, served, strict=True):
            known = code in labelled
            label = label_of(code) if known else None
            out.unlabelled += not known
            if known and not delay_events and not learn(number, code, value):
                continue
            if known and delay_events:
                waiting.append((number, code, value))
            memory.observe(code)
            out.predictions[number] = (code, value, label)
        if start // control_every != (start + len(group)) // control_every:
            rate = out.control.update(losses, drifted=False).rate
            losses = []
    out.pending = [number for number, _, _ in waiting]
    return out


def joined(records, *, control_every, wait_ms=0):
    """Run over events and the labels that come as records of their own.

    Args:
        records: pairs: the code of an event, or a pair (code, label), and the timestamp in ms; in order.
        control_every: events between two decisions on the rate.
        wait_ms: how long events and labels wait, and how long it is remembered what is done with; 0 = for ever.

    Returns:
        What has to come out, and how many labels are joined, early and duplicate; with a wait also how many are late and
        unmatched, and how many events are given up.
    """
    fates = dict.fromkeys(("joined", "early", "duplicate", *(("late", "unmatched", "expired") if wait_ms else ())), 0)
    out, now = Expected(), 0
    memory, losses, rate = out.memory, [], out.control.rate
    waiting, early, done = {}, {}, {}  # code -> since and (number, served), label, or whether it was given up

    def learn(number, code, served, label):
        losses.append(memory.loss(code))
        memory.learn(code, rate)
        out.scores.score(number, label, served)
        fates["joined"] += 1
        done[code] = now, False

    def over(kept):
        return [code for code, (since, _) in kept.items() if wait_ms and since + wait_ms < now]

    for record, stamp in records:
        now = max(now, stamp)
        for code in over(waiting):
            del waiting[code]
            fates["expired"] += 1
            done[code] = now, True
        for code in over(early):
            del early[code]
            fates["unmatched"] += 1
        for code in over(done):
            del done[code]
        if isinstance(record, tuple):
            code, label = record
            if code in waiting:
                number, served = waiting.pop(code)[1]
                learn(number, code, served, label)
            elif code in done or code in early:
                fates["late" if code in done and done[code][1] else "duplicate"] += 1
            else:
                early[code] = now, label
            continue
        number, served, (_, label) = len(memory.order), memory.predict(record), early.pop(record, (now, None))
        memory.order.append(record)
        out.predictions[number] = (record, served, label)
        if label is None:
            waiting[record] = now, (number, served)
        else:
            fates["early"] += 1
            learn(number, record, served, label)
        memory.observe(record)
        if len(memory.order) % control_every == 0:
            rate, losses = out.control.update(losses, drifted=False).rate, []
    out.pending = [number for _, (number, _) in waiting.values()]
    return out, fates
