from datetime import UTC, datetime, timedelta
from typing import Any, cast
from unittest.mock import patch

import pytest
from botocore.auth import SigV4Auth  # pyright: ignore[reportMissingTypeStubs]
from botocore.awsrequest import AWSRequest  # pyright: ignore[reportMissingTypeStubs]
from botocore.credentials import ReadOnlyCredentials  # pyright: ignore[reportMissingTypeStubs]
from hypothesis import given
from hypothesis import strategies as st

from daemon.wire.aws_json import DYNAMODB, DYNAMODB_STREAMS, EVENTS, KINESIS, SQS, Service
from daemon.wire.aws_signing import CallSigner

DEFAULT_PORTS = {"http": ":80", "https": ":443"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
services = st.sampled_from([DYNAMODB, DYNAMODB_STREAMS, EVENTS, KINESIS, SQS])
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
keys = st.builds(ReadOnlyCredentials, printable, st.text(min_size=1, max_size=40), st.none() | printable)
hosts = st.sampled_from(["dynamodb.eu-central-1.amazonaws.com", "localhost", "127.0.0.1", "[::1]", "Mixed.Example.COM"])
ports = st.sampled_from(["", ":80", ":443", ":8000"])
paths = st.sampled_from(["/", "/prefix/", "/a b/", "/~x/%20/", "/é/", "/a/../b/", "//"])
urls = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https"]), hosts, ports, paths)
operations = st.text("ABCXYZabcxyz", min_size=1, max_size=30)
calls = st.lists(
    st.tuples(operations, st.binary(min_size=1, max_size=200), st.integers(0, 4_000_000_000)), min_size=1, max_size=4
)


def stock(keys: ReadOnlyCredentials, service: Service, region: str, url: str, operation: str, body: bytes, now: int):
    """The headers that botocore's own signer leaves on the same request."""
    request = AWSRequest("POST", url, data=body, headers={
        "Content-Type": f"application/x-amz-json-{service.version}",
        "X-Amz-Target": f"{service.target}.{operation}",
    })  # fmt: skip
    moment = (EPOCH + timedelta(seconds=now)).replace(tzinfo=None)
    with patch("botocore.auth.get_current_datetime", return_value=moment):
        cast("Any", SigV4Auth(keys, service.signing, region)).add_auth(request)
    return dict(request.headers.items())


@given(keys, services, st.sampled_from(["eu-central-1", "us-gov-west-1"]), urls, calls)
def test_signatures_are_botocores_own(
    keys: ReadOnlyCredentials, service: Service, region: str, url: str, calls: list[tuple[str, bytes, int]]
):
    """Whatever keys, service and URL, and the calls signed before, each header is the stock signer's, byte for byte."""
    signer = CallSigner(keys, service, region, url)
    for operation, body, now in calls:
        ours = signer.headers(operation, body, now + 0.75)
        host = ours.pop("Host")
        assert ours == stock(keys, service, region, url, operation, body, now)
        assert host == url.split("/")[2].lower().removesuffix(DEFAULT_PORTS[url.split(":", maxsplit=1)[0]])


def test_the_days_key_is_derived_anew_after_midnight():
    """A signer that lives over midnight UTC signs under the new day, and under the old one again if clocks go back."""
    keys = ReadOnlyCredentials("AKID", "secret", "token")
    url = "https://dynamodb.eu-central-1.amazonaws.com/"
    signer = CallSigner(keys, DYNAMODB, "eu-central-1", url)
    midnight = 1_772_409_600
    for now in (midnight - 1, midnight, midnight + 1, midnight - 1):
        ours = signer.headers("GetItem", b"{}", now)
        assert (
            ours["Authorization"] == stock(keys, DYNAMODB, "eu-central-1", url, "GetItem", b"{}", now)["Authorization"]
        )


@pytest.mark.parametrize("wrong", ["a\nb", "a\r\nX-Injected: 1", "schlüssel", "a\0b"])
def test_keys_that_no_header_carries_are_refused(wrong: str):
    """A line break or a foreign letter in a key or token is told at once, without showing it."""
    for keys in (ReadOnlyCredentials(wrong, "secret", None), ReadOnlyCredentials("AKID", "secret", wrong)):
        with pytest.raises(ValueError, match="no HTTP header can carry") as caught:
            CallSigner(keys, DYNAMODB, "eu-central-1", "https://localhost/")
        assert wrong not in str(caught.value)
