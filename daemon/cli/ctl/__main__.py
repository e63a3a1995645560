"""`python -m daemon.cli.ctl`: the command `projectionctl`, where its script is not on the path."""

from daemon.cli.ctl.main import app_main

if __name__ == "__main__":
    app_main()
