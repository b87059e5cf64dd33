"""What the loop tells Prometheus. Counters follow every block; gauges are renewed at most once a second.

In: the loop after each block. Out: metrics in a registry of their own, which
`pipeline.server` exposes. Names carry their unit; labels have few values. What Kafka's clients count is looked up with
the gauges.
"""

import math
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from connectors.kafka import KafkaSource
from pipeline.join import LabelJoin
from pipeline.prequential import Prequential
from pipeline.versions import versions
from streamnn.pool import PoolLearner

GAUGES_EVERY_S = 1.0
SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SIZES = tuple(float(2**power) for power in range(13))


class Telemetry:
    """The metrics of one run.

    Args:
        registry: where they are registered; one of its own by default, so that several runs in a process never clash.
        clock: monotonic seconds.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._clock, self._gauged, self._last = clock, -math.inf, clock()
        self._batches: dict[int, int] = {}
        self._dropped: dict[str, int] = {}
        self._fates: dict[str, int] = {}
        self._written = 0
        r = self.registry
        ProcessCollector(registry=r)
        PlatformCollector(registry=r)
        Info("streamnn_build", "Versions of this program and its libraries", registry=r).info(versions())
        self._model = Info("streamnn_model", "Engine that runs the model, and the device it runs on", registry=r)
        self._counters = {
            "events": Counter("streamnn_events", "Events predicted", registry=r),
            "learned": Counter("streamnn_events_learned", "Events whose label was learned", registry=r),
            "unlabelled": Counter("streamnn_events_unlabelled", "Events that came without a label", registry=r),
            "drifts": Counter("streamnn_drifts_detected", "Drifts that the detector flagged", registry=r),
            "cuts": Counter("streamnn_micro_batches_cut", "Micro-batches that the clock ended", registry=r),
            "untold": Counter(
                "streamnn_labels_untold", "Records of labels of which no prediction tells: too many at once", registry=r
            ),
            "expired": Counter(
                "streamnn_labels_expired", "Labels given up: not in time, or too many awaited", registry=r
            ),
            "compilations": Counter("streamnn_compilations", "Times the step was compiled", registry=r),
            "failed_commits": Counter(
                "streamnn_consumer_failed_commits",
                "Commits of positions without success (the next makes up)",
                registry=r,
            ),
            "waits": Counter(
                "streamnn_producer_waits", "Records that waited to be taken: too many were under way", registry=r
            ),
            "repeats": Counter("streamnn_producer_repeats", "Records given to the producer again", registry=r),
            "recoveries": Counter(
                "streamnn_producer_recoveries", "Producers made anew, with what was not committed", registry=r
            ),
            "truncated": Counter(
                "streamnn_dead_letters_truncated", "Dead letters too large for their topic: a part is kept", registry=r
            ),
            "full": Counter(
                "streamnn_transactions_full", "Commits that were due at kafka.uncommitted_records", registry=r
            ),
        }
        self._seen = dict.fromkeys(self._counters, 0)
        self._dead = Counter("streamnn_dead_letters", "Records that could not be used", ["stage", "reason"], registry=r)
        self._joined = Counter(
            "streamnn_labels_joined",
            "Labels of a topic of their own, and events, by what the join made of them (see docs/kafka.md)",
            ["fate"],
            registry=r,
        )
        self._metric = Gauge(
            "streamnn_prequential_metric", "Score of the predictions served", ["metric", "span"], registry=r
        )
        self._baseline = Gauge(
            "streamnn_baseline_metric", "Score of a baseline over the whole stream", ["metric", "baseline"], registry=r
        )
        self._loss = Gauge("streamnn_loss", "Mean loss before learning, since the last decision", registry=r)
        self._rate = Gauge("streamnn_learning_rate", "Learning rate in force", registry=r)
        self._pending = Gauge("streamnn_labels_pending", "Events whose label is awaited", registry=r)
        self._early = Gauge("streamnn_labels_early", "Labels that wait for their event", registry=r)
        self._parameters = Gauge("streamnn_model_parameters", "Weights of the network", registry=r)
        self._member = Gauge(
            "streamnn_member_weight",
            "Share of a member of the pool in the prediction of a target (the hedge's weight; they sum to 1)",
            ["target", "member"],
            registry=r,
        )
        self._features = Gauge("streamnn_features", "Inputs in use", registry=r)
        self.standing_by = Gauge(
            "streamnn_standing_by", "1 = another worker runs the model and this one waits", registry=r
        )
        self._position = Gauge("streamnn_position_records", "Records read", registry=r)
        self._block = Histogram(
            "streamnn_block_duration_seconds", "From one block of events to the next", buckets=SECONDS, registry=r
        )
        self._batch = Histogram("streamnn_micro_batch_events", "Events of a micro-batch", buckets=SIZES, registry=r)
        Gauge(
            "streamnn_block_age_seconds",
            "Time since a block of events was finished: rises while an output takes nothing",
            registry=r,
        ).set_function(lambda: self._clock() - self._last)
        self._checkpoint_s = Histogram(
            "streamnn_checkpoint_duration_seconds", "Writing a checkpoint", buckets=SECONDS, registry=r
        )
        self._checkpoint_size = Gauge("streamnn_checkpoint_size_bytes", "Size of the newest checkpoint", registry=r)
        self._checkpoint_at = Gauge(
            "streamnn_last_checkpoint_timestamp_seconds", "When the newest checkpoint was written", registry=r
        )
        self._kafka = {
            "lag_records": Gauge(
                "streamnn_consumer_lag_records", "Records of the topic not handed out yet", registry=r
            ),
            "buffered": Gauge("streamnn_consumer_buffered_records", "Records read ahead", registry=r),
            "paused": Gauge("streamnn_consumer_paused_partitions", "Partitions paused: enough is buffered", registry=r),
            "expired_waits": Gauge(
                "streamnn_consumer_expired_waits", "Idle partitions no longer waited for", registry=r
            ),
            "stalls": Gauge("streamnn_consumer_stalls", "Times the consumer was made anew", registry=r),
            "lost_records": Gauge("streamnn_consumer_lost_records", "Records deleted before being read", registry=r),
            "unreachable_s": Gauge("streamnn_consumer_unreachable_seconds", "Time without the cluster", registry=r),
        }
        self._in_flight = Gauge("streamnn_producer_in_flight_records", "Records not acknowledged yet", registry=r)

    def block(self, loop: Prequential) -> None:
        """Take note of a finished block."""
        now = self._clock()
        self._block.observe(max(now - self._last, 0.0))
        self._last = now
        counters, learner = loop.counters, loop.parts.learner
        self._raise("events", counters.events)
        self._raise("learned", counters.learned)
        self._raise("unlabelled", counters.unlabelled)
        self._raise("drifts", counters.drifts)
        self._raise("cuts", counters.cuts)
        self._raise("untold", counters.untold)
        self._raise("expired", loop.parts.queue.expired)
        self._raise("compilations", learner.compilations)
        for kind, total in counters.dropped.items():
            stage, _, reason = kind.partition("/")
            more = total - self._dropped.get(kind, 0)
            if more > 0:
                self._dead.labels(stage, reason).inc(more)
                self._dropped[kind] = total
        if isinstance(loop.parts.queue, LabelJoin):
            for fate, total in loop.parts.queue.counts.items():
                self._joined.labels(fate).inc(max(total - self._fates.get(fate, 0), 0))
                self._fates[fate] = total
        for size, total in loop.batches.items():
            for _ in range(total - self._batches.get(size, 0)):
                self._batch.observe(size)
            self._batches[size] = total
        if loop.written.number > self._written:
            self._written = loop.written.number
            self._checkpoint_s.observe(loop.written.seconds)
            self._checkpoint_size.set(loop.written.size_bytes)
            self._checkpoint_at.set_to_current_time()
        if now - self._gauged >= GAUGES_EVERY_S:
            self._gauged = now
            self.gauges(loop)

    def gauges(self, loop: Prequential) -> None:
        """Renew every gauge, and what Kafka's clients count."""
        self._loss.set(loop.loss)
        self._rate.set(loop.control.rate)
        self._pending.set(len(loop.parts.queue))
        if isinstance(loop.parts.queue, LabelJoin):
            self._early.set(loop.parts.queue.early)
        self._model.info({"engine": loop.parts.learner.engine, "device": loop.parts.learner.device})
        self._parameters.set(loop.parts.learner.parameters)
        self._features.set(loop.parts.learner.features.active)
        self._position.set(loop.offset)
        if isinstance(loop.parts.learner, PoolLearner):
            for target, members in loop.parts.learner.weights.items():
                for member, (share, _) in members.items():
                    self._member.labels(target, member).set(share)
        source = loop.parts.source
        if isinstance(source, KafkaSource):
            told = source.statistics
            for name, gauge in self._kafka.items():
                gauge.set(getattr(told, name))
            self._raise("failed_commits", told.failed_commits)
        if loop.parts.channel is not None:
            written = loop.parts.channel.statistics
            self._in_flight.set(written.in_flight)
            for name in ("waits", "repeats", "recoveries", "truncated", "full"):
                self._raise(name, getattr(written, name))
        scores = loop.parts.scores
        for span, found in (("overall", scores.metrics()), ("window", scores.window()), ("fading", scores.fading())):
            for name, value in found.items():
                self._metric.labels(name, span).set(value)
        for baseline, found in scores.baselines().items():
            for name, value in found.items():
                self._baseline.labels(name, baseline).set(value)

    def resumed(self, loop: Prequential) -> None:
        """Start counting from where a checkpoint stands: a counter tells of this process alone."""
        self._seen |= {
            "events": loop.counters.events,
            "learned": loop.counters.learned,
            "unlabelled": loop.counters.unlabelled,
            "drifts": loop.counters.drifts,
            "cuts": loop.counters.cuts,
            "untold": loop.counters.untold,
            "expired": loop.parts.queue.expired,
        }
        self._dropped = dict(loop.counters.dropped)
        if isinstance(loop.parts.queue, LabelJoin):
            self._fates = dict(loop.parts.queue.counts)

    def _raise(self, name: str, total: int) -> None:
        more = total - self._seen[name]
        if more > 0:
            self._counters[name].inc(more)
            self._seen[name] = total
