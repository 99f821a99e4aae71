"""Sphinx's configuration: ``make docs`` builds the site into ``docs/_build``, without the network."""

import inspect
import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from vizpipe_trio import __version__

project = "vizpipe-trio"
author = "The vizpipe-trio authors"
copyright = "the vizpipe-trio authors"  # noqa: A001 - Sphinx's name
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib_trio"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"vizpipe-trio {version}"
html_favicon = "../vizpipe_trio/dashboard/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False

# Links from page to page are those of Markdown, so that they lead somewhere without the site as well.
myst_heading_anchors = 3
OUTSIDE = {"SECURITY.md": "security.md", "benchmarks/README.md": "benchmarks.md"}
"""Files that are not in this directory, and the pages that include them."""

default_role = "any"  # a name in a docstring is one of ours, wherever that is
autodoc_use_legacy_class_based = True  # sphinxcontrib-trio extends those classes
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False

# Every name has to lead somewhere; those of other projects need not, since that would take the network.
nitpicky = True
OTHERS = (
    "collections|contextlib|datetime|logging|ssl|typing|types"
    "|trio|quart|hypercorn|httpx2|opentelemetry|prometheus_client"
)
nitpick_ignore_regex = [
    (r"any|py:.*", rf"({OTHERS})(\.\w+)+"),
    (r"py:.*", r"[a-z]+|\w+(Error|Iteration)|None|P|R"),  # Python's own
]


def stay_inside(_: Sphinx, __: str, source: list[str]) -> None:
    """Lead to a page of the site what leads to a file outside of it."""
    for file, page in OUTSIDE.items():
        source[0] = source[0].replace(f"](../{file}", f"]({page}")


def for_readers(
    _app: Sphinx,
    _what: str,
    _name: str,
    found: object,
    _options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Return a signature as a reader needs it.

    Without the bounds in its types, which the text has; with the values of our constants; and a
    context manager with what it gives.
    """
    module = inspect.getmodule(found)
    plain = re.sub(r"~?\w+\.Annotated\[(~?[\w.]+), [^]]*\]", r"\1", signature or "")
    plain = plain.replace("<factory>", "...")  # or it could not be parsed
    plain = re.sub(r"(?<== )[A-Z][A-Z_]+\b", lambda name: repr(getattr(module, name[0], name[0])), plain)
    return plain or None, re.sub(r"^~?[\w.]*Generator\[(.*)\]$", r"\1", returns or "") or None


def public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Resolve a type in a signature, which has the module that defines it and not the public one."""
    name = re.sub(r"^vizpipe_trio\._\w+\.", ".", node.get("reftarget", ""))
    if node.get("refdomain") != "py" or not name.startswith("."):
        return None
    node["refspecific"] = True
    return env.domains.python_domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", name.removeprefix("."), node, content
    )


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", stay_inside)
    app.connect("autodoc-process-signature", for_readers)
    app.connect("missing-reference", public_name)
