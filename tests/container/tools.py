"""What builds and runs images without an engine: Debian's buildah, crun and mmdebstrap.

`python -m tests.container.tools`
installs them where they are missing and this process may; elsewhere it says in one line that the image stays untested.

Owns which programs are needed and who can have them. Must not know the image.
"""

import os
import shutil
import subprocess
import sys

PROGRAMS = {"buildah": "buildah", "runc": "runc", "mmdebstrap": "mmdebstrap"}
"""The programs, each with the Debian package that holds it."""
_APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60")


def obstacle() -> str | None:
    """Say why no image can be built here; None where it can."""
    if sys.platform != "linux" or os.geteuid():
        return "building and running it without an engine needs root on Linux"
    missing = sorted(package for program, package in PROGRAMS.items() if not shutil.which(program))
    return f"install {', '.join(missing)}" if missing else None


def install() -> None:
    """Install what is missing, where this is Debian and we are root; say so where that fails."""
    missing = sorted(package for program, package in PROGRAMS.items() if not shutil.which(program))
    if not missing or os.geteuid() or not shutil.which("apt-get"):
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    words = ["install", "--yes", "--no-install-recommends", *missing]
    for command in ((*_APT, "update"), (*_APT, *words)):
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.stdout.write(f"==> {' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}\n")
            return


def main() -> int:
    """Install what can be; where the tests of the image are left out, say so in one line. In CI that is a failure."""
    install()
    reason = obstacle()
    if reason is None:
        return 0
    sys.stdout.write(f"==> the image is not tested here: {reason}\n")
    return 1 if os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
