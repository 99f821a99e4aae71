"""The public API in words: a line for each name that users rely on. `make api` writes it to docs/api.txt.

It is read from the source, so that it is the same with every Python and every version of what we need.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parent.parent
PACKAGE = "vizpipe_trio"
NOW = ROOT / "docs" / "api.txt"
RELEASED = ROOT / "docs" / "api-released.txt"

SPECIAL = re.compile(r"__(?!init__|post_init__)\w+__")
"""Methods that an operator or a statement calls."""


def describe(search_path: Path = ROOT) -> list[str]:
    """Return the API of the package that lies in a directory."""
    package = griffe.load(
        PACKAGE, search_paths=[str(search_path)], try_relative_path=False, resolve_aliases=True
    )
    modules = [
        package,
        *(module for name, module in sorted(package.modules.items()) if not name.startswith("_")),
    ]
    lines: list[str] = []
    for module in modules:
        for name in sorted(map(str, module.exports or ())):
            lines += _described(module[name], f"{module.path}.{name}")
    return lines


def names(lines: list[str]) -> dict[str, str]:
    """Return the lines of a description by the names that they describe."""
    found = {re.search(rf"{PACKAGE}[\w.]*", line): line for line in lines}
    return {match[0]: line for match, line in found.items() if match}


def changed(before: list[str], after: list[str]) -> list[str]:
    """Return the names that came, went, or changed; a class that came or went stands for its members."""
    old, new = names(before), names(after)
    differ = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    one_sided = {name for name in differ if name not in old or name not in new}
    return [name for name in differ if name.rpartition(".")[0] not in one_sided]


def untold(names: list[str], notes: str) -> list[str]:
    """Return the names that release notes do not have in a code span: `emit` alone is not `Pipe.emit`."""
    told = " ".join(re.findall(r"`([^`]+)`", notes))
    return [name for name in names if not re.search(rf"(?<![\w.])([\w.]+\.)?{_short(name)}\b", told)]


def _short(name: str) -> str:
    """Return a name without its module; a method with its class."""
    *_, owner, last = name.split(".")
    return f"{owner}\\.{last}" if owner[0].isupper() else last


def _described(it: griffe.Object | griffe.Alias, path: str) -> Iterator[str]:
    match it.final_target if isinstance(it, griffe.Alias) else it:
        case griffe.Class() as kind:
            yield f"class {path}({_parameters(kind)})" + "".join(f" is a {base}" for base in kind.bases)
            for name, member in sorted({**kind.inherited_members, **kind.members}.items()):
                if not name.startswith("_") or (member.is_function and SPECIAL.fullmatch(name)):
                    yield from _described(member, f"{path}.{name}")
        case griffe.Function() as function:
            # Not those that change nothing for a caller.
            others = [str(decorator.value) for decorator in function.decorators]
            decorators = "".join(f"@{name} " for name in others if not name.startswith("trio.lowlevel."))
            keywords = "async def" if "async" in function.labels else "def"
            yield f"{decorators}{keywords} {function.signature(return_type=True, name=path)}"
        case griffe.Attribute() as value:
            annotation = "" if value.annotation is None else f": {value.annotation}"
            default = f" = {value.value}" if _has_default(value) else ""
            read_only = " (read only)" if value.labels & {"property", "writable"} == {"property"} else ""
            yield f"{path}{annotation}{default}{read_only}"
        case other:
            raise TypeError(f"{path} is a {other.kind}")


def _parameters(kind: griffe.Class) -> str:
    """Return what a class is made with: of a struct, its fields in order."""
    if kind.docstring is not None and "Made by `" in kind.docstring.value:
        return "..."  # not by users
    if signature := kind.signature(name="_"):
        return signature[2:-1]
    return ", ".join(name for name, member in kind.members.items() if member.is_attribute and name[0] != "_")


def _has_default(value: griffe.Attribute) -> bool:
    """Tell a default from a value that an instance is given, and from the version."""
    of_an_instance = "instance-attribute" in value.labels and "class-attribute" not in value.labels
    return value.value is not None and not of_an_instance and not value.name.startswith("__")


if __name__ == "__main__":
    NOW.write_text("".join(f"{line}\n" for line in describe()))
