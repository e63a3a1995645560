"""The project's own strict DynamoDB server as a child process.

Owns how it is started. What it is strict about is `daemon.testing`'s; nothing of it is imported here.
"""

import sys
from collections.abc import Sequence

from daemon.demo.services.service import Service, answers_http


class StrictDynamoDB(Service):
    """One strict server. Nothing outlives its process."""

    name = "strict"

    def command(self) -> Sequence[str]:
        """Return how to start it."""
        return [sys.executable, "-P", "-m", "daemon.testing.dynamodb", "--port", str(self.port.number)]

    def answers(self) -> bool:
        """Tell whether it answers."""
        return answers_http(self.port.number)
