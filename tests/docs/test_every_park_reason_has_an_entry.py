"""Whatever parks a shard can be found in the runbook by the words that the daemon says of it."""

import ast
import re
from collections.abc import Iterator, Mapping

from daemon.core import errors
from daemon.core.errors import ProjectiondError
from daemon.core.recovery import Fate, RetryPolicy, fate_of
from tests.docs.pages import ROOT

INDEX = ROOT / "docs" / "runbook" / "index.md"
ROOMS = ("actors", "core", "ports", "sources", "stores", "wire")
"""Where whatever can end a shard's work is raised."""
OUTSIDE_EVERY_SHARD = {
    "daemon/actors/rehearsal.py",
    "daemon/sources/kafka/security.py",
    "daemon/stores/dynamodb/tables.py",
    "daemon/wire/aws_access.py",
}
"""What answers a command, or is refused as the settings are put together (exit code 2)."""
SHORTEST = 7
"""Characters of words that tell one reason from others: not `lag`, `paused` or `parked`."""
HOLE = "…"
"""Stands for what a message says of the case."""

PARKING = tuple(
    error
    for error in vars(errors).values()
    if isinstance(error, type)
    and issubclass(error, ProjectiondError)
    and error not in {errors.EventProblem, errors.CommandRefused, errors.OperationsMoved}  # never leave a take
    and fate_of(error("x"), RetryPolicy().max_restarts, RetryPolicy()) in {Fate.PARK, Fate.PARK_AS_BUG}
)


def names_of(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Iterate what a module or function calls by a name, once for each time that it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def words(node: ast.expr, named: Mapping[str, list[ast.expr]], depth: int = 0) -> list[str]:
    """Return every text that an expression may come to, with holes for what is not written there."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            texts = [""]
            for part in parts:
                texts = [text + more for text in texts for more in words(part, named, depth)]
            return texts
        case ast.FormattedValue(value=value):
            return words(value, named, depth)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [one + other for one in words(left, named, depth) for other in words(right, named, depth)]
        case ast.IfExp(body=body, orelse=other):
            return words(body, named, depth) + words(other, named, depth)
        case ast.Name(id=name) if depth < 5 and name in named:
            return [text for value in named[name] for text in words(value, named, depth + 1)]
        case _:
            return [HOLE]


def reasons() -> dict[str, str]:
    """Return every message that can park a shard, and where it is raised."""
    found: dict[str, str] = {}
    kinds = {error.__name__ for error in PARKING} | {"Tripped"}
    for room in ROOMS:
        for path in sorted((ROOT / "daemon" / room).rglob("*.py")):
            module = str(path.relative_to(ROOT))
            if module not in OUTSIDE_EVERY_SHARD:
                found |= dict.fromkeys(_raised(ast.parse(path.read_text(encoding="utf-8")), kinds), module)
    return found


def _raised(module: ast.Module, kinds: set[str]) -> Iterator[str]:
    everywhere: dict[str, list[ast.expr]] = {}
    for statement in module.body:
        for name, value in names_of(statement) if isinstance(statement, ast.Assign) else ():
            everywhere.setdefault(name, []).append(value)
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        named = {name: list(values) for name, values in everywhere.items()}
        for name, value in names_of(function):
            named.setdefault(name, []).append(value)
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds and node.args:
                yield from words(node.args[-1] if node.func.id == "Tripped" else node.args[0], named)


def entries() -> list[tuple[re.Pattern[str], str]]:
    """Return what the index's rows quote, as patterns, each with the row's link."""
    found: list[tuple[re.Pattern[str], str]] = []
    for row in re.findall(r"(?m)^\| .* \|$", INDEX.read_text(encoding="utf-8")):
        said, _, read = row.strip("| ").partition(" | ")
        link = re.search(r"\(([\w-]+\.md)\)", read)
        for quoted in re.findall(r"`([^`]+)`", said):
            pattern = re.escape(quoted).replace(re.escape("..."), ".*")
            if link is not None and len(quoted) >= SHORTEST:
                found.append((re.compile(pattern, re.DOTALL), link[1]))
    return found


def test_every_reason_of_a_parked_shard_is_in_the_index():
    """Each message that the code can park a shard with has words that a row of the runbook's index quotes."""
    said, rows = reasons(), entries()
    assert len(said) > 40
    assert {module.split("/")[1] for module in said.values()} >= {"actors", "core", "sources", "stores"}
    lacking = {text: module for text, module in said.items() if not any(row.search(text) for row, _ in rows)}
    assert lacking == {}


def test_every_row_about_parked_shards_has_its_reason():
    """What the rows about parked shards quote is said by the code: no words of former releases send anybody astray."""
    said = [*reasons(), "bug: ", *EVENT_REASONS]
    index = INDEX.read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `parked`: (.*?) \|", index)
    quoted = [words for row in rows for words in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) > 8
    patterns = {words: re.escape(words).replace(re.escape("..."), ".*") for words in quoted}
    assert [words for words, pattern in patterns.items() if not any(re.search(pattern, text) for text in said)] == []


EVENT_REASONS = ("handler-raised: ", "too-large: ", "rejected: ")
"""Reasons of single events, which park a shard where `on_error` says so; dead-letters.md has them all."""
