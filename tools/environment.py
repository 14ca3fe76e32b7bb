"""Make the environment ``.venv``: ``python3 tools/environment.py [--test] [--browser] [--bench]``; needs no package.

``--test`` adds the test tools, ``--browser`` what the tests of the pages need outside of Python, ``--bench`` (beside
``--test``) the libraries with which the bench compares. It does nothing
where the environment already fits the requirements. An interrupted installation is begun again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DENIED = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM)
CHROMIUM = ("chromium", "chromium-browser")  # as tests/pages/conftest.py looks for it


class Stop(Exception):
    """The work cannot go on; the message says why, and what the reader can do."""


def main(argv: list[str]) -> int:
    with plain_errors(ROOT), lock(ROOT):
        if sys.version_info < (3, 11):  # noqa: UP036 (whoever runs this by hand)
            raise Stop(f"The book needs Python 3.11 or newer, and this is {sys.version.split()[0]}.")
        install(ROOT, ["requirements.txt"])
        if "--test" in argv:
            install(ROOT, ["requirements.txt", "requirements-test.txt"])
        if "--bench" in argv:
            install(ROOT, ["requirements.txt", "requirements-test.txt", "requirements-bench.txt"])
        if "--browser" in argv:
            install_node_tools(ROOT)
            install_chromium()
    return 0


def install(root: Path, files: list[str]) -> None:
    """Install requirement ``files`` in ``.venv``, unless the stamp of an equal, finished installation is there."""
    venv, python = root / ".venv", root / ".venv" / "bin" / "python"
    stamp, unfinished = venv / f".installed-{files[-1]}", venv / ".unfinished"
    # The path is part of it: the editable install of `helpers` points to this folder, and folders move.
    parts = [str(root), sys.version, *((root / name).read_text(encoding="utf8") for name in (*files, "pyproject.toml"))]
    wanted = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    if python.exists() and not unfinished.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    if not works(python) or unfinished.exists():
        print("Making the environment .venv …", flush=True)
        make_venv(venv)
    for old in venv.glob(".installed-*"):
        if files[0] == files[-1] or old == stamp:
            old.unlink()
    unfinished.touch()
    run_pip([str(python), "-m", "pip", "install", *(word for name in files for word in ("-r", name))], root)
    stamp.write_text(wanted)
    unfinished.unlink()


def works(python: Path) -> bool:
    command = [python, "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))"]
    return python.exists() and subprocess.run(command, capture_output=True).returncode == 0


def make_venv(venv: Path) -> None:
    if importlib.util.find_spec("ensurepip") is None:  # Debian splits it off
        package = f"python3.{sys.version_info.minor}-venv"
        if not apt_install(package):
            raise Stop(f"This Python cannot make environments. Install the package {package}, then run again.")
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)


def run_pip(command: list[str], root: Path) -> None:
    """Run pip in ``root``; say now and then how far it is; on failure show the end of what it said."""
    print("Installing packages (some minutes the first time) …", flush=True)
    env = home_environment(root) | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    # Compiled when first imported: most of what is installed never is.
    command = [*command, "--progress-bar", "off", "--no-input", "--no-compile"]
    begin = said = time.monotonic()
    lines, packages = [], 0
    with subprocess.Popen(
        command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        for line in pip.stdout:
            lines.append(line.rstrip())
            packages += line.startswith("Collecting")
            last = line.startswith("Installing collected")  # then pip is silent to its end
            if last or (time.monotonic() - said > 10 and line.startswith("Collecting")):
                said = time.monotonic()
                step = "unpacking them, which takes longest" if last else line.split(" (from")[0].strip()
                print(f"  {said - begin:4.0f} s, {packages} packages found: {step}", flush=True)
    if pip.returncode:
        raise Stop("\n".join([*lines[-12:], f"pip could not install {' '.join(command[4:-4])}: see above."]))
    print(f"Installed in {time.monotonic() - begin:.0f} s.", flush=True)


def install_node_tools(root: Path) -> None:
    """The test tools of ``package-lock.json``, in ``node_modules``."""
    lock_file, stamp = root / "package-lock.json", root / "node_modules" / ".installed"
    if not lock_file.exists() or (stamp.exists() and stamp.read_text() == lock_file.read_text()):
        return
    if not shutil.which("npm") and not apt_install("npm"):
        raise Stop("The tests of the pages need npm (it comes with Node.js). Install it, then run again.")
    subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=root,
        env=home_environment(root),
        check=True,
    )
    stamp.write_text(lock_file.read_text())


def install_chromium() -> None:
    if any(map(shutil.which, CHROMIUM)) or apt_install("chromium"):
        return
    raise Stop("The tests of the pages need the browser Chromium. Install the package chromium, then run again.")


def apt_install(package: str) -> bool:
    """Install a system package where we may (root on Debian or Ubuntu); say whether it is there now."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    print(f"Installing the system package {package} …", flush=True)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
        done = subprocess.run(["apt-get", *command], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr.strip()[-500:])
    return done.returncode == 0


def home_environment(root: Path) -> dict[str, str]:
    """The environment for child processes: UTF-8, and a home that can be written, ``.run/home`` where there is none."""
    env = os.environ | {"PYTHONUTF8": "1"}
    with suppress(RuntimeError):  # no home: Path.home() cannot tell
        if "HOME" in env and os.access(Path.home(), os.W_OK):
            return env
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        if not os.access(env.get(name, ""), os.W_OK):
            env.pop(name, None)
    home = root / ".run" / "home"
    home.mkdir(parents=True, exist_ok=True)
    return env | {"HOME": str(home)}


@contextmanager
def lock(root: Path):
    """Hold the checkout alone. The system gives the lock back when the process ends, however it ends."""
    (root / ".run").mkdir(exist_ok=True)
    with open(root / ".run" / "lock", "a+", encoding="utf8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            print(f"Waiting for another build here (process {file.read().strip() or '?'}) to end …", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def plain_errors(root: Path):
    """Turn what the machine denies into one line and exit code 1."""
    try:
        yield
    except Stop as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("Interrupted: run it again, and it goes on where it stopped.") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{' '.join(map(str, error.cmd))}: failed with exit code {error.returncode}.") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise SystemExit(f"The disk is full ({error.filename or root}): free some space, run again.") from None
        if error.errno in DENIED:
            message = f"Cannot write {error.filename}: copy the book to a folder that you may write, and run it there."
            raise SystemExit(message) from None
        raise


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
