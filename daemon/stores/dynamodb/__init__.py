"""The DynamoDB store: read-model rows, checkpoint and idempotency markers in one `TransactWriteItems`."""

from daemon.stores.dynamodb.connections import Connections
from daemon.stores.dynamodb.store import DynamoDbStore
from daemon.stores.dynamodb.tables import Care
from daemon.stores.dynamodb.tuning import Tuning

__all__ = ["Care", "Connections", "DynamoDbStore", "Tuning"]
