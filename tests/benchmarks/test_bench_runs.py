from pathlib import Path
from types import NoneType
from typing import Any

import orjson
import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks.figures import TINY, figure

SHAPE: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "value": (float, int),
    "unit": (str,),
    "baseline": (float, int, NoneType),
    "ratio": (float, int, NoneType),
    "goal": (str, NoneType),
    "holds": (bool, NoneType),
}


@pytest.fixture(name="written")
def written_by_a_tiny_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What one tiny run wrote."""
    monkeypatch.setattr(command, "QUICK", TINY)
    monkeypatch.setattr(command, "tune_collector", lambda: None)  # it would last longer than this test
    command.main(["--quick", "--out", str(tmp_path / "build" / "bench.json")])
    return orjson.loads((tmp_path / "build" / "bench.json").read_bytes())


def test_every_figure_has_its_shape_and_is_compared_with_its_goal(written: dict[str, Any]):
    """`--quick` takes every figure, and writes each with value, unit, baseline, ratio, goal and whether it holds."""
    assert written.keys() == {"machine", "python", "packages", "commit", "figures"}
    assert written["machine"].keys() == {"cpu", "cores", "load"}
    figures = written["figures"]
    for each in figures:
        assert each.keys() == SHAPE.keys()
        assert all(isinstance(each[name], types) for name, types in SHAPE.items()), each
        assert each["value"] != 0, each
        assert (each["baseline"] is None) == (each["ratio"] is None)
        assert (each["goal"] is None) == (each["holds"] is None)
    assert [each["goal"] for each in figures if each["goal"]] == [
        "ratio <= 2.5",
        "ratio <= 4",
        "ratio >= 0.4",
        "value <= 200",
        "value <= 128",
        "ratio <= 1.3",
        "ratio <= 0.1",
        "ratio <= 0.2",
        "ratio >= 40",
        "ratio >= 5",
        "ratio >= 5",
        "ratio >= 0.8",
        "ratio >= 0.8",
        "value <= 0.15",
        "value <= 2.2",
        "value <= 0.15",
        "ratio >= 3",
        "ratio >= 1.5",
        "ratio >= 1.5",
        "value <= 1",
        "ratio <= 1.05",
        "ratio <= 1.05",
        "ratio >= 3",
        "value >= 100",
        "value <= 15",
        "value <= 15",
        "value <= 20",
        "value <= 20",
    ]


def test_a_goal_is_met_at_its_limit_and_missed_beyond_it():
    """A goal holds on its own side of the limit, the limit included, for ratios and for values."""
    assert figure("f", 5.0, "µs", baseline=2.0, goal="ratio <= 2.5").holds is True
    assert figure("f", 5.1, "µs", baseline=2.0, goal="ratio <= 2.5").holds is False
    assert figure("f", 0.39, "events/s", baseline=1.0, goal="ratio >= 0.4").holds is False
    assert figure("f", 201.0, "KB", goal="value <= 200").holds is False
