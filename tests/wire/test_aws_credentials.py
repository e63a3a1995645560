import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from aiobotocore.credentials import AioRefreshableCredentials  # pyright: ignore[reportMissingTypeStubs]
from botocore.credentials import ReadOnlyCredentials  # pyright: ignore[reportMissingTypeStubs]

from daemon.wire.aws_credentials import LOOK_AGAIN_SECONDS, RENEW_AGAIN_SECONDS, Credentials, SessionCredentials
from daemon.wire.aws_json import Answer, Failure, NotSent, Success
from tests.wire.raw_server import SECONDS, Reply, Request, calling, fixed_keys, http, saying, serving, turning

pytestmark = pytest.mark.anyio
BODY = b'{"ClientRequestToken":"token-1"}'
EXPIRED = http(b'{"__type":"com.amazon.coral.service#ExpiredTokenException","message":"expired"}', 400)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that the daemon may run on."""
    return "asyncio", {"use_uvloop": request.param}


class FakeSession:
    """A session whose credentials, or the error of finding them, are given."""

    def __init__(self, found: SessionCredentials | Exception | None) -> None:
        self.found = found
        self.asked: int = 0

    async def get_credentials(self) -> SessionCredentials | None:
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Numbered:
    """Credentials that count how often they are read, and are equal for as long as `number` stays."""

    def __init__(self) -> None:
        self.number = 0
        self.reads = 0

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        self.reads += 1
        return ReadOnlyCredentials(f"KEY{self.number}", "secret", None)


type Fetch = Callable[[], Awaitable[dict[str, str]]]


def fetched(number: int) -> dict[str, str]:
    """What a provider answers: keys for a day."""
    end = datetime.now(UTC) + timedelta(days=1)
    return {"access_key": f"KEY{number}", "secret_key": "s", "token": "t", "expiry_time": end.isoformat()}


def counting(log: list[int]) -> Fetch:
    """A provider of KEY1, KEY2, ..."""

    async def fetch() -> dict[str, str]:
        log.append(len(log) + 1)
        return fetched(log[-1])

    return fetch


def refreshable(fetch: Fetch, life: timedelta = timedelta(days=1)) -> SessionCredentials:
    """The SDK's own temporary credentials, beginning with KEY0."""
    return AioRefreshableCredentials("KEY0", "s", "t", datetime.now(UTC) + life, fetch, "test")


def taking(*accepted: str) -> Reply:
    """Refuse every key but these as expired."""

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http() if key_of(request) in accepted else EXPIRED)

    return reply


def key_of(request: Request) -> str:
    """The key that a request was signed with."""
    return request.headers["authorization"].partition("Credential=")[2].partition("/")[0]


async def called(reply: Reply, credentials: Credentials, times: int = 1) -> tuple[Answer, list[str]]:
    """The last answer of so many calls, and the key of each request."""
    async with serving(reply) as server, calling(server.url, credentials=credentials) as client:
        answers = [await client.call("TransactWriteItems", BODY, SECONDS) for _ in range(times)]
        assert {request.body for request in server.requests} <= {BODY}
        return answers[-1], [key_of(request) for request in server.requests]


async def test_calls_do_not_read_credentials():
    """A hundred calls within the interval read the session once; the first one after it starts one more reading."""
    keys, now = Numbered(), [0.0]
    session = FakeSession(keys)
    credentials = Credentials(session, lambda: now[0])
    answer, _ = await called(saying(http()), credentials, times=100)
    assert (answer, session.asked, keys.reads) == (Success({}, 2), 1, 1)
    credentials = Credentials(session, lambda: now[0])
    first = await credentials.fetched()
    now[0] += LOOK_AGAIN_SECONDS
    assert credentials.at_hand() is credentials.at_hand() is first
    await turning(lambda: keys.reads == 3)
    assert credentials.at_hand() is first, "equal keys stay the same object, for which signers are kept"


async def test_keys_near_their_end_are_renewed_behind_the_calls():
    """While new keys are fetched, calls go on with the old; once they are there, calls take the new."""
    gate, now = asyncio.Event(), [0.0]

    async def fetch() -> dict[str, str]:
        await gate.wait()
        return fetched(1)

    source = refreshable(fetch, timedelta(minutes=20))
    credentials = Credentials(FakeSession(source), lambda: now[0])
    async with serving(taking("KEY0", "KEY1")) as server, calling(server.url, credentials=credentials) as client:
        await client.call("GetItem", BODY, SECONDS)
        source._expiry_time = datetime.now(UTC) + timedelta(minutes=5)  # pyright: ignore[reportAttributeAccessIssue]
        now[0] += LOOK_AGAIN_SECONDS
        for _ in range(3):
            await client.call("GetItem", BODY, SECONDS)
        gate.set()
        await turning(lambda: credentials.at_hand() != ReadOnlyCredentials("KEY0", "s", "t"))
        await client.call("GetItem", BODY, SECONDS)
        assert [key_of(request) for request in server.requests] == ["KEY0"] * 4 + ["KEY1"]


async def test_a_provider_that_is_away_leaves_the_old_keys():
    """When a reading behind the calls fails, calls go on under the keys at hand, and it is tried again later."""
    keys, now = Numbered(), [0.0]
    session = FakeSession(keys)
    credentials = Credentials(session, lambda: now[0])
    first = await credentials.fetched()

    async def broken() -> ReadOnlyCredentials:
        keys.reads += 1
        raise OSError("metadata service away")

    keys.get_frozen_credentials = broken
    for reads in (2, 3):
        now[0] += LOOK_AGAIN_SECONDS
        assert credentials.at_hand() is first
        await turning(lambda reads=reads: keys.reads == reads)
        await asyncio.sleep(0)
    assert credentials.at_hand() is first


@pytest.mark.parametrize(
    "code", ["ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId"]
)
async def test_refused_keys_are_renewed_and_the_same_body_signed_again(code: str):
    """When the service refuses the keys, new ones are fetched once and the same bytes go out under them."""
    log: list[int] = []
    refusal = http(b'{"__type":"x#%s"}' % code.encode(), 400)
    answer, keys = await called(saying(refusal, http()), Credentials(FakeSession(refreshable(counting(log)))))
    assert (answer, keys, log) == (Success({}, 2), ["KEY0", "KEY1"], [1])


async def test_keys_refused_again_are_a_failure_and_not_renewed_at_once():
    """New keys that are refused too end the call as the service's Failure; the next renewal waits its time."""
    log: list[int] = []
    now = [100.0]
    credentials = Credentials(FakeSession(refreshable(counting(log))), lambda: now[0])
    async with serving(taking()) as server, calling(server.url, credentials=credentials) as client:
        for _ in range(3):
            answer = await client.call("GetItem", BODY, SECONDS)
            assert isinstance(answer, Failure)
            assert (answer.code, answer.message) == ("ExpiredTokenException", "expired")
        assert [key_of(request) for request in server.requests] == ["KEY0", "KEY1", "KEY1", "KEY1"]
        now[0] += RENEW_AGAIN_SECONDS
        await client.call("GetItem", BODY, SECONDS)
        assert log == [1, 2]


async def test_keys_that_cannot_be_renewed_are_a_failure():
    """Keys given once and for all are not renewed: one request, the service's Failure."""
    answer, keys = await called(taking(), fixed_keys())
    assert isinstance(answer, Failure)
    assert keys == ["AKIDEXAMPLE"]


async def test_a_failed_renewal_is_told_with_the_refusal():
    """When no new keys can be had, the Failure is the service's and says why."""

    async def fetch() -> dict[str, str]:
        raise OSError("metadata service away")

    answer, keys = await called(taking(), Credentials(FakeSession(refreshable(fetch))))
    assert isinstance(answer, Failure)
    assert answer.message == "expired; renewing the credentials failed: OSError: metadata service away"
    assert keys == ["KEY0"]


async def test_many_refused_calls_share_one_renewal():
    """Calls that are refused together wait for the same new keys."""
    log: list[int] = []
    credentials = Credentials(FakeSession(refreshable(counting(log))))
    async with serving(taking("KEY1")) as server, calling(server.url, credentials=credentials) as client:
        answers = await asyncio.gather(*(client.call("GetItem", BODY, SECONDS) for _ in range(8)))
        assert answers == [Success({}, 2)] * 8
        assert log == [1]


async def test_a_late_refusal_of_old_keys_renews_nothing():
    """A call refused under keys that others have replaced meanwhile gets the keys at hand, however late."""
    log: list[int] = []
    now = [100.0]
    credentials = Credentials(FakeSession(refreshable(counting(log))), lambda: now[0])
    old = await credentials.fetched()
    new = await credentials.renewed(old)
    now[0] += RENEW_AGAIN_SECONDS
    assert await credentials.renewed(old) is new is not old
    assert log == [1]
    await credentials.aclose()


async def test_a_deadline_ends_a_wait_for_new_keys_but_not_their_fetching():
    """A call whose deadline passes during the renewal returns the refusal; the renewal goes on for the next call."""
    gate = asyncio.Event()

    async def fetch() -> dict[str, str]:
        await gate.wait()
        return fetched(1)

    credentials = Credentials(FakeSession(refreshable(fetch)))
    async with serving(taking("KEY1")) as server, calling(server.url, credentials=credentials) as client:
        answer = await client.call("GetItem", BODY, 1)
        assert isinstance(answer, Failure)
        gate.set()
        assert await client.call("GetItem", BODY, SECONDS) == Success({}, 2)


@pytest.mark.parametrize(
    ("found", "words"), [(None, "found none"), (OSError("metadata service away"), "OSError: metadata service away")]
)
async def test_without_credentials_nothing_is_sent(found: Exception | None, words: str):
    """No credentials anywhere, or an error in finding them, is NotSent and says so; later calls look again."""
    session = FakeSession(found)
    answer, keys = await called(saying(http()), Credentials(session), times=2)
    assert isinstance(answer, NotSent)
    assert words in answer.detail
    assert (keys, session.asked) == ([], 2)


async def test_a_deadline_ends_the_first_wait_but_not_the_reading():
    """A call that cannot wait for the first keys is NotSent; whoever comes later finds them."""
    gate, keys = asyncio.Event(), Numbered()

    class Slow(FakeSession):
        async def get_credentials(self) -> SessionCredentials | None:
            await gate.wait()
            return await super().get_credentials()

    session = Slow(keys)
    async with (
        serving(saying(http())) as server,
        calling(server.url, credentials=Credentials(session)) as client,
    ):
        assert isinstance(await client.call("GetItem", BODY, 0.02), NotSent)
        gate.set()
        assert await client.call("GetItem", BODY, SECONDS) == Success({}, 2)
        assert (session.asked, keys.reads, len(server.requests)) == (1, 1, 1)


async def test_closing_ends_a_reading():
    """Closing ends a reading of credentials that hangs: whoever waits for it is NotSent, and so is who comes later."""

    class Hanging(FakeSession):
        async def get_credentials(self) -> SessionCredentials | None:
            self.asked += 1
            await asyncio.Event().wait()
            return None

    session = Hanging(None)
    credentials = Credentials(session)
    async with calling("http://127.0.0.1:1/", credentials=credentials) as client:
        waiting = asyncio.create_task(client.call("GetItem", BODY, SECONDS))
        await turning(lambda: session.asked == 1)
        await credentials.aclose()
        for answer in (await waiting, await client.call("GetItem", BODY, SECONDS)):
            assert isinstance(answer, NotSent)
            assert "closed" in answer.detail


async def test_keys_that_no_header_carries_send_nothing():
    """A line break in a key is NotSent, and the key is not shown."""

    class Broken:
        async def get_frozen_credentials(self) -> ReadOnlyCredentials:
            return ReadOnlyCredentials("KEY\n", "secret", None)

    answer, keys = await called(saying(http()), Credentials(FakeSession(Broken())))
    assert isinstance(answer, NotSent)
    assert "no HTTP header can carry" in answer.detail
    assert keys == []
