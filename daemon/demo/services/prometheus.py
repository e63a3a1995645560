"""Prometheus: the real server that scrapes the daemon in tests, and `promtool`, which checks what it scrapes.

Owns fetching both and how the server is started. They are the distribution's own package (Debian, Ubuntu), taken from
the path where it is installed; else the package is downloaded by apt, which compares it with the signed index, and
unpacked into the cache: no rights are needed, and nothing of it is run but the two programs.

Must not know what is scraped.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from daemon.demo.services.cache import ServiceMissing, cache_directory, scratch
from daemon.demo.services.ports import LOOPBACK
from daemon.demo.services.service import Service, ServiceFailed

PACKAGE = "prometheus"
_APT_SECONDS = 300.0
_ANSWER_SECONDS = 10.0


def fetch_prometheus(say: Callable[[str], None] = lambda _: None) -> Path:
    """Return the directory that holds `prometheus` and `promtool`, fetching them once. Raises ServiceMissing."""
    installed = shutil.which("prometheus")
    if installed and shutil.which("promtool"):
        return Path(installed).parent
    kept = cache_directory() / PACKAGE
    programs = kept / "usr" / "bin"
    if not (programs / "promtool").is_file():
        say("fetching prometheus")
        with scratch() as place:
            unpacked = place / PACKAGE
            _run(["dpkg-deb", "--extract", str(_download(place)), str(unpacked)], place)
            try:
                unpacked.rename(kept)
            except OSError:
                if not (programs / "promtool").is_file():  # else another process was faster
                    raise
    return programs


def _download(place: Path) -> Path:
    """Download the package; with lists of our own where the machine has none (a container's are often removed)."""
    common = ["-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"]
    try:
        _run(["apt-get", *common, "download", PACKAGE], place)
    except ServiceMissing:
        for name in ("state/lists/partial", "cache/archives/partial"):
            (place / name).mkdir(parents=True)
        own = ["-o", f"Dir::State={place / 'state'}", "-o", f"Dir::Cache={place / 'cache'}"]
        own += ["-o", f"Dir::State::lists={place / 'state' / 'lists'}", "-o", "Dir::State::status=/var/lib/dpkg/status"]
        _run(["apt-get", *common, *own, "update"], place)
        _run(["apt-get", *common, *own, "download", PACKAGE], place)
    found = sorted(place.glob(f"{PACKAGE}_*.deb"))
    if not found:
        raise ServiceMissing(f"apt downloaded no {PACKAGE}; {_REMEDY}")
    return found[0]


_REMEDY = (
    "install Prometheus 2.42 or later with promtool, so that both are on the path (Debian, Ubuntu: "
    "apt-get install --no-install-recommends prometheus)"
)


def _run(command: Sequence[str], place: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=place,
            capture_output=True,
            text=True,
            timeout=_APT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceMissing(f"{command[0]} cannot fetch Prometheus ({error}); {_REMEDY}") from error
    if done.returncode:
        raise ServiceMissing(f"{command[0]} cannot fetch Prometheus ({done.stderr.strip()[-500:]}); {_REMEDY}")


class Prometheus(Service):
    """One Prometheus that scrapes `targets` (`host:port`) each `interval` seconds."""

    name = "prometheus"

    def __init__(self, targets: Sequence[str], interval: float = 1.0, directory: Path | None = None) -> None:
        """Reserve a port and start nothing."""
        super().__init__(directory)
        self.targets, self.interval = targets, interval

    def command(self) -> Sequence[str]:
        """Write what is to be scraped, and start the server without a console."""
        scrape = {"job_name": "projectiond", "static_configs": [{"targets": [*self.targets]}]}
        every = f"{self.interval * 1000:.0f}ms"
        settings = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "scrape_configs": [scrape],
        }
        (self.directory / "prometheus.yml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        return [
            str(fetch_prometheus() / "prometheus"),
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={self.address}",
            "--log.level=warn",
        ]

    def environment(self) -> Mapping[str, str]:
        """Go's runtime is held to two threads of work, so that tests beside it keep their pace."""
        return {**super().environment(), "GOMAXPROCS": os.environ.get("GOMAXPROCS", "2")}

    def answers(self) -> bool:
        """Tell whether it is ready."""
        try:
            return self._get("/-/ready")[0] == HTTPStatus.OK
        except (OSError, HTTPException):
            return False

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return what a PromQL expression comes to now: each series' labels and value.

        Raises ServiceFailed for one that is refused, OSError.
        """
        status, body = self._get(f"/api/v1/query?{urlencode({'query': expression})}")
        document: dict[str, Any] = json.loads(body)
        if status != HTTPStatus.OK:
            raise ServiceFailed(f"Prometheus refuses {expression!r}: {document.get('error')}")
        result = document["data"]["result"]
        if document["data"]["resultType"] == "scalar":
            return [({}, float(result[1]))]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def _get(self, path: str) -> tuple[int, bytes]:
        with closing(HTTPConnection(LOOPBACK, self.port.number, timeout=_ANSWER_SECONDS)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
