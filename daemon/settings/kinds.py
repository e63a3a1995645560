"""Which kinds of source and store there are: a new kind is one more class here."""

from daemon.settings.base import Kinds
from daemon.settings.dynamodb import DynamoDbStoreSettings
from daemon.settings.kafka import KafkaSourceSettings
from daemon.settings.models import FileSourceSettings, SqliteStoreSettings

SOURCE_KINDS = Kinds((FileSourceSettings, KafkaSourceSettings))
type SourceSettings = FileSourceSettings | KafkaSourceSettings

STORE_KINDS = Kinds((SqliteStoreSettings, DynamoDbStoreSettings))
type StoreSettings = SqliteStoreSettings | DynamoDbStoreSettings
