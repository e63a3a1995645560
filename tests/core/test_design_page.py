"""DESIGN.md says what the code says."""

from pathlib import Path

from daemon.core.lifecycle import diagram

DESIGN = Path(__file__).parents[2] / "DESIGN.md"


def test_the_lifecycle_diagram_is_the_table() -> None:
    """The diagram in DESIGN.md is what the transition table generates (`python -m daemon.core.lifecycle`)."""
    assert f"```mermaid\n{diagram()}\n```" in DESIGN.read_text(encoding="utf-8")


def test_the_map_names_every_package() -> None:
    """Every package and module right below daemon/ has a place in the map."""
    text = DESIGN.read_text(encoding="utf-8")
    root = Path(__file__).parents[2] / "daemon"
    rooms = [path for path in root.iterdir() if path.name[0].isalpha() and (path / "__init__.py").exists()]
    assert rooms
    assert [room.name for room in rooms if f"`daemon/{room.name}/`" not in text] == []
