"""Makes the virtual environment that the scripts run in and prints its interpreter; needs venv and pip, nothing else.

The environment is `.venv` in the checkout, or lies in the user's data directory where the checkout cannot be written.
It is filled from a lock file with hashes; a stamp in it spares the work while the lock file stays the same. Two scripts
at once wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

LOCK_WAIT_S = 900
LOCKS = ("requirements.lock", "requirements-dev.lock")


class BootstrapError(Exception):
    """The environment cannot be made; the message says why and what to do."""


def main(root: Path, lock_name: str) -> str:
    """Return the path of an interpreter whose packages are those of `root/lock_name`."""
    own = root / ".venv"
    if is_ready(own, root, lock_name):
        return str(interpreter(own))
    venv = own if may_write(root) and (not own.exists() or may_write(own)) else data_home() / f"venv-{short_hash(root)}"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_name(venv.name + ".lock").open("a") as lock:
        wait_for(lock.fileno(), lock.name)
        if not is_ready(venv, root, lock_name):
            fill(venv, root, lock_name)
    return str(interpreter(venv))


def fill(venv: Path, root: Path, lock_name: str) -> None:
    """Make the environment if it is absent or broken, install, stamp."""
    unfinished = venv / "unfinished"
    if unfinished.exists() or not runs([str(interpreter(venv)), "-I", "-m", "pip", "--version"]):
        say(f"making {venv}")
        call([sys.executable, "-I", "-m", "venv", "--clear", str(venv)], "cannot make a virtual environment")
    unfinished.touch()
    for name in LOCKS:
        stamp(venv, name).unlink(missing_ok=True)
    say(f"installing {lock_name}")
    pip = [str(interpreter(venv)), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"]
    call([*pip, "--require-hashes", "-r", str(root / lock_name)], f"cannot install {lock_name}")
    satisfied = [name for name in LOCKS if pins(root / name) <= pins(root / lock_name)]
    for name in satisfied:
        stamp(venv, name).write_text(digest(root / name))
    unfinished.unlink()


def is_ready(venv: Path, root: Path, lock_name: str) -> bool:
    """Tell whether the environment works for this user and was filled from this very lock file."""
    try:
        stamped = stamp(venv, lock_name).read_text()
    except OSError:
        return False
    return stamped == digest(root / lock_name) and runs([str(interpreter(venv)), "-I", "-c", ""])


def interpreter(venv: Path) -> Path:
    """Give the environment's python."""
    return venv / "bin" / "python"


def stamp(venv: Path, lock_name: str) -> Path:
    """Give the file that says from which lock file the environment was filled."""
    return venv / f"{lock_name}.sha256"


def pins(lock: Path) -> set[str]:
    """Read the exact versions that a lock file names, without their hashes."""
    return set(re.findall(r"^[A-Za-z0-9][^\s;]*==[^\s\\]+(?: ;[^\\\n]*)?", lock.read_text(), flags=re.MULTILINE))


def digest(lock: Path) -> str:
    """Hash a lock file."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def short_hash(root: Path) -> str:
    """Tell checkouts apart that share a data directory."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:12]


def data_home() -> Path:
    """Find a private directory for an environment outside the checkout; works without HOME."""
    home = os.environ.get("HOME", "")
    places = [os.environ.get("LLM_DATA_DIR", ""), os.environ.get("XDG_DATA_HOME", ""), home and f"{home}/.local/share"]
    for place in (Path(place) / "responses-ledger" for place in places if place and Path(place).is_absolute()):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if may_write(place):
            return place
    last = Path("/var/tmp" if os.path.isdir("/var/tmp") else "/tmp", f"responses-ledger-{os.geteuid()}")  # noqa: PTH112, S108
    try:
        last.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise BootstrapError(f"cannot write to {last} ({error.strerror}); set LLM_DATA_DIR to a directory") from error
    status = last.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022 or last.is_symlink():
        raise BootstrapError(f"{last} is not this user's own directory; set LLM_DATA_DIR to one that is")
    return last


def may_write(directory: Path) -> bool:
    """Tell whether this user may make files in a directory."""
    return os.access(directory, os.W_OK | os.X_OK)


def environment() -> dict[str, str]:
    """Give pip an environment in which no setting of the caller sends packages elsewhere."""
    moved = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV", "PYTHONHOME", "PYTHONPATH"}
    return {**{name: value for name, value in os.environ.items() if name not in moved}, "PIP_USER": "0"}


def runs(command: list[str]) -> bool:
    """Tell whether a command works, quietly."""
    try:
        return subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def call(command: list[str], failure: str) -> None:
    """Run a command, its words on standard error, because standard output is this program's answer."""
    done = subprocess.run(command, check=False, stdout=sys.stderr, stdin=subprocess.DEVNULL, env=environment())
    if done.returncode == 0:
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    hint = "" if shutil.which("apt-get") is None else f" (on Debian and Ubuntu: apt-get install python{version}-venv)"
    raise BootstrapError(f"{failure}; Python needs its venv and pip modules{hint}, and pip a package index to reach")


def wait_for(fd: int, name: str) -> None:
    """Take the environment's lock, saying so when another script holds it."""
    deadline = time.monotonic() + LOCK_WAIT_S
    told = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                say("another script is at work on the environment; waiting for it")
                told = True
            if time.monotonic() > deadline:
                raise BootstrapError(f"another process has held {name} for {LOCK_WAIT_S} s; end it first") from None
            time.sleep(0.1)
        else:
            return


def say(text: str) -> None:
    """Tell the person at the terminal what takes its time."""
    sys.stderr.write(f"responses-ledger: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        print(main(Path(sys.argv[1]), sys.argv[2]))
    except (BootstrapError, OSError) as error:
        sys.exit(f"responses-ledger: {error}")
