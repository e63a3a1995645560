"""Hypothesis profiles: `ci` by default, `deep` by `HYPOTHESIS_PROFILE=deep`. Neither measures time."""

import os

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", max_examples=60, stateful_step_count=25, deadline=None, derandomize=True,
                          suppress_health_check=SLOW)  # fmt: skip
settings.register_profile("deep", max_examples=1000, stateful_step_count=60, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
