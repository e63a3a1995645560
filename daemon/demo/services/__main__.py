"""All real servers at once, for whoever wants to try something against them: `python -m daemon.demo.services`.

`--fetch` fetches what is missing and starts nothing; `--lock` writes the lock of Kafka's archives anew. Exit status: 0,
or 1 with the reason and the remedy on stderr.
"""

import argparse
import signal
import sys
from contextlib import ExitStack

from daemon.core.errors import ProjectiondError
from daemon.demo.interrupts import Interrupts
from daemon.demo.services.dynoxide import Dynoxide, fetch_dynoxide
from daemon.demo.services.kafka import KafkaBroker, fetch_kafka, java, lock_kafka
from daemon.demo.services.ministack import Ministack, ministack_program
from daemon.demo.services.prometheus import fetch_prometheus
from daemon.demo.services.strict import StrictDynamoDB


def main(words: list[str] | None = None) -> int:
    """Do what the words ask for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m daemon.demo.services", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--fetch", action="store_true", help="fetch what is missing, start nothing")
    what.add_argument("--lock", action="store_true", help="write the lock of Kafka's archives anew")
    asked = parser.parse_args(words)
    try:
        if asked.lock:
            lock_kafka()
        elif asked.fetch:
            fetch_all()
        else:
            run_all()
    except ProjectiondError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        say("ended")
    return 0


def fetch_all() -> None:
    """Fetch what is missing of every server, and see that the rest is installed. Raises ServiceMissing, WrongDigest."""
    java()
    fetch_kafka(say)
    fetch_dynoxide(say)
    fetch_prometheus(say)
    ministack_program()


def run_all() -> None:
    """Start every server and wait for Ctrl-C. Raises ProjectiondError, and KeyboardInterrupt when it came."""
    fetch_all()
    with Interrupts().caught(), ExitStack() as servers:
        broker = servers.enter_context(KafkaBroker())
        say(f"Kafka      {broker.bootstrap}  (bootstrap server, no security)")
        for described, server in (
            ("Dynoxide ", Dynoxide()),
            ("MiniStack", Ministack()),
            ("Strict   ", StrictDynamoDB()),
        ):
            servers.enter_context(server)
            say(f"{described}  {server.endpoint}  (any credentials, any region; nothing is kept)")
        say("Ctrl-C ends them")
        while True:
            signal.pause()


def say(line: str) -> None:
    """Tell a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
