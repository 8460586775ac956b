"""The metrics, in the formats that Prometheus reads. They are made when somebody asks, of counts that others keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from heavylift.core.errors import StoreUnavailable
from heavylift.core.job import State
from heavylift.core.tally import BUCKET_NAMES, MOST_NAMES, OTHER, Fault, Key
from heavylift.core.version import VERSION

if TYPE_CHECKING:
    from heavylift.core.queue import Queue
    from heavylift.store import Store, WorkerStatus

Samples = Mapping[tuple[str, ...], float]
_Gauge = Callable[[str, str, Sequence[str], Samples], Metric]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to tell at one moment. `hosts` as in `store.WorkerRecord`; `up`: the store answered."""

    counts: Mapping[Key, float]
    queues: Sequence[Queue] = ()
    workers: Sequence[WorkerStatus] = ()
    hosts: Mapping[str, int] | None = None
    up: bool = True


async def of_store(store: Store) -> Snapshot:
    """What all workers of a store, those that are gone included, have counted, and what waits and runs there."""
    return Snapshot(await store.counts(), await store.queues(), await store.workers())


async def of_worker(store: Store, counts: Mapping[Key, float], hosts: Mapping[str, int]) -> Snapshot:
    """What one worker has counted since its start, and what waits and runs in its store, if that can be asked."""
    own = Snapshot(counts, hosts=hosts, up=False)
    try:
        return replace(own, queues=await store.queues(), workers=await store.workers(), up=True)
    except StoreUnavailable:
        return own


def registry(collector: Collector) -> CollectorRegistry:
    """These metrics, and those of this process, for prometheus_client."""
    found = CollectorRegistry()
    ProcessCollector(registry=found)
    found.register(collector)
    return found


def rendered(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """The text in the format that fits an Accept header best, and its media type."""
    encoder, media_type = choose_encoder(accept)
    return encoder(registry(Told(snapshot))), media_type


class Told(Collector):
    """A snapshot as metric families."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Nothing: nobody else is in the registry whose names these could take."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of it."""
        yield from _counted(self._snapshot.counts)
        yield from _seen(self._snapshot)


def _counted(counts: Mapping[Key, float]) -> Iterator[Metric]:
    of: dict[str, dict[tuple[str, ...], float]] = {}
    for (kind, *labels), amount in counts.items():
        of.setdefault(kind, {})[tuple(labels)] = amount

    def counter(name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
        family = CounterMetricFamily(f"heavylift_{name}", text, labels=labels)
        for values, amount in sorted(samples.items()):
            family.add_metric(values, amount)
        return family

    none: Samples = {}
    yield counter("attempts", "Attempts that ended.", ["task", "outcome"], of.get("attempts", none))
    yield counter("finished_jobs", "Jobs that are over.", ["task", "state"], of.get("finished", none))
    faults = {(fault.value,): 0.0 for fault in Fault} | of.get("faults", {})
    yield counter("faults", "What went wrong around jobs.", ["fault"], faults)
    text = "How long attempts ran."
    yield _histogram("processing_seconds", text, "task", of.get("processing", none), of.get("processing_sum", none))
    text = "How long jobs were due until a worker claimed them."
    yield _histogram("wait_seconds", text, "queue", of.get("wait", none), of.get("wait_sum", none))
    calls = SummaryMetricFamily("heavylift_store_call_seconds", "Calls of the store by workers.", labels=["call"])
    for (name,), times in sorted(of.get("store_calls", none).items()):
        calls.add_metric([name], int(times), of.get("store_sum", none).get((name,), 0.0))
    yield calls


def _histogram(name: str, text: str, label: str, samples: Samples, sums: Samples) -> Metric:
    """Of numbers for each range the ones that Prometheus wants: for all up to each limit."""
    family = HistogramMetricFamily(f"heavylift_{name}", text, labels=[label])
    for value in sorted({values[0] for values in samples}):
        buckets, all_so_far = [], 0.0
        for limit in BUCKET_NAMES:
            all_so_far += samples.get((value, limit), 0.0)
            buckets.append((limit if limit == "+Inf" else str(float(limit)), all_so_far))
        family.add_metric([value], buckets, sums.get((value,), 0.0))
    return family


def _seen(snapshot: Snapshot) -> Iterator[Metric]:
    def gauge(name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
        family = GaugeMetricFamily(f"heavylift_{name}", text, labels=labels)
        for values, amount in samples.items():
            family.add_metric(values, amount)
        return family

    yield gauge("store_up", "Whether the store answers.", [], {(): float(snapshot.up)})
    info = GaugeMetricFamily("heavylift_info", "The version.", labels=["version"])
    info.add_metric([VERSION], 1)
    yield info
    jobs: dict[tuple[str, ...], float] = {}
    waits: dict[tuple[str, ...], float] = {}
    paused: dict[tuple[str, ...], float] = {}
    for name, queue in _named(snapshot.queues):
        for state in State:
            jobs[name, state.value] = jobs.get((name, state.value), 0) + queue.counts.get(state, 0)
        waits[name,] = max(waits.get((name,), 0.0), queue.oldest_wait or 0.0)
        paused[name,] = max(paused.get((name,), 0.0), float(queue.paused))
    yield gauge("jobs", "Jobs that are kept.", ["queue", "state"], jobs)
    yield gauge("oldest_wait_seconds", "How long the job at the head has been due.", ["queue"], waits)
    yield gauge("queue_paused", "Whether the queue is paused.", ["queue"], paused)
    yield from _workers(snapshot, gauge)


def _workers(snapshot: Snapshot, gauge: _Gauge) -> Iterator[Metric]:
    states: dict[tuple[str, ...], float] = dict.fromkeys((("alive",), ("draining",), ("dead",)), 0.0)
    concurrency, hosts = 0.0, dict[tuple[str, ...], float]()
    for status in snapshot.workers:
        state = "dead" if status.dead else "draining" if status.worker.draining else "alive"
        states[state,] += 1
        if not status.dead:
            concurrency += status.worker.concurrency
            if snapshot.hosts is None:
                _add_hosts(hosts, status.worker.hosts)
    _add_hosts(hosts, snapshot.hosts or {})
    yield gauge("workers", "Workers.", ["state"], states)
    yield gauge("concurrency", "Exclusive hosts that the living workers may have.", [], {(): concurrency})
    yield gauge("hosts", "Processes in which jobs run.", ["kind", "phase"], dict(sorted(hosts.items())))


def _add_hosts(into: dict[tuple[str, ...], float], hosts: Mapping[str, int]) -> None:
    for name, number in hosts.items():
        kind, _, phase = name.partition(".")
        into[kind, phase] = into.get((kind, phase), 0) + number


def _named(queues: Sequence[Queue]) -> Iterator[tuple[str, Queue]]:
    """Each queue under its name; of very many those with the most to do, and the others together."""

    def busy(queue: Queue) -> int:
        return sum(queue.counts.get(state, 0) for state in State if not state.final)

    for place, queue in enumerate(sorted(queues, key=lambda queue: (-busy(queue), queue.name))):
        yield queue.name if place < MOST_NAMES else OTHER, queue
