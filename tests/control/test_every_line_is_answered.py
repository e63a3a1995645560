"""The protocol as a client meets it: one answer to every line, whatever the line is."""

import json
from typing import Any

import anyio
import pytest

from daemon.control.limits import ControlLimits
from daemon.ports.observer import CommandAnswered, ControlTrouble
from tests.control.conftest import SECRET, Serve, until

pytestmark = pytest.mark.anyio

# fmt: off
WRONG_LINES = {
    "an empty line":
        (b"", "usage", "not JSON"),
    "binary junk":
        (b"\x00\xff\xfe\x80 binary \x01", "usage", "not JSON"),
    "half an object":
        (b'{"v":1,"id":"r1","command":"echo"', "usage", "not JSON"),
    "a list":
        (b"[1,2]", "usage", "is no object"),
    "not a number":
        (b'{"v":NaN}', "usage", "not JSON"),
    "ten thousand brackets":
        (b"[" * 5000 + b"]" * 5000, "usage", ""),
    "deep JSON":
        (b'{"v":1,"id":"r1","command":"echo","args":' + b'{"a":' * 20 + b"1" + b"}" * 21, "usage", "levels of nesting"),
    "a name twice":
        (b'{"v":1,"v":1,"id":"r1","command":"echo"}', "usage", '"v" stands there twice'),
    "a newer version":
        (b'{"v":2,"id":"r1","command":"echo"}', "usage", "protocol version 2"),
    "a version that is no number":
        (b'{"v":true,"id":"r1","command":"echo"}', "usage", "protocol version true"),
    "no version":
        (b'{"id":"r1","command":"echo"}', "usage", "protocol version null"),
    "a wrong id":
        (b'{"v":1,"id":"r 1","command":"echo"}', "usage", 'id "r 1"'),
    "an id that is no text":
        (b'{"v":1,"id":7,"command":"echo"}', "usage", "id 7"),
    "an unknown field":
        (b'{"v":1,"id":"r1","command":"echo","more":1}', "usage", 'unknown field "more"'),
    "a wrong name":
        (b'{"v":1,"id":"r1","command":"Echo"}', "usage", 'command "Echo"'),
    "a command of another day":
        (b'{"v":1,"id":"r1","command":"rebuild.start"}', "not-found", "no command rebuild.start"),
    "args that are a list":
        (b'{"v":1,"id":"r1","command":"echo","args":[]}', "usage", "args [] are no object"),
    "an unknown argument":
        (b'{"v":1,"id":"r1","command":"echo","args":{"texd":"x"}}', "usage", "texd: "),
    "an argument of another type":
        (b'{"v":1,"id":"r1","command":"echo","args":{"text":7}}', "usage", "text: "),
}
# fmt: on


@pytest.mark.parametrize(("line", "code", "said"), WRONG_LINES.values(), ids=WRONG_LINES)
async def test_what_is_no_request_is_refused_with_a_remedy(serve: Serve, line: bytes, code: str, said: str):
    """A wrong line is answered with a code, the reason and a remedy, and the next line of the connection is heard."""
    async with serve() as serving, serving.client() as client:
        await client.send(line + b"\n")
        refused = await client.final()
        assert refused["error"]["code"] == code
        assert said in refused["error"]["reason"]
        assert refused["error"]["remedy"]
        assert refused["v"] == 1
        await client.request("echo", id="next", text="heard")
        assert (await client.final())["result"]["text"] == "heard"


async def test_the_id_of_a_refused_request_is_told_where_it_can_be_read(serve: Serve):
    """An answer carries the id of its request, and null where there was none to read."""
    async with serve() as serving, serving.client() as client:
        for line, expected in [
            (b'{"v":9,"id":"a.b-c_1","command":"echo"}\n', "a.b-c_1"),
            (b'{"v":1,"id":"x","command":"none"}\n', "x"),
            (b'{"v":1,"id":"","command":"echo"}\n', None),
            (b"nonsense\n", None),
        ]:
            await client.send(line)
            assert (await client.final())["id"] == expected


async def test_every_failure_has_code_reason_and_remedy(serve: Serve):
    """A refusal, an error of the tree and a bug are each told; a bug's words, which may quote data, are not."""
    async with serve() as serving:
        refused = (await serving.ask("fail", how="refused"))["error"]
        assert refused == {"code": "conflict", "reason": "replay r7 is under way", "remedy": "abort it first"}
        away = (await serving.ask("fail", how="store"))["error"]
        assert (away["code"], away["reason"]) == ("unavailable", "the store is locked; try again")
        bug = await serving.ask("fail", how="bug")
        assert bug["error"]["code"] == "bug"
        assert SECRET not in json.dumps(bug)
        (trouble,) = serving.observer.of(ControlTrouble)
        assert "conftest.py" in trouble.report
        assert SECRET not in trouble.report


async def test_requests_of_one_connection_run_side_by_side(serve: Serve):
    """A slow request holds up no other one of its connection, and answers carry their own ids."""
    async with serve() as serving, serving.client() as client:
        await client.request("slow", id="s")
        assert (await client.frame()) == {"v": 1, "id": "s", "kind": "progress", "progress": {"step": 1}}
        await client.request("echo", id="e", text="meanwhile")
        assert (await client.final())["id"] == "e"
        serving.engine.go.set()
        assert (await client.final()) == {"v": 1, "id": "s", "kind": "result", "result": {"done": True}}


async def test_an_id_under_way_is_not_taken_twice(serve: Serve):
    """A second request under an id that is under way on its connection is a conflict, and the first goes on."""
    async with serve() as serving, serving.client() as client:
        await client.request("slow", id="s")
        await client.frame()
        await client.request("slow", id="s")
        refused = await client.final()
        assert (refused["id"], refused["error"]["code"]) == (None, "conflict")
        serving.engine.go.set()
        assert (await client.final())["id"] == "s"


async def test_too_many_requests_are_busy(serve: Serve):
    """One request more than a connection may have under way is answered `busy`."""
    async with serve(ControlLimits(max_requests=2)) as serving, serving.client() as client:
        for number in range(3):
            await client.request("slow", id=f"s{number}")
        refused = await client.final()
        assert (refused["id"], refused["error"]["code"]) == ("s2", "busy")
        assert "control.max_requests" in refused["error"]["remedy"]


async def test_a_change_goes_on_without_its_client(serve: Serve):
    """A change whose client hangs up is carried out to its end, and told as answered."""
    async with serve() as serving:
        async with serving.client() as client:
            await client.request("slow", id="s")
            await client.frame()
        await until(lambda: serving.connections == 0)
        serving.engine.go.set()
        await until(lambda: serving.engine.done == ["s"])
        await until(lambda: [fact.outcome for fact in serving.observer.of(CommandAnswered)] == ["done"])


async def test_reading_ends_with_its_client(serve: Serve):
    """What only reads is cancelled once nobody is there to read it."""
    async with serve() as serving:
        async with serving.client() as client:
            await client.request("look", id="l")
            with anyio.fail_after(10):
                await serving.engine.begun.wait()
        await until(lambda: serving.engine.cancelled == ["l"])


async def test_a_client_that_only_stopped_sending_is_answered(serve: Serve):
    """Half a connection closed, as `nc` does at the end of its input, does not lose the answer."""
    async with serve() as serving, serving.client() as client:
        await client.request("slow", id="s")
        await client.stream.send_eof()
        await client.frame()
        serving.engine.go.set()
        assert (await client.final())["result"] == {"done": True}
        assert await client.frame() is None


async def test_rows_come_in_order_before_the_result(serve: Serve):
    """A stream answers by rows, then by its result."""
    async with serve() as serving, serving.client() as client:
        await client.request("rows", count=3)
        frames = [await client.frame() for _ in range(4)]
        assert [frame and frame["kind"] for frame in frames] == ["row", "row", "row", "result"]
        assert [frame and frame["row"]["number"] for frame in frames[:3]] == [0, 1, 2]


async def test_a_stop_is_told_to_whom_it_concerns(serve: Serve):
    """Requests under way when the daemon stops are answered `unavailable`, and the socket is gone after it."""
    async with serve() as serving, serving.client() as client:
        await client.request("slow", id="s")
        await client.frame()
        serving.scope.cancel()
        refused: dict[str, Any] = {}
        with anyio.CancelScope(shield=True):
            refused = await client.final()
        assert (refused["id"], refused["error"]["code"]) == ("s", "unavailable")
        assert "same request id" in refused["error"]["remedy"]
    assert not serving.path.exists()
