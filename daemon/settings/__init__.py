"""Settings: read from a TOML file and the environment, checked as a whole, then never changed.

Owns every key of the daemon's settings, their checks and their errors. Must not know what the settings are used for,
nor start anything.

    models, engine   the sections: each key's name, unit, limits, default and reason
    root, checks     the whole, and the rules between keys
    kafka, kinds     the sections of Kafka sources; every kind of source
    base, secret     what sections are made of
    shape            the walk over the models that the following share
    environment      PROJECTIOND__ variables
    explain          pydantic's errors told as problems
    loading          file, environment and models in one
    reference        config/reference.toml, written from the models
"""

from daemon.settings.engine import CircuitSettings, EngineSettings, RetrySettings
from daemon.settings.kafka import KafkaGroupSettings, KafkaSecuritySettings, KafkaSourceSettings
from daemon.settings.kinds import SourceSettings
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
    StoreSettings,
)
from daemon.settings.problems import Problem, SettingsError
from daemon.settings.root import EffectiveProjection, Settings
from daemon.settings.secret import Secret

__all__ = [
    "CircuitSettings",
    "CoordinationSettings",
    "DaemonSettings",
    "EffectiveProjection",
    "EffectiveValue",
    "EngineSettings",
    "FieldMapSettings",
    "FileSourceSettings",
    "KafkaGroupSettings",
    "KafkaSecuritySettings",
    "KafkaSourceSettings",
    "Late",
    "LoadedSettings",
    "LoggingSettings",
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
    "load_settings",
]
