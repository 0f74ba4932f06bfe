"""Developer commands, each in a virtual environment of its own under this folder.

python3 dev.py demo            run the demonstration (examples/demo.py)
python3 dev.py test            check with ruff and mypy, then run the tests
python3 dev.py slow            run the slow tests
python3 dev.py oldest          run the tests with the oldest supported dependencies
python3 dev.py newest          run the tests with the newest ones; torch stays pinned
python3 dev.py lint            check with ruff and mypy only
python3 dev.py docs            build the documentation into docs/_build/html
python3 dev.py bench NAME      run benchmarks/NAME.py

Further arguments go to the command's program: python3 dev.py test -k likelihood
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 11)
# For each command: its environment, and the extra of pyproject.toml installed there.
ENVIRONMENTS = {
    "demo": ("demo", "plots"),
    "test": ("test", "test"),
    "slow": ("test", "test"),
    "oldest": ("oldest", "test"),
    "newest": ("newest", "test"),
    "lint": ("test", "test"),
    "docs": ("docs", "docs"),
    "bench": ("bench", "bench"),
}
LINT = (("ruff", "check", "."), ("mypy",))
SPHINX = ("sphinx", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


def fail(message: str) -> None:
    """End with a message and exit status 2."""
    print(f"dev.py: {message}", file=sys.stderr)
    sys.exit(2)


def run(python: Path | str, *arguments: str) -> int:
    """Run Python in the root folder and return its exit status."""
    print("$ " + shlex.join(["python", *arguments]), flush=True)
    return subprocess.run([str(python), *arguments], cwd=ROOT).returncode


def check_python() -> None:
    """Stop where this Python is too old or cannot make virtual environments."""
    if sys.version_info < OLDEST_PYTHON:
        wanted, found = (".".join(map(str, v[:2])) for v in (OLDEST_PYTHON, sys.version_info))
        fail(
            f"the project needs Python {wanted} or newer, and {sys.executable} is {found}. "
            f"Install a newer one and run it instead, for instance: python{wanted} dev.py ..."
        )
    missing = [name for name in ("venv", "ensurepip") if find_spec(name) is None]
    if missing:
        fail(
            f"{sys.executable} lacks {' and '.join(missing)}, without which no virtual "
            "environment can be made. On Debian and Ubuntu: apt-get install python3-venv. "
            "Elsewhere: use a Python that has the whole standard library."
        )


def fingerprint(extra: str) -> str:
    """A digest of all that an installed environment depends on."""
    digest = hashlib.sha256(f"{ROOT}\n{extra}\n".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def environment(name: str, extra: str) -> Path:
    """The Python of an environment in which the project is installed with an extra."""
    home = ROOT / f".venv-{name}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp, wanted = home / "installed", fingerprint(extra)
    complete = python.exists() and stamp.exists()
    # What is newest changes without any of these files.
    if complete and stamp.read_text() == wanted and name != "newest":
        return python
    if not complete and run(sys.executable, "-m", "venv", "--clear", str(home)):
        fail(f"{home} could not be made; the lines above say why.")
    install(python, extra, *versions(name, home))
    stamp.write_text(wanted)
    return python


def versions(name: str, home: Path) -> tuple[str, ...]:
    """The options of pip that decide which dependencies an environment gets."""
    if name == "newest":
        return ("--upgrade", "--upgrade-strategy", "eager")
    if name != "oldest":
        return ()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest = home / "lowest.txt"
    lines = [each.split(",")[0].replace(">=", "==") for each in project["dependencies"]]
    lowest.write_text("\n".join(lines) + "\n")
    return ("--constraint", str(lowest))


def install(python: Path, extra: str, *options: str) -> None:
    """Install the project for editing, with an extra, under the constraints."""
    print("Installing the project; the first time takes some minutes.", flush=True)
    project = (*options, "--constraint", "constraints.txt", "--editable", f".[{extra}]")
    for arguments in (("--upgrade", "pip"), project):
        if run(python, "-m", "pip", "install", "--quiet", *arguments):
            fail(
                "pip could not install what is needed; its lines above say why. Check the "
                "network and pip's configuration, then run the same command again."
            )


def run_modules(python: Path, *modules: tuple[str, ...]) -> int:
    """Run all modules, say which failed, and return 1 if any did."""
    failed = [module[0] for module in modules if run(python, "-m", *module)]
    if failed:
        print(f"dev.py: failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def benchmark_script(arguments: list[str]) -> list[str]:
    """The arguments with the benchmark's name replaced by its script."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))
    if not arguments or arguments[0] not in names:
        fail(f"bench needs the name of a benchmark, one of: {', '.join(names) or 'none yet'}.")
    return [f"benchmarks/{arguments[0]}.py", *arguments[1:]]


def main(command: str = "", *arguments: str) -> int:
    """Run a command; its exit status."""
    if command not in ENVIRONMENTS:
        print(__doc__.strip())
        return 0 if command in ("-h", "--help") else 2
    check_python()
    rest = list(arguments[1:] if arguments[:1] == ("--",) else arguments)
    if command == "bench":
        rest = benchmark_script(rest)
    python = environment(*ENVIRONMENTS[command])
    if command == "demo":
        return run(python, "examples/demo.py", *rest)
    if command == "bench":
        return run(python, *rest)
    modules = {
        "test": (*LINT, ("pytest", *rest)),
        "slow": (("pytest", "-m", "slow", *rest),),
        "oldest": (("pytest", *rest),),
        "newest": (("pytest", *rest),),
        "lint": LINT,
        "docs": ((*SPHINX, *rest),),
    }
    return run_modules(python, *modules[command])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
