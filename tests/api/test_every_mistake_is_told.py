"""Loading reports whatever is wrong with any projection, all together, each with file, line and remedy."""

from pathlib import Path
from textwrap import dedent

import pytest

from daemon.loading import ProjectionProblems, load_projections
from tests.api.conftest import HEADER, Refused, Write, marked_lines

FIVE = Path(__file__).with_name("five_mistakes.txt")

GOOD = """
@projection(name="orders", version=1, source="orders", key="data.id")
class Orders:
    @on("OrderPlaced")
    def placed(self, view, event): ...
"""


def test_five_mistakes_are_five_problems(write: Write):
    """A file with five mistakes shows five problems, each at its line, in the order of the file."""
    text = FIVE.read_text(encoding="utf-8")
    path = write("five_mistakes", "")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProjectionProblems) as caught:
        load_projections(["five_mistakes"], {"orders"})
    problems = caught.value.problems
    assert [problem.line for problem in problems] == marked_lines(text)
    assert {problem.file for problem in problems} == {str(path)}
    assert [problem.message for problem in problems] == [
        "name='Order Summary' is no name of a projection",
        "handler 'shipped' is async; it must be pure and never waits",
        "unknown source 'warehouse'; configured: orders",
        "handler 'counted' takes (self, event: daemon.core.events.Event)",
        "'payload.carrier' is no path into an event",
    ]
    listed = str(caught.value).splitlines()
    assert listed[0] == "5 problems in the projections"
    assert listed[1].startswith(f"  1. {path}:6: name='Order Summary'")
    assert all(problem.remedy in line for problem, line in zip(problems, listed[1:], strict=True))


def _with(options: str) -> str:
    return f"""
    from datetime import timedelta
    @projection({options})
    class Orders:
        @on("OrderPlaced")
        def placed(self, view, event): ...
    """


BASE = 'name="orders", version=1, source="orders", key="data.id"'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('name="1st", version=1, source="orders", key="data.id"', "name='1st' is no name"),
        (f'name="{"o" * 64}", version=1, source="orders", key="data.id"', "is no name"),
        ('name="orders", version=0, source="orders", key="data.id"', "version=0 is no version"),
        ('name="orders", version=True, source="orders", key="data.id"', "version=True is no version"),
        ('name="orders", version=1, source=(), key="data.id"', "source=() names no source"),
        ('name="orders", version=1, source=("orders", "orders"), key="data.id"', "names a source twice"),
        ('name="orders", version=1, source="orders", key=()', "key=() is no path"),
        ('name="orders", version=1, source="orders", key=7', "key=7 is no path"),
        ('name="orders", version=1, source="orders", key="data."', "'data.' is no path"),
        ('name="orders", version=1, source="orders", key="data..id"', "'data..id' is no path"),
        ('name="orders", version=1, source="orders", key=("id", "subject.x")', "'subject.x' is no path"),
        ('name="orders", version=1, source="orders", key=lambda: 1', "the key function cannot be called"),
        ('name="orders", version=1, source="orders"', "@projection: missing a required argument: 'key'"),
        (f"{BASE}, dedupe='event'", "@projection: got an unexpected keyword argument 'dedupe'"),
        (f"{BASE}, dedup='none'", "dedup='none' is not known"),
        (f"{BASE}, dedup='sequence'", 'dedup="sequence" has no path to the number'),
        (f"{BASE}, dedup='sequence', sequence='seq'", "sequence='seq' is no path into the payload"),
        (f"{BASE}, dedup='sequence', sequence='data.seq', sequence_start=-1", "sequence_start=-1 is out of range"),
        (f"{BASE}, sequence='data.seq'", "sequence='data.seq' means nothing with dedup='event'"),
        (f"{BASE}, dedup='shard', sequence_start=1", "sequence_start=1 means nothing with dedup='shard'"),
        (f"{BASE}, on_gap='wait'", "on_gap='wait' means nothing with dedup='event'"),
        (f"{BASE}, dedup='sequence', sequence='data.seq', on_gap='skip'", "on_gap='skip' is not known"),
        (f"{BASE}, marker_window=5", "marker_window=5 means nothing with dedup='event'"),
        (f"{BASE}, dedup='shard', marker_window=0", "marker_window=0 is out of range"),
        (f"{BASE}, marker_retention=14", "marker_retention=14 is no length of time"),
        (f"{BASE}, expires=timedelta(0)", "is no length of time"),
        (f"{BASE}, on_error='ignore'", "on_error='ignore' is not known"),
        (f"{BASE}, late='never'", "late='never' is not known"),
        (f"{BASE}, indexes=('status',)", "indexes=('status',) holds something else"),
        (f"{BASE}, indexes=(Index('by-version', '_v'),)", "index 'by-version': attribute name '_v' is reserved"),
        (f"{BASE}, indexes=(Index('by-key', 'status', 'key'),)", "index 'by-key': attribute name 'key' is reserved"),
        (f"{BASE}, indexes=(Index('By', 'status'),)", "'By' is no name of an index"),
        (f"{BASE}, indexes=(Index('a', 'b', numbers=('c',)),)", "index 'a' has numbers=('c',)"),
        (
            f"{BASE}, indexes=(Index('a', 'b', numbers=('b',)), Index('c', 'd', 'b'))",
            "attribute 'b' holds numbers in index 'a', but not in 'c'",
        ),
        (f"{BASE}, indexes=(Index('a', 'b'), Index('a', 'c'))", "two indexes have one name"),
        (f"{BASE}, indexes=(Index('a', 'b', 'b'),)", "index 'a' has 'b' as hash and as range"),
        (f"{BASE}, indexes=tuple(Index(f'a{{n}}', 'b') for n in range(21))", "21 indexes exceed 20"),
    ],
)
def test_a_wrong_option_is_told(refused: Refused, options: str, message: str):
    """Each option out of its limits is one problem, at the decorator's line."""
    (problem,) = refused(wrong_option=_with(options))
    assert message in problem.message
    assert problem.line == 4
    assert problem.remedy


@pytest.mark.parametrize(
    ("body", "message", "line"),
    [
        ("def placed(self, view, event): ...", "class Orders has no handler", 3),
        ("@on('A')\n    def placed(self, event, view): ...", "handler 'placed' takes (self, event, view)", 5),
        ("@on('A')\n    def placed(): ...", "handler 'placed' takes no self", 5),
        ("@on('A')\n    def placed(self): ...", "handler 'placed' takes (self)", 5),
        ("@on('A')\n    def placed(self, view, event, more): ...", "takes (self, view, event, more)", 5),
        ("@on('A')\n    def placed(self, view, *, event): ...", "takes (self, view, *, event)", 5),
        ("@on('A')\n    def placed(self, view, event): yield", "handler 'placed' yields", 5),
        ("@on('A')\n    @staticmethod\n    def placed(view, event): ...", "handler 'placed' is a staticmethod", 5),
        ("@on()\n    def placed(self, view, event): ...", "handler 'placed': @on without an event type", 5),
        ("@on\n    def placed(self, view, event): ...", "handler 'placed': @on without an event type", 5),
        ("@on('')\n    def placed(self, view, event): ...", "holds something else than event types", 5),
        ("@on('A', 'A')\n    def placed(self, view, event): ...", "handler 'placed' names a type twice", 5),
        ("@on('A')\n    @on('A')\n    def placed(self, view, event): ...", "handler 'placed' names 'A' twice", 5),
        ("@on('A', replays=False)\n    def placed(self, view, event): ...", "@on: unknown argument 'replays'", 5),
        ("@on('A', replay=0)\n    def placed(self, view, event): ...", "replay=0", 5),
        ("@on('A', type='B')\n    def placed(self, view, event): ...", "type='B' beside a type's name", 5),
        ("@on(dict)\n    def placed(self, view, event): ...", "@on(dict): dict is no class of a payload", 5),
        ("@on('A')\n    def a(self, view, event): ...\n    a.__wrapped__ = 1\n    x: int = 1/0", "ZeroDivision", 8),
        (
            "def __init__(self, rate): ...\n    @on('A')\n    def a(self, view, event): ...",
            "Orders() raised TypeError",
            3,
        ),
    ],
)
def test_a_wrong_handler_is_told(refused: Refused, body: str, message: str, line: int):
    """Each handler that the fold could not call is one problem, at its own line."""
    head = '\n@projection(name="orders", version=1, source="orders", key="data.id")\nclass Orders:\n    '
    problems = refused(wrong_handler=head + body)
    assert len(problems) == 1, problems
    assert message in problems[0].message
    assert problems[0].line == line


def test_a_class_whose_fields_cannot_be_validated_is_told(refused: Refused):
    """A payload class with a field of a type pydantic does not know is refused, naming the class."""
    text = """
    from dataclasses import dataclass
    class Opaque: ...
    @dataclass
    class Placed:
        what: Opaque
    """
    (problem,) = refused(opaque=dedent(text) + GOOD.replace('"OrderPlaced"', "Placed"))
    assert problem.message.startswith("@on(Placed): its fields cannot be validated (Unable to generate")


def test_one_name_and_version_belongs_to_one_projection(refused: Refused):
    """The second projection of one name and version is told, with the place of the first."""
    (problem,) = refused(first=GOOD, second=GOOD)
    assert problem.message.startswith("projection 'orders' version 1 is declared at ")
    assert "first.py:3" in problem.message
    assert problem.file.endswith("second.py")


def test_a_handler_hidden_by_a_later_one_is_told(refused: Refused):
    """Two methods of one name in a class: the first would never run, and is told at its line."""
    text = GOOD + '    @on("OrderShipped")\n    def placed(self, view, event): ...\n'
    (problem,) = refused(hidden=text)
    assert problem.message == "handler 'placed' is hidden by a later definition of that name in class Orders"
    assert problem.line == 5


def test_handlers_without_a_projection_are_told(refused: Refused):
    """A class whose decorator was forgotten is told, and so is a marked function outside any class."""
    text = (
        'class Forgotten:\n    @on("A")\n    def a(self, view, event): ...\n@on("B")\ndef b(self, view, event): ...\n'
    )
    problems = refused(forgotten=text)
    assert [problem.message for problem in problems] == [
        "class Forgotten has handlers but is no projection",
        "function 'b' is marked as a handler outside a class",
    ]


def test_a_decorated_function_is_told(refused: Refused):
    """@projection on something that is no class is told."""
    text = '@projection(name="orders", version=1, source="orders", key="id")\ndef orders(): ...\n'
    (problem,) = refused(function=text)
    assert problem.message == "@projection decorates 'orders', which is no class"


def test_a_bare_projection_decorator_is_told(refused: Refused):
    """@projection without its arguments is told."""
    (problem,) = refused(bare='@projection\nclass Orders:\n    @on("A")\n    def a(self, view, event): ...\n')
    assert problem.message.startswith("@projection: ")


def test_modules_that_do_not_load_are_told_together(refused: Refused):
    """One with a syntax error, one that raises, one without projections are told at once; a missing one by name."""
    problems = refused(broken="def (:\n", raising="\n1 / 0\n", empty="x = 1\n")
    told = [(Path(problem.file).name, problem.line, problem.message) for problem in problems]
    assert told == [
        ("broken.py", 2, "module 'broken' is no Python: invalid syntax"),
        ("empty.py", 0, "module 'empty' declares no projection"),
        ("raising.py", 3, "module 'raising' fails to import: ZeroDivisionError: division by zero"),
    ]
    with pytest.raises(ProjectionProblems) as caught:
        load_projections(["absent.orders"], ())
    (problem,) = caught.value.problems
    assert problem.message == "there is no module 'absent'"


def test_a_module_that_imports_a_missing_one_is_told_by_its_line(refused: Refused):
    """A failing import inside a module is that module's problem, at the line of the import."""
    (problem,) = refused(importing="\nimport absent_library\n")
    assert problem.line == 3
    assert problem.message.endswith("ModuleNotFoundError: No module named 'absent_library'")


def test_a_good_module_is_held_back_by_a_bad_one(refused: Refused):
    """Nothing is returned while anything is wrong, and what is good is not blamed."""
    problems = refused(good=GOOD, bad=GOOD.replace("version=1", "version=0"))
    assert {Path(problem.file).name for problem in problems} == {"bad.py"}


def test_the_header_is_one_line():
    """The lines that these tests expect count one line that every module begins with."""
    assert HEADER.count("\n") == 1
