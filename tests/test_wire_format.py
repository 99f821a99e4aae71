"""docs/wire-format.md specifies what the code does: its tables are compared with it."""

import json
from typing import Any, get_args

import msgspec.inspect
import pytest
from pages import ROOT, code, table
from quart_trio import QuartTrio

from vizpipe_trio import Event, Missed, Pipe, PipeStatistics, StageInfo
from vizpipe_trio._filter import _VALUES
from vizpipe_trio._log import Log
from vizpipe_trio._request import MAX_LAST_EVENT_ID, MAX_PARAMETERS, MAX_QUERY
from vizpipe_trio._sse import MAX_EVENT, MAX_LABELS
from vizpipe_trio._stream import STREAM_HEADERS
from vizpipe_trio.quart import viz_blueprint
from vizpipe_trio.redis import RelayStatistics

PAGE = "wire-format.md"
EVENTS = "/api/viz/events"
STRUCTS = {"StageInfo": "stage", "RelayStatistics": "relay's account"}
NAMES: dict[type[msgspec.inspect.Type], str] = {
    msgspec.inspect.BoolType: "boolean",
    msgspec.inspect.DateTimeType: "date-time",
    msgspec.inspect.FloatType: "number",
    msgspec.inspect.IntType: "integer",
    msgspec.inspect.StrType: "string",
}


def described(kind: msgspec.inspect.Type) -> str:
    """Return a type as the specification says it."""
    match kind:
        case msgspec.inspect.LiteralType(values):
            return " or ".join(f"`{json.dumps(value)}`" for value in sorted(values, key=str))
        case msgspec.inspect.UnionType(types):
            [some] = [one for one in types if not isinstance(one, msgspec.inspect.NoneType)]
            return f"{described(some)}, or null"
        case msgspec.inspect.CollectionType(item_type=item) | msgspec.inspect.VarTupleType(item_type=item):
            return f"array of {described(item)}"
        case msgspec.inspect.StructType(cls):
            return STRUCTS[cls.__name__]
        case _:
            return NAMES[type(kind)]


def default_of(field: msgspec.inspect.Field) -> str:
    if field.required:
        return "required"
    return "now" if field.default is msgspec.NODEFAULT else f"`{json.dumps(field.default)}`"


@pytest.mark.parametrize("struct", [Event, StageInfo, Missed, PipeStatistics, RelayStatistics])
def test_the_fields_of_an_object_are_those_of_its_class(struct: type[msgspec.Struct]) -> None:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    expected = [[f"`{field.encode_name}`", described(field.type), default_of(field)] for field in info.fields]
    order = [row[:3] for row in table(PAGE, struct.__name__)]
    # What a client gets first is said first, but for a gap, whose order is that of its frame.
    assert order == expected or (struct is Missed and order == expected[::-1])


def test_the_filters_are_those_that_a_server_knows() -> None:
    expected = {
        name: " or ".join(f"`{value}`" for value in sorted(values or ())) or "any"
        for name, values in _VALUES.items()
    }
    assert {code(name): values for name, values in table(PAGE, "filters")} == expected


def test_the_headers_are_those_of_a_stream() -> None:
    assert {code(name): code(value) for name, value, _ in table(PAGE, "headers")} == STREAM_HEADERS


def test_the_bounds_are_those_that_are_kept() -> None:
    text = (ROOT / "docs" / PAGE).read_text()
    for bound in (
        f"at most {MAX_EVENT:,} bytes", f"at most {MAX_LABELS:,};", f"{MAX_QUERY:,} bytes of query",
        f"{MAX_PARAMETERS} parameters", f"{MAX_LAST_EVENT_ID} characters of an ID",
    ):  # fmt: skip
        assert bound in text, bound


def test_an_id_has_the_form_that_is_specified() -> None:
    assert Log(1).event_id(1).decode().rpartition("-")[2] == "1"
    assert len(Log(1).run) == 8
    assert set(get_args(Missed.__annotations__["reason"])) == {"slow", "overload", "history", "relay"}


async def test_every_status_that_is_specified_is_answered_and_in_the_order_that_is_said() -> None:
    pipe = Pipe()
    guarded, local = QuartTrio("guarded"), QuartTrio("local")
    guarded.register_blueprint(viz_blueprint(pipe, token="sesame"))
    local.register_blueprint(viz_blueprint(pipe, token=None))

    async def status(app: QuartTrio, query: str = "", method: str = "HEAD", **request: Any) -> int:
        # Quart's types have a bare dict in them.
        client = app.test_client()
        response = await client.open(EVENTS + query, method=method, **request)  # pyright: ignore[reportUnknownMemberType]
        return response.status_code

    good = {"Authorization": "Bearer sesame"}
    body = {**good, "Content-Length": "1"}
    long = "?source=" + "x" * MAX_QUERY
    answered = [
        await status(guarded, long, method="POST"),
        await status(guarded, long),
        await status(guarded, "?no=1", headers={"Content-Length": "1"}),
        await status(local, "?no=1", scope_base={"client": ("192.0.2.1", 1)}),
        await status(guarded, "?no=1", headers=body, http_version="2"),
        await status(guarded, "?no=1", headers=good, http_version="2"),
        await status(guarded, "?no=1", headers=good),
        await status(guarded, "?token=sesame"),
    ]
    pipe.stop()
    answered.append(await status(guarded, headers=good))
    assert answered == [405, 414, 401, 403, 413, 505, 400, 200, 503]
    assert sorted(answered) == [int(code(row[0])) for row in table(PAGE, "statuses")]
