"""The compose file: valid, pinned, whole; its settings fold the demonstration on a real Kafka and a real Dynoxide."""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.demo.services.dynoxide import VERSION as DYNOXIDE
from daemon.demo.services.dynoxide import Dynoxide
from daemon.demo.services.kafka import VERSION as KAFKA
from daemon.demo.services.kafka import KafkaBroker
from daemon.settings import load_settings
from tests.docs.pages import Page
from tests.support.commands import COMMAND
from tests.support.daemons import PATIENCE_SECONDS, ROOT, SLICE

COMPOSE = ROOT / "deploy" / "compose"
FILE = COMPOSE / "compose.yaml"
DOCKERFILES = [ROOT / "Dockerfile", COMPOSE / "dynoxide" / "Dockerfile"]
PAGE = Page(ROOT / "docs" / "how-to" / "compose.md")
SERVER = "http://dynamodb:8000"
"""The service's address in its network."""
PINNED = r"[a-z/]+:v?\d+\.\d+\.\d+[a-z0-9-]*@sha256:[0-9a-f]{64}"
KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


def services() -> Mapping[str, dict[str, Any]]:
    """Give the services, by name."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PROJECTIOND", "AWS_"))}
    return subprocess.run(
        words,
        env=kept | KEYS | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        cwd=ROOT,
    )


def test_it_is_a_compose_file():
    """It holds to the schema of the format."""
    program = Path(sys.executable).with_name("check-jsonschema")
    done = run(str(program), "--builtin-schema", "vendor.compose-spec", str(FILE))
    assert done.returncode == 0, done.stdout


def test_every_version_is_pinned():
    """Each image names its version and digest; Kafka and Dynoxide are those that the tests run on."""
    images = {name: service["image"] for name, service in services().items()}
    for name, service in services().items():
        built = "build" in service
        assert built or re.fullmatch(PINNED, images[name]), images[name]
    assert images["kafka"].startswith(f"apache/kafka:{KAFKA}@")
    assert images["dynamodb"].endswith(f":{DYNOXIDE}")
    assert f"@{DYNOXIDE}" in (COMPOSE / "dynoxide" / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_every_image_that_is_built_upon_is_pinned(dockerfile: Path):
    """A Dockerfile builds upon nothing, its own stages, or an image named by version and digest."""
    text = dockerfile.read_text(encoding="utf-8")
    defaults = dict(re.findall(r"(?m)^ARG (\w+)=(\S+)$", text.partition("\nFROM ")[0]))
    stages = {"scratch", *re.findall(r"(?m)^FROM \S+ AS (\S+)$", text)}
    bases = {
        re.sub(r"\$\{(\w+)\}", lambda name: defaults[name[1]], base) for base in re.findall(r"(?m)^FROM (\S+)", text)
    }
    assert bases - stages
    assert [base for base in bases - stages if not re.fullmatch(PINNED, base)] == []


def test_what_it_mounts_and_builds_is_there():
    """Every file that is mounted exists, and every build's Dockerfile holds its target."""
    for service in services().values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (COMPOSE / source).exists(), volume
        build = service.get("build")
        if build:
            context, target = (build, None) if isinstance(build, str) else (build["context"], build.get("target"))
            dockerfile = (COMPOSE / context / "Dockerfile").read_text(encoding="utf-8")
            assert target is None or f" AS {target}\n" in dockerfile


def test_nothing_is_published_beyond_this_machine():
    """Every published port is on loopback: none of these services asks for a password."""
    ports = [port for service in services().values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_daemon_has_no_rights_and_time_to_drain():
    """It runs read-only and without capabilities, and is given longer to stop than it takes."""
    daemon = services()["daemon"]
    assert (daemon["read_only"], daemon["cap_drop"]) == (True, ["ALL"])
    settings = load_settings(COMPOSE / "projectiond.toml", {}).settings
    assert int(daemon["stop_grace_period"].rstrip("s")) > settings.daemon.grace_period_seconds


def test_its_settings_are_the_demonstration_s():
    """The same read models and envelopes as config/demo.toml, from Kafka instead of files."""
    ours = load_settings(COMPOSE / "projectiond.toml", {}).settings
    demo = load_settings(ROOT / "config" / "demo.toml", {}).settings
    assert ours.daemon.projections == demo.daemon.projections
    for name, source in demo.sources.items():
        assert (ours.sources[name].envelope, ours.sources[name].fields) == (source.envelope, source.fields)
        assert ours.sources[name].kind == "kafka"


def test_the_page_s_commands_name_what_is_there():
    """Each command of compose.md is one that Compose has, on services that the file has; what is executed within the
    daemon's is a command of ours, or is run on the rows below.
    """
    compose = argparse.ArgumentParser("docker compose")
    verbs = compose.add_subparsers(required=True)
    up, down, kill, execute = (verbs.add_parser(verb) for verb in ("up", "down", "kill", "exec"))
    for flag in ("--build", "--detach"):
        up.add_argument(flag, action="store_true")
    down.add_argument("--volumes", action="store_true", required=True)
    kill.add_argument("--signal", choices=["KILL"], required=True)
    for verb in (up, kill):
        verb.add_argument("services", nargs="*", choices=[*services(), []])
    execute.add_argument("service", choices=list(services()))
    execute.add_argument("words", nargs=argparse.REMAINDER)
    for docker, name, *words in PAGE.console():
        assert (docker, name) == ("docker", "compose")
        asked = compose.parse_args(words)
        program, *more = getattr(asked, "words", None) or ["none"]
        assert program in {"none", "python", "projectionctl"}
        if program == "projectionctl":
            done = run(str(Path(COMMAND).with_name(program)), *more, "--help")
            assert done.returncode == 0, done.stderr


@pytest.mark.timeout(600)
def test_its_settings_fold_the_demonstration(tmp_path: Path, kafka: KafkaBroker):
    """Fed as the service `feed` feeds, the daemon with the file's settings makes every row right; a second feed adds
    nothing, and one of other flights is refused.
    """
    feed = (sys.executable, "-m", "daemon.demo.feed", "--servers", kafka.bootstrap, "--csv", str(SLICE))
    fed = run(*feed)
    assert fed.returncode == 0, fed.stderr
    assert re.match(r"[1-9][\d,]+ lines written", fed.stdout)
    assert run(*feed).stdout.startswith("0 lines written")
    other = run(*feed, "--seed", "2")
    assert other.returncode == 1
    assert "delete them and feed again" in other.stderr
    servers = json.dumps([kafka.bootstrap])
    with Dynoxide(tmp_path / "rows.db") as dynamodb:
        folded = run(
            *(COMMAND, "run", "--once", "--json", "--config", str(COMPOSE / "projectiond.toml")),
            PROJECTIOND__SOURCES__FLIGHTS__SERVERS=servers,
            PROJECTIOND__SOURCES__MOVEMENTS__SERVERS=servers,
            PROJECTIOND__STORE__ENDPOINT_URL=dynamodb.endpoint,
            PROJECTIOND__METRICS__ENABLED="false",
        )
        assert folded.returncode == 0, folded.stderr[-3000:]
        where = ("--endpoint", dynamodb.endpoint, "--prefix", "demo", "--region", "us-east-1")
        checked = run(sys.executable, "-m", "daemon.demo.check_dynamodb", "--csv", str(SLICE), *where)
        assert checked.returncode == 0, checked.stdout
        (code,) = (words[-1] for words in PAGE.console() if "python" in words)
        shown = run(sys.executable, "-c", code.replace(SERVER, dynamodb.endpoint))
        assert re.fullmatch(r"(\w\w#2013-\d\d \d+ \d+\n){3}", shown.stdout), shown.stdout + shown.stderr
