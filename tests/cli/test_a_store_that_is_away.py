"""A daemon whose store is away when it starts: it can be asked what is the matter, and goes on by itself."""

import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from daemon.demo.services.dynoxide import Dynoxide
from tests.cli.test_a_daemon_is_asked_how_it_is import OPEN, Asked
from tests.support.commands import Workplace

_BLOCK_BYTES = 65_536


class Address:
    """An address that is ours, at which nobody answers until the store is there."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # bound and not listened at: the kernel refuses every connection
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._open: list[socket.socket] = [self._socket]

    def answer_for(self, endpoint: str) -> None:
        """Have the service at `endpoint` answer here from now on."""
        there = urlsplit(endpoint)
        self._socket.listen(128)
        threading.Thread(target=self._accept, args=((there.hostname, there.port),), daemon=True).start()

    def _accept(self, there: tuple[str, int]) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.create_connection(there)
                self._open += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while block := one.recv(_BLOCK_BYTES):
            other.sendall(block)
        other.shutdown(socket.SHUT_WR)


@contextmanager
def an_address() -> Generator[Address]:
    """Give an address, and close it."""
    address = Address()
    try:
        yield address
    finally:
        address.close()


def test_a_store_that_is_away_is_told_wherever_one_asks(shop: Workplace, dynoxide: Dynoxide, table_prefix: str):
    """From the first failed try on: alive, not started, not ready and why, with the address; commands are refused with
    the same words; the log has a line. Once the store answers, the daemon folds, and commands are carried out.
    """
    shop.replace("projectiond.toml", 'path = "var/shop.db"', f'kind = "dynamodb"\nprefix = "{table_prefix}"')
    shop.replace("projectiond.toml", "[daemon]", '[control]\npath = "run/control.sock"\n\n[daemon]')
    shop.append(("e1", "OrderPlaced", {"order_id": "a", "total": 1}))
    with an_address() as address:
        there = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_REGION": "us-east-1"}
        there |= {
            "PROJECTIOND__STORE__ENDPOINT_URL": address.endpoint,
            "PROJECTIOND__STORE__ALLOW_TEST_ENDPOINT": "true",
            "PROJECTIOND__STORE__PATIENCE_SECONDS": "600",  # what is told at once is not what patience ends with
        }
        with shop.running("run", **OPEN, **there) as daemon:
            asked = Asked(daemon)
            told = daemon.wait_for_log(event="the store is away; waiting for it")
            assert told["attempt"] == 1
            assert told["store"] == f"DynamoDB at {address.endpoint}"
            assert asked.get("/healthz") == (200, "ok\n")
            status, reason = asked.get("/readyz")
            assert (status, asked.get("/startupz")[0]) == (503, 503)
            assert f"the store is not reachable: DynamoDB at {address.endpoint}: DynamoDB does not answer" in reason
            assert not asked.detail()["store"]["reachable"]
            assert "projectiond_store_up 0\n" in asked.get("/metrics")[1]
            for words in (("status",), ("lag",), ("pause", "order-summary")):
                refused = shop.ctl(*words, "--json")
                assert refused.code == 5, refused.err
                error = refused.document["error"]
                assert error["code"] == "unavailable"
                assert f"its store (DynamoDB at {address.endpoint}) has not answered since" in error["reason"]
                assert "goes on by itself" in error["remedy"]
            address.answer_for(dynoxide.endpoint)
            assert asked.until("/readyz", 200) == "ok\n"
            assert asked.get("/startupz")[0] == 200
            assert "projectiond_store_up 1\n" in asked.get("/metrics")[1]
            assert shop.ctl("status").code == 0
            ended = daemon.end(signal.SIGTERM)
        assert ended.code == 0, ended.err
        assert "the store that was awaited answers" in ended.err
