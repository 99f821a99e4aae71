"""The dashboard's files over real sockets."""

import re

from support import (
    get,
    make_app,
    serve,
)

from vizpipe_trio import Pipe


async def test_page_runs_only_its_own_code_and_says_where_it_came_from_to_nobody() -> None:
    async with serve(make_app(Pipe(), token="right")) as url:
        response = await get(url, "/viz/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_each_file_that_the_page_names_is_served() -> None:
    types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    async with serve(make_app(Pipe(), token="right")) as url:
        page = (await get(url, "/viz/")).text
        names = re.findall(r'(?:href|src)="([^"]*)"', page)
        assert len(names) >= 2
        for name in names:
            assert re.fullmatch(r"[a-z]+\.(css|js|svg)", name)
            response = await get(url, f"/viz/{name}")
            assert response.status_code == 200
            assert response.headers["content-type"] == types[name.rpartition(".")[2]] + "; charset=utf-8"
            assert "content-security-policy" in response.headers


async def test_page_has_no_code_or_style_that_its_policy_would_refuse() -> None:
    async with serve(make_app(Pipe())) as url:
        page = (await get(url, "/viz/")).text
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page) == []


async def test_page_without_its_slash_is_sent_on_to_where_it_was_asked_for() -> None:
    async with serve(make_app(Pipe(), url_prefix="/ops")) as url:
        response = await get(url, "/ops/viz?token=right")
    assert response.status_code == 308
    # Not with a host, a scheme or a path that only the server knows: behind a proxy they are others.
    assert response.headers["location"] == "viz/?token=right"
    assert response.headers["referrer-policy"] == "no-referrer"
