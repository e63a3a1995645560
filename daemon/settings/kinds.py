"""Which kinds of source there are: a new kind is one more class here."""

from daemon.settings.base import Kinds
from daemon.settings.kafka import KafkaSourceSettings
from daemon.settings.models import FileSourceSettings

SOURCE_KINDS = Kinds((FileSourceSettings, KafkaSourceSettings))
type SourceSettings = FileSourceSettings | KafkaSourceSettings
