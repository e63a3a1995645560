"""An AWS SDK client behind the four answers of `daemon.wire.aws_json`: for admin calls, seldom and of many shapes.

Owns the translation of the SDK's exceptions. Must not know what is called.

Invariant: as `AwsJson` has it: a call never raises for what network or service did, and the SDK's own repetitions stay
within its deadline.
"""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, cast

import anyio
import orjson
from botocore import xform_name  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
)

from daemon.wire.aws_json import Answer, Failure, NotSent, Silence, Success

_NOT_SENT = (ConnectTimeoutError, EndpointConnectionError, NoCredentialsError, ParamValidationError)


class SdkJson:
    """One SDK client, as `AwsJson`."""

    def __init__(self, client: Any, stack: AsyncExitStack) -> None:
        """Use `client` until `aclose` closes `stack`."""
        self._client = client
        self._stack = stack

    @classmethod
    async def opened(cls, making: AbstractAsyncContextManager[Any]) -> "SdkJson":
        """Make the client."""
        stack = AsyncExitStack()
        return cls(await stack.enter_async_context(making), stack)

    async def call(self, operation: str, body: bytes, deadline_seconds: float) -> Answer:
        """Make one call of the SDK's."""
        method = getattr(self._client, xform_name(operation))
        try:
            with anyio.fail_after(deadline_seconds):
                return Success(await method(**orjson.loads(body)), 0)
        except TimeoutError:
            return Silence(f"{operation}: no answer within the deadline of {deadline_seconds:g} s")
        except ClientError as error:
            response = cast("dict[str, Any]", error.response)
            told, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
            return Failure(meta.get("HTTPStatusCode", 400), told.get("Code", ""), told.get("Message", ""), response)
        except _NOT_SENT as error:
            return NotSent(f"{operation}: {error}")
        except BotoCoreError as error:
            return Silence(f"{operation}: {type(error).__name__}: {error}")

    async def aclose(self) -> None:
        """Close the client."""
        await self._stack.aclose()
