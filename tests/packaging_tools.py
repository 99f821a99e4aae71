"""What the tests of the package share: the built distributions, and empty environments to install them into."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")


def run(*command: str | Path, cwd: Path = ROOT, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; it must succeed, or its output is the failure's message."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(  # noqa: S603 - ours
        command, check=False, cwd=cwd, env=environment, timeout=120, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0 or not check, f"{command}: {done.stdout}"
    return done


@dataclass(frozen=True)
class Built:
    """The distributions."""

    sdist: Path
    wheel: Path


def build(source: Path, into: Path) -> Built:
    """Build an sdist, and a wheel from it."""
    run(UV, "build", "--quiet", "--python", sys.executable, "--out-dir", into, source)
    [sdist], [wheel] = into.glob("*.tar.gz"), into.glob("*.whl")
    return Built(sdist, wheel)


@dataclass(frozen=True)
class Environment:
    """An environment of its own with what was installed into it, and a directory outside the repository."""

    home: Path

    @property
    def bin(self) -> Path:
        """Return where its commands are."""
        return self.home / ".venv" / "bin"

    def python(self, code: str, *, check: bool = True) -> str:
        """Run code with nothing else to import, and return what it prints."""
        return run(self.bin / "python", "-I", "-c", code, cwd=self.home, check=check).stdout


def install(home: Path, *requirements: str, lowest: bool = False) -> Environment:
    """Make an environment that has what is asked for, the newest versions or the lowest that are allowed."""
    environment = Environment(home)
    run(UV, "venv", "--quiet", "--python", sys.executable, home / ".venv")
    run(
        UV, "pip", "install", "--quiet", "--python", environment.bin / "python",
        "--resolution", "lowest-direct" if lowest else "highest", *requirements,
    )  # fmt: skip
    return environment
