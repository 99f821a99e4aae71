"""What is published: built, and installed into empty environments as users do."""

import re
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging_tools import ROOT, UV, Built, Environment, build, install, run

# What each extra promises, as code that runs where only it is installed.
EXTRAS = {
    "quart": "import vizpipe_trio.quart, vizpipe_trio.hypercorn, quart_trio",
    "redis": "import vizpipe_trio.redis",
    "client": "import vizpipe_trio.client",
    "opentelemetry": "import vizpipe_trio.opentelemetry",
    "cli": "import sys, vizpipe_trio._cli as cli; sys.exit(cli.main(['tail', '--help']))",
    "prometheus": "import vizpipe_trio.prometheus",
    "testing": """
import pathlib, pytest, sys
pathlib.Path("pyproject.toml").write_text("[tool.pytest.ini_options]\\ntrio_mode = true")
pathlib.Path("test_it.py").write_text('''
from vizpipe_trio.testing import make_event, wait_for_events
async def test_it(viz_pipe, viz_events):
    viz_pipe.emit(make_event())
    assert await wait_for_events(viz_events) == [make_event()]
''')
sys.exit(pytest.main(["-q", "-W", "ignore"]))
""",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def bare(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Give an environment with the wheel and no extra."""
    return install(tmp_path_factory.mktemp("bare"), str(built.wheel))


def test_the_index_takes_both_and_shows_their_readme(built: Built) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel)


def test_the_wheel_has_the_package_and_nothing_else(built: Built) -> None:
    package = ROOT / "vizpipe_trio"
    files = {path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.is_file()}
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
    ours = {name for name in names if name.startswith("vizpipe_trio/")}
    assert ours == {name for name in files if "__pycache__" not in name}
    assert {"vizpipe_trio/py.typed", "vizpipe_trio/dashboard/index.html"} <= ours
    assert {name.partition("/")[2] for name in names - ours} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE",
    }  # fmt: skip


def test_the_sdist_is_enough_to_build_the_same_wheel(built: Built, tmp_path: Path) -> None:
    run(UV, "build", "--quiet", "--python", sys.executable, "--wheel", "--out-dir", tmp_path, ROOT)
    [direct] = tmp_path.glob("*.whl")
    assert direct.name == built.wheel.name
    assert direct.read_bytes() == built.wheel.read_bytes()


def test_the_sdist_has_the_tests_and_what_they_read(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    for name in ("pyproject.toml", "Makefile", ".ci/system", "README.md", "SECURITY.md", "CHANGELOG.md"):
        assert name in names
    for directory in ("tests", "examples", "benchmarks", "fuzz", "docs"):
        assert {f"{directory}/{path.name}" for path in (ROOT / directory).glob("*.py")} <= names
    assert not [name for name in names if re.search(r"__pycache__|\.pyc|/?\.venv|\.coverage|\.cache", name)]


def test_the_version_is_said_in_one_place(built: Built, bare: Environment) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        [metadata] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        version = message_from_bytes(wheel.read(metadata))["Version"]
    assert bare.python("import vizpipe_trio; print(vizpipe_trio.__version__)") == f"{version}\n"
    released = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert [version] == released[:1] or not released


def test_each_extra_that_there_is_has_its_test(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        [metadata] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        extras = message_from_bytes(wheel.read(metadata)).get_all("Provides-Extra")
    assert extras is not None
    assert set(extras) == EXTRAS.keys()


@pytest.mark.parametrize("lowest", [False, True], ids=["newest", "lowest"])
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_enough_for_what_it_promises(
    extra: str, lowest: bool, built: Built, tmp_path: Path
) -> None:
    environment = install(tmp_path, f"{built.wheel}[{extra}]", lowest=lowest)
    environment.python(EXTRAS[extra])


def test_without_an_extra_there_is_the_package_with_trio_and_msgspec(bare: Environment) -> None:
    bare.python("import vizpipe_trio, vizpipe_trio.asgi, vizpipe_trio.testing")
    installed = run(UV, "pip", "list", "--quiet", "--format", "json", "--python", bare.bin / "python").stdout
    assert set(re.findall(r'"name":"(.*?)"', installed)) == {
        "vizpipe-trio", "trio", "msgspec", "attrs", "idna", "outcome", "sniffio", "sortedcontainers",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [
        ("quart", "Quart-Trio", "quart"),
        ("hypercorn", "Hypercorn", "quart"),
        ("redis", "coredis", "redis"),
        ("client", "httpx2", "client"),
        ("opentelemetry", "OpenTelemetry's SDK", "opentelemetry"),
        ("prometheus", "prometheus_client", "prometheus"),
        ("pytest_plugin", "pytest", "testing"),
    ],
)
def test_a_module_without_its_extra_says_what_to_install(
    module: str, name: str, extra: str, bare: Environment
) -> None:
    assert bare.python(f"import vizpipe_trio.{module}", check=False).endswith(
        f"ImportError: vizpipe_trio.{module} needs {name}: pip install 'vizpipe-trio[{extra}]'\n"
    )


def test_the_command_without_its_extra_says_what_to_install(bare: Environment) -> None:
    outcome = run(bare.bin / "vizpipe", "demo", cwd=bare.home, check=False)
    assert outcome.returncode == 1
    assert outcome.stdout == "vizpipe: No module named 'httpx2'; pip install 'vizpipe-trio[cli]'\n"
