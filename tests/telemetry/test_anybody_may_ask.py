"""The listener: what each page answers, and that no client costs the daemon more than its share."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.core.identity import Scope
from daemon.ports.observer import BatchCommitted
from daemon.ports.vitals import ShardVitals
from daemon.telemetry import Logger, listener
from daemon.telemetry.exposition import Sights
from daemon.telemetry.health import Phase, Thresholds
from daemon.telemetry.site import Place, TelemetrySite
from daemon.testing.clock import VirtualClock
from daemon.testing.memory_source import MemorySource
from tests.telemetry.conftest import Logs

pytestmark = pytest.mark.anyio

HOST = "127.0.0.1"
PATIENCE_SECONDS = 30.0
_LONG = 8_000_000
"""Characters that no kernel takes for a client which does not."""


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Asked:
    """A site that listens, and clients."""

    site: TelemetrySite
    clock: VirtualClock
    logs: Logs
    writers: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])
    held: ExitStack = field(default_factory=ExitStack)
    """What is closed at the end."""

    async def connect(self, request: bytes = b"") -> asyncio.StreamReader:
        """Connect, say something, and hold the connection."""
        reader, writer = await asyncio.open_connection(HOST, self.site.listener.port, limit=1024)
        self.writers.append(writer)
        writer.write(request)
        return reader

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask once and read to the end of the connection."""
        named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        reader = await self.connect(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{named}\r\n".encode())
        with anyio.fail_after(PATIENCE_SECONDS):
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return Answer(int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body)

    async def until(self, status: int) -> Answer:
        """Ask for metrics until that is the answer."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while (answer := await self.ask("/metrics")).status != status:
                await anyio.lowlevel.checkpoint()
        return answer


@asynccontextmanager
async def listening(logs: Logs, logger: Logger | None = None, *, shards: int = 1) -> AsyncGenerator[Asked]:
    """A site on a free port, of a daemon that runs some shards."""
    clock = VirtualClock(manual=True)
    site = TelemetrySite(Place(HOST, 0), Thresholds(), clock, logger or logs.configure())
    for number in range(shards):
        scope = Scope("orders", 1, "log", f"s{number}")
        site.recorder.see(BatchCommitted(scope, (1,), 1, {"read": 5}, 1, 0.1, None))
    await site.open()
    asked = Asked(site, clock, logs)
    try:
        yield asked
    finally:
        asked.held.close()
        for writer in asked.writers:
            writer.transport.abort()
        await site.aclose()


async def test_metrics_are_prometheus_text(logs: Logs):
    """GET /metrics: the exposition, with its content type, on a connection that is closed then."""
    async with listening(logs) as asked:
        answer = await asked.ask("/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["Connection"] == "close"
        assert answer.headers["Server"] == "projectiond"
        families = {family.name for family in text_string_to_metric_families(answer.body.decode())}
        assert {"projectiond_events_read", "projectiond_build_info", "process_cpu_seconds"} <= families
        assert b'projectiond_events_read_total{projection="orders",generation="1"' in answer.body


async def test_metrics_are_packed_for_whoever_can_unpack(logs: Logs):
    """Accept-Encoding: gzip gives gzip; HEAD gives no body; a query changes nothing."""
    async with listening(logs) as asked:
        packed = await asked.ask("/metrics?x=1", Accept_Encoding="deflate, gzip;q=0.5")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert b"projectiond_events_read_total" in gzip.decompress(packed.body)
        head = await asked.ask("/metrics", "HEAD")
        assert (head.status, head.body) == (200, b"")


async def test_health_is_told_in_words_or_in_detail(logs: Logs):
    """200 or 503, `ok` or the reasons; JSON for whoever accepts it or asks for the detail."""
    async with listening(logs) as asked:
        health = asked.site.health
        assert [(await asked.ask(path)).status for path in ("/healthz", "/startupz", "/readyz")] == [200, 503, 503]
        assert (await asked.ask("/readyz")).body == b"it is starting\n"
        health.phase = Phase.RUNNING
        assert [(await asked.ask(path)).status for path in ("/healthz", "/startupz", "/readyz")] == [200, 200, 200]
        assert (await asked.ask("/readyz")).body == b"ok\n"
        asked.site.draining()
        for answer in (await asked.ask("/readyz?detail"), await asked.ask("/readyz", Accept="application/json")):
            assert answer.status == 503
            assert answer.headers["Content-Type"] == "application/json"
            document = json.loads(answer.body)
            assert (document["ok"], document["reasons"]) == (False, ["it is draining"])
            assert document["phase"] == "draining"


@pytest.mark.parametrize(
    ("said", "packed"),
    [
        ("gzip;q=0", False),
        ("deflate, gzip; q=0.000", False),
        ("gzip;Q=0.0, *", False),
        ("*", False),
        ("identity", False),
        ("notgzip", False),
        ("gzip;q=0.001", True),
        ("GZIP", True),
        ("x-gzip", True),
    ],
)
async def test_what_a_client_refuses_it_does_not_get(logs: Logs, said: str, packed: bool):
    """Accept-Encoding with a weight of 0 is a refusal; names count whole, in whatever case."""
    async with listening(logs) as asked:
        answer = await asked.ask("/metrics", Accept_Encoding=said)
        assert ("Content-Encoding" in answer.headers) == packed
        plain = gzip.decompress(answer.body) if packed else answer.body
        assert b"projectiond_events_read_total" in plain


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("application/json;q=0", "text/plain"),
        ("text/plain, application/json ; q=0.0", "text/plain"),
        ("*/*", "text/plain"),
        ("text/html, application/json;q=0.1", "application/json"),
    ],
)
async def test_json_is_for_whoever_accepts_it(logs: Logs, said: str, kind: str):
    """Accept with a weight of 0 refuses JSON, and gets the words instead."""
    async with listening(logs) as asked:
        answer = await asked.ask("/healthz", Accept=said)
        assert answer.headers["Content-Type"].partition(";")[0] == kind


async def test_nothing_else_is_answered(logs: Logs):
    """Another path, another method and what is no HTTP are refused, and leave no line in the log."""
    async with listening(logs) as asked:
        told = len(logs.lines)
        assert (await asked.ask("/")).status == 404
        assert (await asked.ask("/metrics/../etc/passwd")).status == 404
        posted = await asked.ask("/metrics", "POST")
        assert (posted.status, posted.headers["Allow"]) == (405, "GET, HEAD")
        for noise in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n"):
            reader = await asked.connect(noise)
            with anyio.fail_after(PATIENCE_SECONDS):
                assert b"200 OK" not in await reader.read(-1)
        assert len(logs.lines) == told


async def test_five_hundred_scrapes_at_once_are_all_answered(logs: Logs):
    """The text is made once for those that come together; all get it, and the loop goes on meanwhile."""
    async with listening(logs, shards=64) as asked:
        made = 0
        metrics = asked.site.exposition.chunks

        def counted():  # noqa: ANN202 - as chunks
            nonlocal made
            made += 1
            return metrics()

        asked.site.exposition.chunks = counted  # pyright: ignore[reportAttributeAccessIssue]
        answers: list[Answer] = []

        async def scrape() -> None:
            answers.append(await asked.ask("/metrics", Accept_Encoding="gzip"))

        async with anyio.create_task_group() as tasks:
            for _ in range(500):
                tasks.start_soon(scrape)
        assert [answer.status for answer in answers] == [200] * 500
        assert len({answer.body for answer in answers}) == made == 1
        assert (await asked.ask("/healthz")).status == 200


async def test_shards_go_on_while_a_scrape_is_written(logs: Logs):
    """Between any two pieces of the text, whoever waits for the event loop has a turn."""
    turns = 0

    async def shard() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with listening(logs, shards=200) as asked, anyio.create_task_group() as tasks:
        pieces = sum(1 for _ in asked.site.exposition.chunks())
        metrics = listener.Metrics(asked.site.exposition, asked.clock.monotonic)
        tasks.start_soon(shard)
        await anyio.lowlevel.checkpoint()
        before = turns
        await metrics.text(packed=False)
        assert turns - before >= pieces > 80
        tasks.cancel_scope.cancel()


async def test_clients_that_never_read_are_ended_and_others_answered(logs: Logs, monkeypatch: pytest.MonkeyPatch):
    """As many clients as answers may be on their way ask and read nothing: others are told to come again, health is
    answered, and once the silent ones' time is over everything is as before.
    """
    monkeypatch.setattr(listener, "CONNECTION_SECONDS", 2.0)
    monkeypatch.setattr(listener, "WAIT_SECONDS", 0.05)
    async with listening(logs) as asked:
        chunks = asked.site.exposition.chunks
        asked.site.exposition.chunks = lambda: iter([*chunks(), "#" * _LONG])  # pyright: ignore[reportAttributeAccessIssue]
        for _ in range(listener.ANSWERS):
            deaf = asked.held.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((HOST, asked.site.listener.port))
            deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        refused = await asked.until(503)
        assert refused.headers["Retry-After"] == "5"
        assert (await asked.ask("/healthz")).status == 200
        await asked.until(200)
        await asked.clock.advance(1)
        text = (await asked.ask("/metrics", Accept_Encoding="gzip")).body
        assert f'projectiond_scrapes_total{{result="dropped"}} {listener.ANSWERS}'.encode() in gzip.decompress(text)


async def test_clients_that_say_nothing_are_ended(logs: Logs, monkeypatch: pytest.MonkeyPatch):
    """A connection without a request, or with half of one, lives as long as any other and no longer."""
    monkeypatch.setattr(listener, "CONNECTION_SECONDS", 0.1)
    async with listening(logs) as asked:
        for words in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nX: "):
            reader = await asked.connect(words)
            with anyio.fail_after(PATIENCE_SECONDS), suppress(ConnectionResetError):
                assert await reader.read(-1) == b""


async def test_clients_beyond_the_limit_are_closed_unheard(logs: Logs, monkeypatch: pytest.MonkeyPatch):
    """So many connections at most are held; one more is closed, and the next is heard once there is room."""
    monkeypatch.setattr(listener, "CONNECTIONS", 8)
    async with listening(logs) as asked:
        for _ in range(8):
            await asked.connect()
        await anyio.wait_all_tasks_blocked()
        reader = await asked.connect(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        with anyio.fail_after(PATIENCE_SECONDS):
            with suppress(ConnectionResetError):
                assert await reader.read(-1) == b""
        asked.writers[0].transport.abort()
        with anyio.fail_after(PATIENCE_SECONDS):
            while True:
                try:
                    assert (await asked.ask("/healthz")).status == 200
                    break
                except (ConnectionError, IndexError):
                    await anyio.sleep(0.01)


async def test_a_taken_port_stops_nothing_and_is_tried_again(logs: Logs):
    """It is said once, and the listener is there when the port is."""
    async with listening(logs) as first:
        place = Place(HOST, first.site.listener.port)
        clock = VirtualClock(manual=True)
        second = TelemetrySite(place, Thresholds(), clock, logs.configure())
        await second.open()
        await second.open()
        assert not second.listener.listening
        (warned,) = [record for record in logs.records if record["level"] == "warning"]
        assert warned["event"].startswith("metrics and health cannot be asked for; set another metrics.port")
        assert warned["address"] == f"{HOST}:{place.port}"
    await second.open()
    assert second.listener.listening
    await second.aclose()


async def test_a_bug_in_looking_ends_no_daemon(logs: Logs):
    """What fails while the site looks around is told, and whoever runs it goes on."""

    def broken() -> list[ShardVitals]:
        raise ValueError("a bug")

    async with listening(logs) as asked:
        await asked.site.run(Sights(broken), {"log": MemorySource("log")}, {})
        assert logs.records[-1]["event"] == "metrics and health are not kept up any more, please report it"
        assert (await asked.ask("/startupz")).status == 200


async def test_a_page_that_fails_harms_nobody(logs: Logs):
    """A bug in a page is an answer of 500 and a line in the log; the next page is answered."""
    async with listening(logs) as asked:

        def broken() -> float:
            raise ValueError("a bug")

        asked.site.health.loop_delay = broken
        assert (await asked.ask("/healthz")).status == 500
        assert logs.records[-1]["level"] == "error"
        assert (await asked.ask("/metrics")).status == 200
