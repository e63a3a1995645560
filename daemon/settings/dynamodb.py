"""The section of the DynamoDB store.

Owns each key's name, unit, limits, default and reason, as `daemon.settings.models` does for the rest; the same
invariants hold. There is no key for credentials: they come from the AWS SDK's own chain (environment, profile, role).
"""

from typing import Annotated, Literal

from pydantic import Field

from daemon.settings.base import Section, Text, matching

TablePrefix = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{1,175}",
        "what a table's name may begin with: 2 to 176 letters, digits, `_`, `-` and `.`",
        "choose one that tells this daemon's tables from all others of the account",
    ),
]

EndpointUrl = Annotated[
    str,
    matching(r"https?://[^\s/?#@]+(/[^\s?#]*)?", "an http(s) URL without user and query", "write https://host[:port]"),
]


USD_PER_MILLION_WRITE_UNITS_US_EAST_1_NOVEMBER_2024 = 0.625
USD_PER_MILLION_READ_UNITS_US_EAST_1_NOVEMBER_2024 = 0.125
"""On-demand prices of request units; a write in a transaction takes two of them for each KB, as capacity counts it."""


class DynamoDbStoreSettings(Section):
    """Where rows, checkpoints and markers are kept: DynamoDB tables. Credentials come from the AWS SDK's own chain."""

    kind: Literal["dynamodb"] = Field(default="dynamodb", description="The kind of store.")
    prefix: TablePrefix = Field(
        default="projectiond",
        description="What every table's name begins with: PREFIX-state, PREFIX-markers, PREFIX-effects, and a table "
        "PREFIX-PROJECTION-gNUMBER for the rows of each generation. Another prefix is another, empty store.",
    )
    region: Text | None = Field(
        default=None,
        examples=["eu-central-1"],
        description="The AWS region. Left out: the SDK's own (AWS_REGION, or the profile's).",
    )
    profile: Text | None = Field(
        default=None,
        examples=["read-models"],
        description="The profile of the SDK's files whose credentials are used. Left out: the SDK's own chain.",
    )
    endpoint_url: EndpointUrl | None = Field(
        default=None,
        examples=["http://127.0.0.1:8000"],
        description="Where requests go, instead of where the SDK would send them.",
    )
    allow_test_endpoint: bool = Field(
        default=False,
        description="Accepts an endpoint that is not AWS itself over https, whichever setting or variable "
        "(AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_DYNAMODB) named it: emulators lose rows that they acknowledged.",
    )
    ca_file: Text | None = Field(
        default=None,
        examples=["/etc/projectiond/ca.pem"],
        description="Certificates that the endpoint's one is checked against. Left out: the SDK's.",
    )
    proxy_from_environment: bool = Field(
        default=False,
        description="Sends requests through the proxy that HTTPS_PROXY or HTTP_PROXY names, but for NO_PROXY's hosts.",
    )
    commit_connections: int = Field(
        default=32,
        ge=1,
        le=1_000,
        description="Connections for commits alone. One shard has one commit in flight.",
    )
    read_connections: int = Field(
        default=16, ge=1, le=1_000, description="Connections for reading rows and markers alone."
    )
    lease_connections: int = Field(
        default=4,
        ge=1,
        le=1_000,
        description="Connections for checkpoints and tables alone, so that no lease is lost behind a queue of commits.",
    )
    connect_timeout_ms: int = Field(
        default=3_000,
        ge=50,
        le=60_000,
        description="How long one request may wait for a connection: a free one of its pool, or a new one.",
    )
    commit_request_seconds: float = Field(
        default=8.0,
        ge=1.0,
        le=300.0,
        description="How long one request of a commit may go without an answer before the same request is sent again. "
        "DynamoDB may need more than a second to recover a transaction.",
    )
    read_request_seconds: float = Field(
        default=5.0,
        ge=0.1,
        le=300.0,
        description="The same for a read, or a request about a checkpoint or a table.",
    )
    patience_seconds: float = Field(
        default=20.0,
        ge=0.0,
        le=3_600.0,
        description="How long reads and takes are tried again, with back-off, before their shard starts anew.",
    )
    create_tables: bool = Field(
        default=True,
        description="Lets a start make tables that are missing. Where it is off, `projectiond init` has to, under a "
        "role that may: a start then refuses a store that lacks one.",
    )
    billing: Literal["on-demand", "provisioned"] = Field(
        default="on-demand",
        description="How new tables are billed. An existing table keeps its own; `projectiond init` tells the "
        "difference.",
    )
    provisioned_read_units: int = Field(
        default=100, ge=1, le=1_000_000, description="Read units of each new table with provisioned billing."
    )
    provisioned_write_units: int = Field(
        default=100, ge=1, le=1_000_000, description="Write units of each new table with provisioned billing."
    )
    point_in_time_recovery: bool = Field(
        default=False,
        description="Continuous backups of the tables: switched on where they are off, never off.",
    )
    deletion_protection: bool = Field(
        default=False,
        description="Protects the tables against being deleted: switched on where it is off, never off.",
    )
    write_budget_units: float | None = Field(
        default=None,
        ge=1.0,
        le=1_000_000.0,
        examples=[500.0],
        description="Write units a second that each projection may consume in each process: beyond it the projection "
        "slows down, instead of being throttled together with everybody on the table.",
    )
    usd_per_million_write_units: float = Field(
        default=USD_PER_MILLION_WRITE_UNITS_US_EAST_1_NOVEMBER_2024,
        ge=0.0,
        le=1_000.0,
        description="What `projectiond check` and `run` reckon with. The default is on-demand in us-east-1 as of "
        "November 2024; other regions and provisioned tables differ.",
    )
    usd_per_million_read_units: float = Field(
        default=USD_PER_MILLION_READ_UNITS_US_EAST_1_NOVEMBER_2024,
        ge=0.0,
        le=1_000.0,
        description="The same for read units.",
    )
