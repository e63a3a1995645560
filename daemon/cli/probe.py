"""The image's health check: `python -m daemon.cli.probe` asks the daemon beside it whether it is alive.

Owns one question over HTTP, for an image without curl: `/healthz`, or the path given as the only argument. Imports the
standard library alone, so that it costs little every half minute. Must not know what is behind the answer.

Exit status: 0 for an answer of 200; 1 for any other, or none, with a line that says which. Where the daemon listens
comes from PROJECTIOND__METRICS__PORT and PROJECTIOND__METRICS__HOST, as for the daemon itself; a port that only the
settings file names has to be given there too.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

DEFAULT_PORT = 9464
SECONDS = 3.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


def main(words: list[str]) -> int:
    """Ask; return the exit status."""
    path = words[0] if words else "/healthz"
    host = os.environ.get("PROJECTIOND__METRICS__HOST", "127.0.0.1")
    port = os.environ.get("PROJECTIOND__METRICS__PORT", str(DEFAULT_PORT))
    try:
        connection = HTTPConnection(_EVERYWHERE.get(host, host), int(port), timeout=SECONDS)
        connection.request("GET", path)
        answer = connection.getresponse()
        said = f"{answer.status} {answer.read(200).decode(errors='replace').strip()}"
        healthy = answer.status == 200  # noqa: PLR2004 - HTTP's word for yes
    except (OSError, HTTPException, ValueError) as error:
        said, healthy = f"no answer ({error})", False
    sys.stdout.write(f"{path}: {said}\n")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
