"""Clients without manners: what they do is answered or cut off, memory stays flat, and others are served meanwhile."""

import gc
import json
import select
import tracemalloc
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.abc
import pytest

from daemon.control.limits import ControlLimits
from tests.control.conftest import Raw, Serve, Serving, until

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def still_serves(serving: Serving) -> None:
    """Somebody with manners is answered."""
    assert (await serving.ask("echo", text="here"))["result"]["text"] == "here"


async def test_half_a_line_is_cut_off(serve: Serve):
    """A line that is not completed is answered with the limit and its key, and the connection closed."""
    async with serve(ControlLimits(line=0.05)) as serving, serving.client() as client:
        await client.send(b'{"v":1,"id":"r1","comm')
        refused = await client.final()
        assert refused["error"]["code"] == "usage"
        assert "0.05 seconds after its first byte" in refused["error"]["reason"]
        assert await client.frame() is None
        await still_serves(serving)


async def test_a_line_that_ends_with_the_connection_is_told(serve: Serve):
    """A last line without its end is not carried out, and the client that waits hears why."""
    async with serve() as serving, serving.client() as client:
        await client.send(b'{"v":1,"id":"r1","command":"slow"}')
        await client.stream.send_eof()
        assert "middle of a line" in (await client.final())["error"]["reason"]
        assert not serving.engine.begun.is_set()


async def test_a_byte_now_and_then_buys_no_time(serve: Serve):
    """A client that sends a byte at a time is cut off as one that sends none: time runs from the first byte."""
    async with serve(ControlLimits(line=0.2)) as serving, serving.client() as client:
        sent = await trickle(client)
        assert sent < 16_384
        assert "after its first byte" in (await client.final())["error"]["reason"]
        await still_serves(serving)


async def trickle(client: Raw) -> int:
    """Send a byte now and then until the connection breaks; return how many went out."""
    sent = 0
    try:
        while True:
            await client.send(b"{")
            sent += 1
            await anyio.sleep(0.01)
    except anyio.BrokenResourceError:
        return sent


@pytest.mark.parametrize("ended", [True, False], ids=["with an end", "without an end"])
async def test_a_line_of_ten_megabytes_is_not_kept(serve: Serve, ended: bool):
    """A line over the limit is answered with the limit and closed; its bytes are never kept."""
    async with serve() as serving, serving.client() as client:
        await still_serves(serving)
        raw = b'{"v":1,"id":"' + b"x" * (10 * MIB) + (b'"}\n' if ended else b"")
        tracemalloc.start()
        try:
            with pytest.raises(anyio.BrokenResourceError):
                await client.send(raw)
            refused = await client.final()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert "more than 16384 bytes" in refused["error"]["reason"]
        assert "control.max_line_bytes" in refused["error"]["remedy"]
        assert peak < MIB
        assert await client.frame() is None
        await still_serves(serving)


async def test_the_longest_line_is_heard(serve: Serve):
    """A line of exactly the limit, its end included, is carried out; one byte more is not."""
    frame = b'{"v":1,"id":"r1","command":"echo","args":{"text":"%s"}}\n'
    for more, kind in [(0, "result"), (1, "error")]:
        async with serve() as serving, serving.client() as client:
            await client.send(frame % (b"x" * (16_384 - len(frame) + 2 + more)))
            assert (await client.final())["kind"] == kind


async def test_ten_thousand_connections_keep_nothing(serve: Serve):
    """Ten thousand connects leave nothing behind: each beyond the limit is told so; who waits is served after it."""
    async with serve(ControlLimits(max_connections=4)) as serving:
        held = [await anyio.connect_unix(serving.path) for _ in range(4)]
        for stream in held:
            await Raw(stream).request("echo")
            await Raw(stream).final()
        await knock(serving, 500)
        before = kept()
        await knock(serving, 9_500)
        after = kept()
        assert after.files <= before.files + 2
        assert after.objects < before.objects + 1_000
        async with serving.client() as client:
            refused = await client.final()
            assert (refused["error"]["code"], refused["id"]) == ("busy", None)
            assert "control.max_connections" in refused["error"]["remedy"]
        for stream in held:
            await stream.aclose()
        await until_served(serving)


class Kept(NamedTuple):
    """What this process holds on to."""

    files: int
    objects: int


def kept() -> Kept:
    """Count open files and Python's objects."""
    gc.collect()
    return Kept(len([*Path("/proc/self/fd").iterdir()]), len(gc.get_objects()))


async def knock(serving: Serving, times: int) -> None:
    """Connect and hang up."""
    for _ in range(times):
        async with await anyio.connect_unix(serving.path):
            pass


async def until_served(serving: Serving) -> None:
    """Wait until the closed connections have been noticed."""
    with anyio.fail_after(20):
        while "result" not in await serving.ask("echo"):  # noqa: ASYNC110 - a state of the server
            await anyio.sleep(0.001)


async def test_who_never_reads_is_let_go(serve: Serve):
    """A client that reads nothing loses rows, then its connection; what it changed goes on, and memory stays flat."""
    async with serve(ControlLimits(write=0.2)) as serving, serving.client() as client:
        await client.request("slow", id="s")
        with anyio.fail_after(10):
            await serving.engine.begun.wait()
        tracemalloc.start()
        try:
            await client.request("rows", id="r", count=5_000, width=10_000)
            await until(lambda: len(serving.engine.answered) == 1)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 * MIB
        await still_serves(serving)
        await until(lambda: hung_up(client))
        frames = [frame async for frame in all_frames(client)]
        assert len(frames) < 1_000
        serving.engine.go.set()
        await until(lambda: serving.engine.done == ["s"])


def hung_up(client: Raw) -> bool:
    """Tell whether the server has closed the connection."""
    poll = select.poll()
    poll.register(client.stream.extra(anyio.abc.SocketAttribute.raw_socket), 0)
    return bool(poll.poll(0))


async def all_frames(client: Raw) -> AsyncGenerator[dict[str, Any]]:
    """Iterate frames to the end of the connection; the last may be cut off."""
    try:
        while (frame := await client.frame()) is not None:
            yield frame
    except json.JSONDecodeError:
        return


async def test_what_was_left_out_is_counted(serve: Serve):
    """Rows that a slow reader missed are counted in the next frame he gets, so that none is lost silently."""
    async with serve() as serving, serving.client() as client:
        await client.request("rows", count=5_000, width=2_000)
        frames = [frame async for frame in to_result(client)]
        rows = [frame for frame in frames if frame["kind"] == "row"]
        missed = sum(frame.get("missed", 0) for frame in frames)
        assert missed > 0
        assert len(rows) + missed == 5_000
        assert frames[-1]["result"] == {"count": 5_000}


async def to_result(client: Raw) -> AsyncGenerator[dict[str, Any]]:
    """Iterate frames up to the final one."""
    while (frame := await client.frame()) is not None:
        yield frame
        if frame["kind"] == "result":
            return


async def test_unread_answers_stop_the_reading_of_requests(serve: Serve):
    """A client that sends junk for ever and reads nothing is heard only as far as its answers fit."""
    async with serve(ControlLimits(write=30)) as serving, serving.client() as client:
        junk = (b"junk" * 250 + b"\n") * 2_000
        with anyio.move_on_after(1) as scope:
            await client.send(junk)
        assert scope.cancelled_caught
        await still_serves(serving)


async def test_silence_is_ended(serve: Serve):
    """A connection on which nothing is asked is closed after its time, without a word; one that waits is not."""
    async with serve(ControlLimits(idle=0.05)) as serving:
        async with serving.client() as client:
            assert await client.frame() is None
        async with serving.client() as client:
            await client.request("slow", id="s")
            await client.frame()
            await anyio.sleep(0.2)
            serving.engine.go.set()
            assert (await client.final())["result"] == {"done": True}
