"""Markdown pages as scripts: what is to be run of each, in order, in one working directory.

Owns which blocks are run and how. A page is one shell session:

- `sh` is run as it stands, and stops the page when a command fails;
- `python` is run by this Python; where its first line names a file (`# shop/summary.py`), it is written there instead;
- any other block whose first line names a file is written there too (`# projectiond.toml`);
- `text` right behind a shell block is what that prints: each of its lines must be there, in order; `...` stands for
  any text;
- what holds TOML, JSON or YAML must at least parse.

A comment `<!-- stage: NAME -->` has `stages.py` lay out the directory first, so that a page about a stuck shard runs on
one. Its Python is a reader's (`reader.py`): the project, what it requires, and what the page itself installs. `make` is
tried dry: what its verbs do, CI does. `nc` is stood in for; `sqlite3` is not: a page does without it, as Python can.

What is not run here is run, or held to what is true, somewhere else (`Page.unproven`).
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SECONDS = 300
"""How long a page may take: a few seconds, or minutes on a machine that does something else too."""
_FILE = re.compile(r"(?:#|//) ([\w./-]+\.(?:py|toml|jsonl|json|yaml|yml))\n")
_STAGE = re.compile(r"<!-- stage: ([\w-]+) -->")
_MARK = "@@ block"
_PROMPT = "$ "


def _beside(name: str) -> str:
    """Return the path of a file beside this one, as a word of the shell."""
    return shlex.quote(str(Path(__file__).with_name(name)))


_PRELUDE = f"""\
set -euo pipefail
make() {{ command make --dry-run --directory {shlex.quote(str(ROOT))} "$@"; }}
sqlite3() {{ echo 'not everybody has this command: python -m sqlite3' >&2; return 127; }}
nc() {{ python {_beside("netcat.py")} "$@"; }}
pip() {{ {shlex.quote(sys.executable)} {_beside("reader.py")} "$VIRTUAL_ENV" "$@"; }}
"""
_PARSERS: dict[str, Callable[[str], object]] = {
    "toml": tomllib.loads,
    "json": lambda text: [json.loads(document) for document in re.split(r"\n(?=[{\[])", text.strip())],
    "yaml": yaml.safe_load,
}
RUN = ("sh", "python")
ENVIRONMENT = ".venv"
"""Where a page's directory holds the reader's Python, as a checkout does."""
_VARIABLES = {
    "PROJECTIOND__METRICS__PORT": "0",  # pages run beside other daemons
    "AWS_DEFAULT_REGION": "eu-central-1",  # a reader's shell knows his region
    "PYTHONDONTWRITEBYTECODE": "1",  # a page edits code within the second that the cache can tell
}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, text, and the line of its fence."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that it is, if it is one."""
        named = _FILE.match(self.text)
        return named[1] if named and self.language != "sh" else None

    def commands(self) -> str:
        """Return what the page's shell does at this block."""
        if self.file is not None:
            place = shlex.quote(str(Path(self.file).parent))
            return f"mkdir -p {place}; cat > {shlex.quote(self.file)} <<'@@ END'\n{self.text}@@ END\n"
        if self.language == "python":
            return f"python - <<'@@ END'\n{self.text}@@ END\n"
        return self.text if self.language == "sh" else ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page and its blocks."""

    path: Path

    @property
    def blocks(self) -> Sequence[Block]:
        """Return its blocks, in order."""
        tokens = MarkdownIt().parse(self.path.read_text(encoding="utf-8"))
        return [
            Block(token.info.strip(), token.content, (token.map or [0])[0] + 1)
            for token in tokens
            if token.type == "fence"
        ]

    @property
    def stage(self) -> str:
        """Return the name of what its directory holds at first."""
        named = _STAGE.search(self.path.read_text(encoding="utf-8"))
        return named[1] if named else "empty"

    @property
    def runs(self) -> bool:
        """Whether there is anything to run."""
        return any(block.language in RUN for block in self.blocks)

    def unproven(self) -> Iterator[Block]:
        """Yield the blocks that are neither run here, nor written for what is run, nor compared with what it prints."""
        for at, block in enumerate(self.blocks):
            printed = block.language == "text" and at > 0 and self.blocks[at - 1].language == "sh"
            if not (block.language in RUN or block.file is not None or printed):
                yield block

    def console(self) -> Sequence[Sequence[str]]:
        """Return the words of each command in its `console` blocks, in order; what has no prompt goes on with one."""
        shown = "\n".join(block.text for block in self.blocks if block.language == "console").replace("\\\n", " ")
        first, *rest = shown.split(f"\n{_PROMPT}")
        return [shlex.split(command) for command in (first.removeprefix(_PROMPT), *rest)]

    def script(self) -> str:
        """Return its one shell script."""
        parts = [f"echo '{_MARK} {at}'\n{block.commands()}" for at, block in enumerate(self.blocks)]
        return "\n".join([_PRELUDE, *parts])

    def problems(self) -> Iterator[str]:
        """Yield what is wrong without running anything: blocks without a language, and texts that do not parse."""
        for block in self.blocks:
            if not block.language:
                yield f"{self.at(block)}: a block without a language; what is not run is `text`"
            try:
                _PARSERS.get(block.language, str)(block.text)
            except Exception as error:  # noqa: BLE001 - each parser has errors of its own
                yield f"{self.at(block)}: {error}"

    def run(self, place: Path) -> Iterator[str]:
        """Run it in a directory; yield what is wrong."""
        done = subprocess.run(
            ["bash", "-c", self.script()],
            cwd=place, env=_environment(place), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        printed = _printed(done.stdout)
        reached = self.blocks[max(printed)] if printed else None
        if done.returncode:
            where = self.at(reached) if reached else str(self.path)
            yield f"{where}: ended with {done.returncode}:\n{done.stdout[-3000:]}"
            return
        for at, block in enumerate(self.blocks):
            if block.language == "text" and at and self.blocks[at - 1].language == "sh":
                missing = _missing(block.text, printed.get(at - 1, ""))
                if missing:
                    yield f"{self.at(block)}: never printed: {missing!r}; it printed:\n{printed.get(at - 1, '')}"

    def at(self, block: Block) -> str:
        """Say where a block stands."""
        return f"{self.path.relative_to(ROOT)}:{block.line}"


def all_pages() -> list[Page]:
    """Return every Markdown page of the project."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [Page(ROOT / name) for name in sorted(listed.stdout.split("\n")) if name and (ROOT / name).exists()]


def _printed(out: str) -> dict[int, str]:
    """Part the output by the blocks that printed it."""
    _, *parts = re.split(rf"(?m)^{_MARK} (\d+)\n", out)
    return {int(number): text for number, text in zip(parts[::2], parts[1::2], strict=True)}


def _missing(expected: str, printed: str) -> str | None:
    """Return the first expected line that was not printed behind the ones before it; None when all were."""
    rest = [" ".join(line.split()) for line in printed.splitlines()]
    for line in filter(None, (" ".join(line.split()) for line in expected.splitlines())):
        pattern = ".*".join(re.escape(part) for part in line.split("..."))
        found = next((at for at, said in enumerate(rest) if re.search(pattern, said)), None)
        if found is None:
            return line
        rest = rest[found + 1 :]
    return None


def _environment(place: Path) -> dict[str, str]:
    """Return a reader's environment: the project's commands on the path, nothing of ours in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PROJECTIOND", "AWS_", "PYTHON"))}
    ours = [str(place / ENVIRONMENT / "bin"), *(at for at in kept["PATH"].split(":") if Path(at) != BIN)]
    return kept | _VARIABLES | {
        "PATH": ":".join(ours), "VIRTUAL_ENV": str(place / ENVIRONMENT), "HOME": str(place), "NO_COLOR": "1",
        "COLUMNS": "200",
    }  # fmt: skip
