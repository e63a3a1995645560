"""The settings as a whole.

Owns the top level of the file and the values that follow from several sections. Must not know where values come from.

Invariant: a `Settings` that exists has passed every check, those between sections too.
"""

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from daemon.settings.base import Section, Table
from daemon.settings.checks import clashes
from daemon.settings.control import ControlSettings
from daemon.settings.engine import EngineSettings
from daemon.settings.kinds import SOURCE_KINDS, STORE_KINDS, SourceSettings, StoreSettings
from daemon.settings.models import (
    CoordinationSettings,
    DaemonSettings,
    Late,
    LoggingSettings,
    OnError,
    ProjectionSettings,
    SqliteStoreSettings,
)
from daemon.settings.telemetry import HealthSettings, MetricsSettings, TracingSettings

SECTIONS_CLASH = "sections_clash"
"""Type of the pydantic error that carries the clashes; its context holds them under `clashes`."""


@dataclass(frozen=True, slots=True)
class EffectiveProjection:
    """What holds for one projection once its overrides are laid over [engine] and [store].

    `on_error` None: as its code says. `write_budget_units`: write units a second, None for any number.
    """

    on_error: OnError | None
    batch_max_events: int
    linger_ms: int
    marker_window_ids: int
    marker_retention_days: int
    late: Late
    write_budget_units: float | None


class Settings(Section):
    """Every setting of the daemon."""

    daemon: DaemonSettings = DaemonSettings()
    store: Annotated[StoreSettings, STORE_KINDS] = SqliteStoreSettings()
    sources: Table[Annotated[SourceSettings, SOURCE_KINDS]] = Field(default_factory=dict)
    coordination: CoordinationSettings = CoordinationSettings()
    engine: EngineSettings = EngineSettings()
    control: ControlSettings = ControlSettings()
    logging: LoggingSettings = LoggingSettings()
    metrics: MetricsSettings = MetricsSettings()
    health: HealthSettings = HealthSettings()
    tracing: TracingSettings = TracingSettings()
    projections: Table[ProjectionSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        found = clashes(
            self.daemon,
            self.store,
            self.sources,
            self.coordination,
            self.engine,
            self.projections,
            control=self.control,
        )
        if found:
            summary = "; ".join(f"{clash.path}: expected {clash.expected}; {clash.remedy}" for clash in found)
            raise PydanticCustomError(SECTIONS_CLASH, "{summary}", {"summary": summary, "clashes": found})
        return self

    def for_projection(self, name: str) -> EffectiveProjection:
        """Lay the overrides of [projections.NAME], where there are any, over [engine]."""
        override = self.projections.get(name, ProjectionSettings())
        engine = self.engine

        def pick[T](own: T | None, general: T) -> T:
            return general if own is None else own

        return EffectiveProjection(
            on_error=override.on_error,
            batch_max_events=pick(override.batch_max_events, engine.batch_max_events),
            linger_ms=pick(override.linger_ms, engine.linger_ms),
            marker_window_ids=pick(override.marker_window_ids, engine.marker_window_ids),
            marker_retention_days=pick(override.marker_retention_days, engine.marker_retention_days),
            late=pick(override.late, engine.late),
            write_budget_units=pick(override.write_budget_units, getattr(self.store, "write_budget_units", None)),
        )
