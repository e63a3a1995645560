"""A broker that asks who is there: TLS, mutual TLS, SASL in its forms, from the settings on; and no secret is told."""

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.protocol.admin import CreateAclsRequest

from daemon.app import SystemClock
from daemon.assembly.sources import sources_of
from daemon.core.errors import SettingsProblem, SourceUnavailable
from daemon.core.positions import START
from daemon.demo.services.kafka import KafkaBroker
from daemon.settings import Settings, load_settings
from daemon.sources.kafka.source import KafkaSource
from tests.contracts.source_contract import drain, ids_of
from tests.support.kafka import a_hand

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

PASSWORD = "correct-horse-9"
KEY_PASSWORD = "battery-staple-7"
MODULES = "org.apache.kafka.common.security"
_TOPIC, _LITERAL, _READ, _ALLOW = 2, 3, 3, 3
"""Kafka's numbers for a kind of resource, a way to name it, an operation and a permission."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, the broker's certificate, and a client's whose key has a password."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    name = ("-subj", "/CN=projectiond-test")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", *name,
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    extensions = "subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    (folder / "extensions").write_text(extensions, encoding="utf-8")  # Python 3.13 insists on the identifiers
    for who in ("server", "client"):
        key = ("-nodes",) if who == "server" else ("-passout", f"pass:{KEY_PASSWORD}")
        openssl(
            "req", "-newkey", "rsa:2048", *key, "-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", f"/CN={who}"
        )
        sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions")
        openssl("x509", "-req", "-in", f"{who}.csr", *sign, "-out", f"{who}.pem")
    both = (folder / "server.key").read_text(encoding="utf-8") + (folder / "server.pem").read_text(encoding="utf-8")
    (folder / "keystore.pem").write_text(both, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def broker(certificates: Path) -> Iterator[KafkaBroker]:
    """A broker with a listener for each way in."""
    listeners = {"TLS": "SSL", "MTLS": "SSL", "SASL": "SASL_PLAINTEXT", "SASLTLS": "SASL_SSL"}
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "keystore.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.pem"),
        "listener.name.mtls.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "super.users": "User:ANONYMOUS",
    }
    for listener in ("sasl", "sasltls"):
        begin = f"listener.name.{listener}"
        properties[f"{begin}.plain.sasl.jaas.config"] = (
            f'{MODULES}.plain.PlainLoginModule required user_alice="{PASSWORD}";'
        )
        for size in ("256", "512"):
            module = f"{MODULES}.scram.ScramLoginModule required;"
            properties[f"{begin}.scram-sha-{size}.sasl.jaas.config"] = module
    with KafkaBroker(extra_properties=properties, listeners=listeners) as broker:
        for size in ("256", "512"):
            words = ["--alter", "--entity-type", "users", "--entity-name", "alice"]
            config = f"SCRAM-SHA-{size}=[password={PASSWORD}]"
            command = [*broker._java(), "kafka.admin.ConfigCommand", "--bootstrap-server", broker.bootstrap, *words]
            subprocess.run(
                [*command, "--add-config", config],
                check=True,
                capture_output=True,
                timeout=60,
                env=dict(broker.environment()),
            )
        yield broker


SASL = 'username = "alice"\npassword = {{ env = "KAFKA_PASSWORD" }}\n'
TLS = 'protocol = "tls"\nca_file = "{c}/ca.pem"\n'
CLIENT = 'certificate_file = "{c}/client.pem"\nkey_file = "{c}/client.key"\nkey_password = {{ env = "KEY_PASSWORD" }}\n'
WAYS = {
    "tls": ("TLS", TLS),
    "mutual-tls": ("MTLS", TLS + CLIENT),
    "plain": ("SASL", 'protocol = "sasl"\nmechanism = "plain"\n' + SASL),
    "scram-256": ("SASL", 'protocol = "sasl"\nmechanism = "scram-sha-256"\n' + SASL),
    "scram-512-tls": ("SASLTLS", 'protocol = "sasl-tls"\nca_file = "{c}/ca.pem"\n' + SASL),
}


def settings_of(folder: Path, servers: str, topic: str, security: str, password: str = PASSWORD) -> Settings:
    """Load settings with one source."""
    lines = ["[sources.log]", 'kind = "kafka"', f'servers = ["{servers}"]', f'topics = ["{topic}"]']
    lines += ["request_timeout_seconds = 5.0", "poll_interval_ms = 50", "[sources.log.security]", security]
    file = folder / "projectiond.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return load_settings(file, {"KAFKA_PASSWORD": password, "KEY_PASSWORD": KEY_PASSWORD}).settings


@pytest.mark.parametrize("way", WAYS)
async def test_each_way_in_works(tmp_path: Path, broker: KafkaBroker, certificates: Path, way: str):
    """With the right credentials records are read, through questions and fetches alike."""
    listener, security = WAYS[way]
    async with a_hand(broker.bootstrap) as hand:
        await hand.write("e0")
        settings = settings_of(tmp_path, broker.bootstrap_of(listener), hand.topic, security.format(c=certificates))
        source = sources_of(settings, SystemClock())["log"]
        reader = await source.open(f"{hand.topic}-0", START, None)
        assert ids_of(await drain(reader, 1)) == ["e0"]
        await source.aclose()


async def test_settings_that_may_not_be_read_are_told(tmp_path: Path, broker: KafkaBroker, certificates: Path):
    """A user who may read a topic and not its settings: the log is read, and how long it keeps what waits is unknown,
    with the reason and the right that is missing, instead of "for ever".
    """
    listener, security = WAYS["plain"]
    async with a_hand(broker.bootstrap) as hand:
        await hand.write("e0")
        user, everywhere = "User:alice", "*"
        allowed = CreateAclsRequest(_TOPIC, hand.topic, _LITERAL, user, everywhere, _READ, _ALLOW)
        await hand.admin._send_to_controller(allowed)
        settings = settings_of(tmp_path, broker.bootstrap_of(listener), hand.topic, security.format(c=certificates))
        source = sources_of(settings, SystemClock())["log"]
        assert isinstance(source, KafkaSource)
        reader = await source.open(f"{hand.topic}-0", START, None)
        assert ids_of(await drain(reader, 1)) == ["e0"]
        backlog = await source.backlog(f"{hand.topic}-0", START)
        assert (backlog.events, backlog.seconds_to_loss) == (1, None)
        assert backlog.untold.startswith(f"the settings of topic {hand.topic!r} may not be read (")
        assert backlog.untold.endswith("; grant the user of source 'log' DescribeConfigs on it")
        assert list(await source.untold()) == [backlog.untold]
        await source.aclose()


async def test_what_is_refused_is_told_without_secrets(
    tmp_path: Path, broker: KafkaBroker, certificates: Path, caplog: pytest.LogCaptureFixture
):
    """A wrong password, a missing certificate and an unknown authority are errors that name no secret, in no log."""
    caplog.set_level(logging.DEBUG)
    wrong = "wrong-password-5"
    plain = WAYS["plain"][1].format(c=certificates)
    scram = WAYS["scram-256"][1].format(c=certificates)
    for listener, security in (
        ("SASL", plain),
        ("SASL", scram),
        ("MTLS", WAYS["tls"][1].format(c=certificates)),
        ("TLS", 'protocol = "tls"\n'),
    ):
        settings = settings_of(tmp_path, broker.bootstrap_of(listener), "any", security, password=wrong)
        source = sources_of(settings, SystemClock())["log"]
        with pytest.raises(SourceUnavailable, match="no broker of source 'log' answers") as refused:
            await source.shards()
        await source.aclose()
        told = f"{refused.value!r} {refused.value.__cause__!r} {source!r} {settings!r} {caplog.text}"
        assert wrong not in told
        assert KEY_PASSWORD not in told


async def test_a_key_without_its_password_is_a_settings_error(tmp_path: Path, certificates: Path):
    """Certificate files that do not fit are told before anything starts, naming files and no secret."""
    security = WAYS["mutual-tls"][1].format(c=certificates)
    lines = [line for line in security.splitlines() if "key_password" not in line]
    settings = settings_of(tmp_path, "127.0.0.1:1", "any", "\n".join(lines))
    with pytest.raises(SettingsProblem, match=r"sources.log.security: .*client.key cannot be used"):
        sources_of(settings, SystemClock())
