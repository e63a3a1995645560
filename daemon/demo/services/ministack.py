"""MiniStack: a second, independent DynamoDB, and SQS and EventBridge, all in memory.

Owns where it is installed (an environment of its own, since it pins what the daemon pins otherwise) and how it is
started. Must not know what is stored.
"""

import shutil
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path

from daemon.demo.services.cache import ServiceMissing
from daemon.demo.services.ports import LOOPBACK
from daemon.demo.services.service import Service, ServiceFailed, answers_http

ENVIRONMENT = Path(__file__).parents[3] / ".venv-ministack"
"""Where `make` installs it, in a checkout."""
_RESET_SECONDS = 10.0


def ministack_program() -> Path:
    """Return its path: of the checkout's environment, else of the path. Raises ServiceMissing."""
    program = ENVIRONMENT / "bin" / "ministack"
    if program.exists():
        return program
    found = shutil.which("ministack")
    if found:
        return Path(found)
    raise ServiceMissing(
        f"MiniStack is neither at {program} nor on the PATH; install it: `make services` in a checkout, else "
        "`pip install ministack` into an environment of its own"
    )


class Ministack(Service):
    """One MiniStack. Nothing outlives its process."""

    name = "ministack"

    def command(self) -> Sequence[str]:
        """Return how to start it."""
        return [str(ministack_program())]

    def environment(self) -> Mapping[str, str]:
        """Return the environment that it runs in, which is where its settings are."""
        ours = {"BIND_HOST": LOOPBACK, "GATEWAY_PORT": str(self.port.number), "PYTHONUNBUFFERED": "1"}
        return {**super().environment(), **ours, "TMPDIR": str(self.directory)}

    def answers(self) -> bool:
        """Tell whether it answers."""
        return answers_http(self.port.number)

    def reset(self) -> None:
        """Forget everything stored. Raises ServiceFailed."""
        connection = HTTPConnection(LOOPBACK, self.port.number, timeout=_RESET_SECONDS)
        try:
            connection.request("POST", "/_ministack/reset")
            status = connection.getresponse().status
        except OSError as error:
            raise ServiceFailed(f"MiniStack on {self.address} does not answer ({error}); start it again") from error
        finally:
            connection.close()
        if status != 200:  # noqa: PLR2004 - HTTP's own number
            raise ServiceFailed(f"MiniStack on {self.address} answered {status} to a reset; start it again")
