"""`python -m daemon.cli`: the command `projectiond`, where its script is not on the path."""

from daemon.cli.main import app_main

if __name__ == "__main__":
    app_main()
