"""A real nginx in front of a server, with the configuration that docs/deploy.md gives."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from support_http2 import Certificates

# The surroundings as in Debian's nginx.conf, but for what would be the whole machine's.
NGINX_CONF = """
user root;
daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    gzip on;
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    {site}
}}
"""


def documented_site() -> str:
    """Return the site that docs/deploy.md tells users to have."""
    text = (Path(__file__).parent.parent / "docs" / "deploy.md").read_text()
    site = re.search(r"```nginx\n(.*?)```", text, re.DOTALL)
    assert site is not None
    return site[1]


def find_command(name: str) -> str:
    """Return where a command is. Without it a test is skipped; in CI, where it is installed, failed."""
    command = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if command is None:
        if os.environ.get("CI"):
            pytest.fail(f"this needs {name}")
        pytest.skip(f"there is no {name}")
    return command


@asynccontextmanager
async def nginx(
    site: str, upstream: str, certificates: Certificates, folder: Path, error_level: str = "error"
) -> AsyncGenerator[str]:
    """Run nginx with a site while in the block, and give the site's address.

    What the site says of the outer world is replaced: where it listens, its certificate, its logs, the server.
    Errors fail the test, unless the site's own level is kept, ``crit``.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Handed down listening, as nginx does to its successor: no race for the port, no wait.
        port = listener.getsockname()[1]
        for there, here in (
            ("listen 443", f"listen 127.0.0.1:{port}"),
            ("/etc/ssl/viz.example.pem", str(certificates.certificate)),
            ("/etc/ssl/viz.example.key", str(certificates.key)),
            ("/var/log/nginx/viz.log", str(folder / "access.log")),
            ("http://127.0.0.1:8000", upstream),
        ):
            assert there in site
            site = site.replace(there, here)
        site = site.replace("/var/log/nginx/viz-error.log crit", f"{folder / 'error.log'} {error_level}")
        (folder / "nginx.conf").write_text(NGINX_CONF.format(site=site))
        command = [find_command("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
        async with trio.open_nursery() as nursery:
            process: subprocess.Popen[bytes] | trio.Process = await nursery.start(
                partial(
                    trio.run_process,
                    command,
                    check=False,
                    pass_fds=[listener.fileno()],
                    env={**os.environ, "NGINX": f"{listener.fileno()};"},
                )
            )
            yield f"https://127.0.0.1:{port}"
            process.terminate()
    assert "[error]" not in (folder / "error.log").read_text()
