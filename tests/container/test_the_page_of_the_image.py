"""docs/how-to/container.md: the commands that it shows are done, on the image that they build."""

from pathlib import Path
from urllib.request import urlopen

import pytest

from daemon.demo.services.ports import LOOPBACK
from tests.container.docker_words import PAGE, Built, Docker, commands
from tests.docs import stages

FEW = ("--limit", "300", "--kills", "1")
"""The demonstration on fewer flights."""

pytestmark = pytest.mark.timeout(1_200)


def test_an_image_of_one_s_own_is_built_run_asked_and_stopped(engine: Docker, image: Built, tmp_path: Path):
    """Derived as the page says, with the settings that it is checked with, it is healthy, answers what the page asks of
    it, and leaves with 0.
    """
    assert image
    derived, run, *asked, stop = [words for words in commands(PAGE) if "shop" in " ".join(words)]
    stages.shop(tmp_path, [stages.placed(number) for number in range(3)])
    logs = 'paths = ["/var/log/shop/orders-*.jsonl"]'
    settings = stages.SETTINGS.replace('"shop.db"', '"/var/lib/projectiond/shop.db"')
    settings = settings.replace('path = "run/control.sock"', "").replace('paths = ["orders-*.jsonl"]', logs)
    (tmp_path / "projectiond.toml").write_text(settings, encoding="utf-8")
    (tmp_path / "log").mkdir()
    (tmp_path / "orders-0.jsonl").rename(tmp_path / "log" / "orders-0.jsonl")
    (dockerfile,) = (block.text for block in PAGE.blocks if block.language == "dockerfile")
    (tmp_path / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    engine.build(derived[1:], tmp_path)
    engine.run(run[1:], binds={"/var/log/shop": tmp_path / "log"})
    engine.until_healthy("shop")
    with urlopen(f"http://{LOOPBACK}:{engine.ports['shop']}/healthz", timeout=60) as answer:
        assert answer.read().startswith(b"ok")
    said = [engine.execute(words[1:]) for words in asked]
    assert "order-summary-g1" in said[0]
    assert "All is well" in said[1]
    assert engine.stop(stop[1:]) == 0


def test_the_demonstration_runs_in_it(engine: Docker, image: Built, checkout: Path):
    """Built and run as the page says, but on fewer flights, it finds its own data, is killed hard, ends with every row
    right, runs on, and leaves with 0 when it is told to.
    """
    assert image
    built, run, logs, stop = [words for words in commands(PAGE) if "demo" in " ".join(words)]
    demo = engine.build(built[1:], checkout)
    assert demo.config["User"] == image.config["User"]
    container = engine.run(run[1:], more=FEW)
    container.until(lambda: "Ctrl-C" in engine.logs(logs[1:]))
    assert " rows are right" in engine.logs(logs[1:]), engine.logs(logs[1:])
    assert engine.stop(stop[1:]) == 0
