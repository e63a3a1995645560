from pathlib import Path

import pytest

from daemon.core.errors import SettingsProblem
from daemon.wire import aws_json
from daemon.wire.aws_access import AwsAccess, aws_session, is_test_endpoint
from daemon.wire.aws_json import NotSent, Service, Success
from tests.wire.raw_server import LOOPBACK_PEM, REGION, SECONDS, http, saying, serving

pytestmark = pytest.mark.anyio
KEYS = ("AKIDEXAMPLE", "secret", None)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No region, profile, endpoint or proxy comes from where the tests run."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE",
                 "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.mark.parametrize(
    ("service", "url"),
    [
        (aws_json.DYNAMODB, "https://dynamodb.eu-central-1.amazonaws.com/"),
        (aws_json.DYNAMODB_STREAMS, "https://streams.dynamodb.eu-central-1.amazonaws.com/"),
        (aws_json.SQS, "https://sqs.eu-central-1.amazonaws.com/"),
        (aws_json.KINESIS, "https://kinesis.eu-central-1.amazonaws.com/"),
        (aws_json.EVENTS, "https://events.eu-central-1.amazonaws.com/"),
    ],
    ids=lambda value: value.client if isinstance(value, Service) else "",
)
async def test_each_service_is_found_where_the_sdk_finds_it(service: Service, url: str):
    """Without an override, the endpoint is the SDK's for the session's region, and is AWS itself."""
    endpoint = await AwsAccess(aws_session(region=REGION, keys=KEYS)).endpoint(service)
    assert (endpoint.url, endpoint.region, endpoint.test) == (url, REGION, False)


@pytest.mark.parametrize(
    "service", [aws_json.DYNAMODB, aws_json.DYNAMODB_STREAMS, aws_json.SQS, aws_json.KINESIS, aws_json.EVENTS]
)
async def test_a_service_is_what_the_sdks_own_model_says(service: Service):
    """Names, target prefix and version are those of the SDK's model of the service."""
    async with aws_session(region=REGION, keys=KEYS).client(service.client) as client:
        model = client.meta.service_model
    told = (model.signing_name, model.metadata["targetPrefix"], model.metadata["jsonVersion"])
    assert told == (service.signing, service.target, service.version)


async def test_an_endpoint_from_the_environment_is_known_as_a_stand_in(monkeypatch: pytest.MonkeyPatch):
    """Where the environment points the SDK at a fake, the endpoint found is that fake, and says so."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:8000")
    endpoint = await AwsAccess(aws_session(region=REGION, keys=KEYS)).endpoint(aws_json.DYNAMODB)
    assert (endpoint.url, endpoint.test) == ("http://localhost:8000/", True)


async def test_the_region_of_the_setting_goes_before_the_sessions():
    """A region given here decides both the endpoint and the signature."""
    access = AwsAccess(aws_session(region=REGION, keys=KEYS), region="us-gov-west-1")
    endpoint = await access.endpoint(aws_json.DYNAMODB)
    assert (endpoint.url, endpoint.region) == ("https://dynamodb.us-gov-west-1.amazonaws.com/", "us-gov-west-1")


@pytest.mark.parametrize("url", [None, "http://localhost:8000"])
async def test_no_region_is_told_with_the_remedy(url: str | None):
    """Without any region there is neither an endpoint nor a signature: a settings problem."""
    with pytest.raises(SettingsProblem, match="region"):
        await AwsAccess(aws_session(keys=KEYS)).endpoint(aws_json.DYNAMODB, url)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://h", "http://", "http://u@h", "http://h?x=1", "http://h#x", "http://h:99999", "http://[::1"],
)  # fmt: skip
async def test_an_endpoint_that_cannot_be_one_is_refused(url: str):
    """What is no plain http(s) URL is a settings problem that shows it."""
    with pytest.raises(SettingsProblem, match="write https://host"):
        await AwsAccess(aws_session(region=REGION, keys=KEYS)).endpoint(aws_json.DYNAMODB, url)


async def test_an_unknown_profile_is_told():
    """A profile that is nowhere is a settings problem that names it."""
    with pytest.raises(SettingsProblem, match="'nobody'"):
        aws_session(profile="nobody")


@pytest.mark.parametrize(
    ("url", "test"),
    [
        ("https://dynamodb.eu-central-1.amazonaws.com", False),
        ("https://DynamoDB.eu-central-1.AmazonAWS.com.:443/", False),
        ("https://vpce-1-abc.dynamodb.us-east-1.vpce.amazonaws.com", False),
        ("https://dynamodb.eu-central-1.api.aws", False),
        ("https://dynamodb.cn-north-1.amazonaws.com.cn", False),
        ("https://dynamodb.us-iso-east-1.c2s.ic.gov", False),
        ("http://dynamodb.eu-central-1.amazonaws.com", True),
        ("http://localhost:8000", True),
        ("https://127.0.0.1", True),
        ("https://[::1]:8000", True),
        ("https://localhost.localstack.cloud:4566", True),
        ("https://amazonaws.com.example.org", True),
        ("https://notamazonaws.com", True),
        ("https://dynamodb@evil.example/.amazonaws.com", True),
        ("", True),
    ],
)
async def test_anything_but_aws_over_https_is_a_stand_in(url: str, test: bool):
    """Only https to a domain of an AWS partition is AWS; plain http, loopback and look-alikes are not."""
    assert is_test_endpoint(url) is test


async def test_keys_and_region_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    """A session of its own reads keys and region as the SDK does."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROMENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    async with serving(saying(http())) as server:
        access = AwsAccess(aws_session())
        client = access.client(await access.endpoint(aws_json.SQS, server.url))
        assert await client.call("ReceiveMessage", b"{}", SECONDS) == Success({}, 2)
        await access.aclose()
        (request,) = server.requests
    assert "Credential=FROMENV/" in request.headers["authorization"]
    assert "/eu-west-3/sqs/" in request.headers["authorization"]
    assert request.headers["x-amz-target"] == "AmazonSQS.ReceiveMessage"


async def test_calls_go_over_tls_to_who_is_trusted(monkeypatch: pytest.MonkeyPatch):
    """An https endpoint is called when its certificate is in the bundle given, or in the SDK's variable; else not."""
    async with serving(saying(http()), tls=True) as server:

        async def answer(access: AwsAccess) -> object:
            client = access.client(await access.endpoint(aws_json.DYNAMODB, server.url))
            try:
                return await client.call("GetItem", b"{}", SECONDS)
            finally:
                await access.aclose()

        session = aws_session(region=REGION, keys=KEYS)
        assert isinstance(await answer(AwsAccess(session)), NotSent)
        assert await answer(AwsAccess(session, ca_bundle=str(LOOPBACK_PEM))) == Success({}, 2)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(LOOPBACK_PEM))
        assert await answer(AwsAccess(session)) == Success({}, 2)
        with pytest.raises(SettingsProblem, match="name a PEM file"):
            await answer(AwsAccess(session, ca_bundle="/nowhere.pem"))


async def test_a_proxy_is_used_when_asked_for(monkeypatch: pytest.MonkeyPatch):
    """Only with proxies_from_env does the environment's proxy get the call, and not for hosts that it excepts."""
    async with serving(saying(http(b'"proxy"'))) as proxy, serving(saying(http(b'"direct"'))) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        for asked, excepted, expected in ((True, "", "proxy"), (True, "127.0.0.1", "direct"), (False, "", "direct")):
            monkeypatch.setenv("no_proxy", excepted)
            access = AwsAccess(aws_session(region=REGION, keys=KEYS), proxies_from_env=asked)
            client = access.client(await access.endpoint(aws_json.DYNAMODB, server.url))
            assert await client.call("GetItem", b"{}", SECONDS) == Success(expected, len(expected) + 2)
            await access.aclose()
