"""What is wrong below us: each defect by its own program, with and without the fix that we propose.

docs/upstream.md tells of each. When a test here fails because of a new release, see there what of ours is not
needed any more.
"""

import gc
import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio
from support import connect

FOLDER = Path(__file__).parent.parent / "docs" / "upstream"
DEFECTS = sorted(program.stem for program in FOLDER.glob("*.py"))

Runs = dict[tuple[str, bool], "Future[subprocess.CompletedProcess[str]]"]


def reproduce(defect: str, python_path: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, FOLDER / f"{defect}.py"],
        check=False,
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, "PYTHONPATH": python_path},
    )


def mended(defect: str, folder: Path) -> str:
    """Return a folder with a copy of Hypercorn in it, to which a defect's fix is applied."""
    spec = find_spec("hypercorn")
    assert spec is not None
    assert spec.origin is not None
    copytree(Path(spec.origin).parent, folder / "src" / "hypercorn")
    command = ["git", "apply", "--include=src/*", str(FOLDER / f"{defect}.diff")]  # and not its tests
    subprocess.run(command, check=True, cwd=folder)  # noqa: S603 - our own diff
    return str(folder / "src")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """All programs, with and without their fixes: each of them mostly waits, so together."""
    with ThreadPoolExecutor(4) as threads:
        yield {
            (defect, fixed): threads.submit(
                reproduce, defect, mended(defect, tmp_path_factory.mktemp(defect)) if fixed else ""
            )
            for fixed in (False, True)
            for defect in DEFECTS
        }


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_defect_is_still_there(defect: str, runs: Runs) -> None:
    outcome = runs[defect, False].result()
    assert (outcome.returncode, outcome.stderr) == (1, ""), outcome.stdout


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_fix_that_we_propose_mends_it(defect: str, runs: Runs) -> None:
    outcome = runs[defect, True].result()
    assert (outcome.returncode, outcome.stderr) == (0, ""), outcome.stdout


@pytest.mark.parametrize("way", ["grace", "cancelled"])
async def test_connection_is_closed_when_the_grace_is_over(way: str) -> None:
    """Hypercorn's issue 106 fears for it; Trio's serve_listeners does it."""
    end = trio.Event()
    gc.disable()
    try:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                server = partial(hypercorn.trio.serve, endless(), one_client(), shutdown_trigger=end.wait)  # pyright: ignore[reportUnknownMemberType]
                [address] = await nursery.start(server)
                async with connect(address) as client:
                    await client.request("/")
                    assert (await client.head())[0] == 200
                    if way == "grace":
                        end.set()
                    else:
                        nursery.cancel_scope.cancel()
                    with trio.CancelScope(shield=True), pytest.raises(EOFError):
                        await client.frame()
    finally:
        gc.enable()


def one_client() -> Config:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.1
    config.errorlog = logging.getLogger("hypercorn")
    return config


def endless() -> QuartTrio:
    app = QuartTrio("tests")

    @app.get("/")
    async def index() -> AsyncGenerator[bytes]:
        await trio.lowlevel.checkpoint()
        return forever()

    async def forever() -> AsyncGenerator[bytes]:
        yield b"more"
        await trio.sleep_forever()

    return app
