"""The account as Prometheus reads it, and the dashboard that asks for it."""

import json
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import promql_parser
import pytest
import trio
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics import exposition, parser
from support import until
from trio.testing import MockClock, wait_all_tasks_blocked
from valkey_server import run_valkey, run_worker

import vizpipe_trio.redis
from vizpipe_trio import Event, Pipe, Subscription, open_pipe
from vizpipe_trio.prometheus import PipeCollector
from vizpipe_trio.redis import RedisRelay
from vizpipe_trio.testing import make_event, wait_for_events

DOCS = Path(__file__).parent.parent / "docs"
DASHBOARD = DOCS / "grafana.json"
METRICS = DOCS / "metrics.md"


def registry_of(*collectors: PipeCollector) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    for collector in collectors:
        registry.register(collector)
    return registry


async def test_a_scrape_reads_the_pipes_account(viz_pipe: Pipe, viz_events: Subscription) -> None:
    registry = registry_of(PipeCollector(viz_pipe))
    for number in range(5):
        viz_pipe.emit(make_event(number))
    await wait_for_events(viz_events, 3)
    assert registry.get_sample_value("vizpipe_events_emitted_total") == 5
    assert registry.get_sample_value("vizpipe_events_broadcast_total") == 5
    assert registry.get_sample_value("vizpipe_client_delivered_total") == 3
    assert registry.get_sample_value("vizpipe_clients") == 1
    assert registry.get_sample_value("vizpipe_running") == 1
    assert registry.get_sample_value("vizpipe_events_capacity") == 1000


def test_drops_are_told_by_reason() -> None:
    pipe = Pipe(capacity=2)
    registry = registry_of(PipeCollector(pipe))
    for _ in range(5):
        pipe.emit(Event())
    pipe.stop()
    pipe.emit(Event())
    reasons = [
        registry.get_sample_value("vizpipe_events_dropped_total", {"reason": reason})
        for reason in ("overload", "ended")
    ]
    assert reasons == [3, 1]
    assert registry.get_sample_value("vizpipe_events_queued") == 2


async def test_what_clients_miss_is_told_by_reason() -> None:
    pipe = Pipe(capacity=6, client_capacity=4, history=2, flush_interval=0)
    registry = registry_of(PipeCollector(pipe))
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        with pipe.subscribe() as subscription:
            for _ in range(9):
                pipe.emit(Event())
            await wait_all_tasks_blocked()
            first_id = (await subscription.receive_bytes()).partition(b"\n")[0].removeprefix(b"id: ").decode()
        list(pipe.replay(first_id))
        list(pipe.replay("of another life"))
        pipe.stop()
    reasons = [
        registry.get_sample_value("vizpipe_client_missed_total", {"reason": reason})
        for reason in ("slow", "overload", "history")
    ]
    assert reasons == [2, 3, 3]
    assert registry.get_sample_value("vizpipe_client_missed_unknown_total") == 1


async def test_writes_are_counted_by_their_size(viz_pipe: Pipe, viz_events: Subscription) -> None:
    written = 0
    for size in (100, 600, 1500, 40_000):
        viz_pipe.emit(Event(subject="x" * size))
        written += len(await viz_events.receive_bytes())
    registry = registry_of(PipeCollector(viz_pipe))
    name = "vizpipe_write_size_bytes"
    assert registry.get_sample_value(f"{name}_sum") == written
    buckets = [registry.get_sample_value(f"{name}_bucket", {"le": f"{2.0**power}"}) for power in range(8, 19)]
    assert buckets == [0, 1, 2, 3, 3, 3, 3, 3, 4, 4, 4]
    assert registry.get_sample_value(f"{name}_bucket", {"le": "+Inf"}) == 4


async def test_a_write_is_counted_by_how_long_its_oldest_event_was_on_its_way(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vizpipe_trio._entrance.perf_counter", lambda: 0.0)  # no task is late
    async with open_pipe(flush_interval=0.04) as pipe:
        registry = registry_of(PipeCollector(pipe))
        name = "vizpipe_delivery_latency_seconds"
        with pipe.subscribe() as subscription:
            await wait_all_tasks_blocked()
            pipe.emit(Event())  # goes at once
            await wait_all_tasks_blocked()
            await trio.sleep(0.01)
            pipe.emit(Event())  # has to wait until the interval is over
            await trio.sleep(0.01)
            pipe.emit(Event())  # together with it
            await subscription.receive_bytes()
            assert registry.get_sample_value(f"{name}_sum") == pytest.approx(0.02)
            await subscription.receive_bytes()
    assert registry.get_sample_value(f"{name}_sum") == pytest.approx(0.02 + 0.03)
    buckets = [registry.get_sample_value(f"{name}_bucket", {"le": le}) for le in ("0.016", "0.032")]
    assert buckets == [0, 2]
    assert registry.get_sample_value(f"{name}_count") == sum(pipe.statistics().latencies) == 2


async def test_a_host_that_holds_the_thread_is_seen_in_the_latency(viz_pipe: Pipe) -> None:
    with viz_pipe.subscribe() as subscription:
        await wait_all_tasks_blocked()
        viz_pipe.emit(make_event())
        time.sleep(0.05)  # noqa: ASYNC251 - as a host must not do
        await subscription.receive_bytes()
    assert viz_pipe.statistics().latency_seconds >= 0.05


async def test_what_waits_for_a_run_has_no_latency_before_it(autojump_clock: MockClock) -> None:
    pipe = Pipe()
    pipe.emit(Event())
    await trio.sleep(60)
    with pipe.subscribe() as subscription:
        async with trio.open_nursery() as nursery:
            await nursery.start(pipe.run)
            await trio.sleep(3)
            assert b"data: " in await subscription.receive_bytes()
            nursery.cancel_scope.cancel()
    assert pipe.statistics().latency_seconds == pytest.approx(3)


def test_two_pipes_are_told_apart_by_a_label_and_the_same_one_is_not_counted_twice() -> None:
    search, memory = Pipe(capacity=1), Pipe()
    RedisRelay(memory, "redis://localhost")
    collector = PipeCollector({"search": search, "memory": memory})
    for _ in range(3):
        search.emit(Event())
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in scraped(collector)
        for sample in family.samples
    }
    assert values["vizpipe_events_emitted_total", "search"] == 3
    assert values["vizpipe_events_emitted_total", "memory"] == 0
    assert values["vizpipe_events_dropped_total", "search", "overload"] == 2
    assert values["vizpipe_relay_connected", "memory"] == 0
    assert ("vizpipe_relay_connected", "search") not in values
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry_of(PipeCollector(search), PipeCollector(search))


async def test_the_relays_account_is_read_with_the_pipes() -> None:
    async with run_valkey() as valkey, run_worker(valkey.url) as a, run_worker(valkey.url) as b:
        registry = registry_of(PipeCollector(b.pipe))
        a.emit("a1", "a2")
        b.emit("b1")
        await b.viewer.see("a2")
        await until(lambda: b.relay.statistics().sent == 1)
        await valkey.add(hello="world")
        await until(lambda: b.relay.statistics().malformed == 1)
        names = ("connected", "connections_total", "sent_total", "received_total", "relayed_total", "workers")
        figures = [registry.get_sample_value(f"vizpipe_relay_{name}") for name in names]
        assert figures == [1, 1, 1, 2, 2, 1]
        ignored = registry.get_sample_value("vizpipe_relay_ignored_total", {"reason": "malformed"})
        assert ignored == 1
        await valkey.kill()
        await valkey.start()
        await b.viewer.see("None relay")
        assert registry.get_sample_value("vizpipe_relay_lost_unknown_total") == 1


async def test_what_is_lost_between_workers_is_told_by_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vizpipe_trio.redis, "START_SECONDS", 0)
    async with run_worker("redis://127.0.0.1:1", capacity=2) as a:
        registry = registry_of(PipeCollector(a.pipe))
        a.emit("a1", "a2", "a3")
        await a.viewer.see("a3")
        lost, queued = (
            [registry.get_sample_value(f"vizpipe_relay_{name}", {"direction": way}) for way in ("out", "in")]
            for name in ("lost_total", "queued")
        )
        assert (lost, queued) == ([1, 0], [2, 0])
        assert registry.get_sample_value("vizpipe_relay_connected") == 0


def scraped(collector: PipeCollector) -> list[Metric]:
    """Return what is collected as a strict parser reads it."""
    write: Callable[[CollectorRegistry], bytes] = vars(exposition)["generate_latest"]  # it has no types
    read: Callable[[str], Iterable[Metric]] = vars(parser)["text_string_to_metric_families"]
    return list(read(write(registry_of(collector)).decode()))


def scraped_with_relay() -> list[Metric]:
    pipe = Pipe()
    RedisRelay(pipe, "redis://localhost")
    return scraped(PipeCollector(pipe))


def families() -> dict[str, set[str]]:
    """Return the names of all samples by family."""
    return {family.name: {sample.name for sample in family.samples} for family in scraped_with_relay()}


def test_the_names_keep_to_prometheus_conventions() -> None:
    for family in scraped_with_relay():
        assert re.fullmatch(r"vizpipe_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation
        if family.type == "counter":
            assert all(sample.name == family.name + "_total" for sample in family.samples)
        else:
            assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert family.type != "histogram" or family.name.endswith(("_bytes", "_seconds"))


def test_the_documentation_names_every_metric() -> None:
    told = set(re.findall(r"``(vizpipe_\w+)``", PipeCollector.__doc__ or ""))
    told_families = {name.removesuffix("_total") for name in told}
    assert told_families == set(families())


def test_the_grafana_dashboard_asks_for_what_there_is_and_for_all_of_it() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"]]
    asked = set(re.findall(r"vizpipe_\w+", " ".join(queries)))
    there_is = families()
    assert asked <= set().union(*there_is.values())
    assert all(asked & samples for samples in there_is.values())
    for query in queries:
        if query != "prometheus" and not query.startswith("label_values("):  # those are Grafana's own
            promql_parser.parse(query.replace("$__rate_interval", "1m"))
        assert query.count("rate(") == len(re.findall(r"_(?:total|bucket|sum|count)\{", query)), query


def test_the_alerts_that_are_advised_are_prometheus_language_and_ask_for_what_there_is() -> None:
    alerts = re.findall(r"^\|[^|]+\| `(.+?)` \|", METRICS.read_text(), re.MULTILINE)
    there_is = {
        (sample.name, sample.labels.get("reason", ""))
        for family in scraped_with_relay()
        for sample in family.samples
    }
    asked = {re.findall(r'(vizpipe_\w+)(?:{reason="(\w+)"})?', alert)[0] for alert in alerts}
    assert len(alerts) == len(asked) == 6
    assert {name for name, reason in asked if not reason} <= {name for name, _ in there_is}
    assert {(name, reason) for name, reason in asked if reason} <= there_is
    for alert in alerts:
        promql_parser.parse(alert)


def test_the_panels_of_the_dashboard_do_not_overlap_and_have_names() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
