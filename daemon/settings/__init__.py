"""Settings: read from a TOML file and the environment, checked as a whole, then never changed.

Owns every key of the daemon's settings, their checks and their errors. Must not know what the settings are used for,
nor start anything.

    models, engine   the sections: each key's name, unit, limits, default and reason
    root, checks     the whole, and the rules between keys
    kafka, dynamodb  the sections of Kafka sources, and of the DynamoDB store
    control          the section of the control socket
    telemetry        the sections that say how the daemon is seen
    kinds            every kind of source and store
    base, secret     what sections are made of
    shape            the walk over the models that the following share
    environment      PROJECTIOND__ variables
    explain          pydantic's errors told as problems
    loading          file, environment and models in one
    reference        config/reference.toml, written from the models
"""

from daemon.settings.control import ControlSettings
from daemon.settings.dynamodb import DynamoDbStoreSettings
from daemon.settings.engine import CircuitSettings, EngineSettings, RetrySettings
from daemon.settings.kafka import KafkaGroupSettings, KafkaSecuritySettings, KafkaSourceSettings
from daemon.settings.kinds import SourceSettings, StoreSettings
from daemon.settings.loading import EffectiveValue, LoadedSettings, load_settings
from daemon.settings.models import (
    CoordinationSettings,
    DaemonSettings,
    FieldMapSettings,
    FileSourceSettings,
    Late,
    LoggingSettings,
    OnError,
    ProjectionSettings,
    SqliteStoreSettings,
)
from daemon.settings.problems import Problem, SettingsError
from daemon.settings.root import EffectiveProjection, Settings
from daemon.settings.secret import Secret
from daemon.settings.telemetry import HealthSettings, MetricsSettings, TracingSettings

__all__ = [
    "CircuitSettings",
    "ControlSettings",
    "CoordinationSettings",
    "DaemonSettings",
    "DynamoDbStoreSettings",
    "EffectiveProjection",
    "EffectiveValue",
    "EngineSettings",
    "FieldMapSettings",
    "FileSourceSettings",
    "HealthSettings",
    "KafkaGroupSettings",
    "KafkaSecuritySettings",
    "KafkaSourceSettings",
    "Late",
    "LoadedSettings",
    "LoggingSettings",
    "MetricsSettings",
    "OnError",
    "Problem",
    "ProjectionSettings",
    "RetrySettings",
    "Secret",
    "Settings",
    "SettingsError",
    "SourceSettings",
    "SqliteStoreSettings",
    "StoreSettings",
    "TracingSettings",
    "load_settings",
]
