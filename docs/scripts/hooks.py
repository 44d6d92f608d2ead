"""MkDocs hooks that adapt the pages, which are written to be read in the repository as well, to the site."""

import os
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
COPIED = ("configs", "examples")
"""Folders beside `docs` that pages link to: the site has a copy of their files."""

_EQUATION = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(rf"\]\(((?:\.\./)+)((?:{'|'.join(COPIED)})/[^)#]*)\)")
_ROLE = re.compile(r":\w+:(?=<code>)|(?<=<code>)~(?=\w)")


def on_files(files: Files, config: Any) -> Files:
    """Add the files that pages link to."""
    for folder in COPIED:
        for path in sorted(path for path in (ROOT / folder).rglob("*.*") if path.is_file()):
            name = path.relative_to(ROOT).as_posix()
            if "__pycache__" not in name:
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn equations into MathML, and lead links to other folders to their copies."""
    to_root = os.path.relpath(".", Path(page.file.src_uri).parent)
    markdown = _LINK.sub(lambda found: f"]({to_root}/{found[2]})", markdown)
    return _EQUATION.sub(lambda found: f"<p>{mathml(found[1])}</p>", markdown)


def mathml(latex: str) -> str:
    """Return an equation as MathML, with the spaces that the converter leaves out.

    Raises:
        ValueError: If it has a command that the converter doesn't know.
    """
    converted = convert(" ".join(latex.split()), display="block")
    if "<mi>\\" in converted:
        raise ValueError(f"the site can't show a command of {latex}")
    converted = converted.replace("<mi>;</mi>", "<mo>;</mo>")
    return converted.replace("<mi>log</mi>", '<mi>log</mi><mspace width="0.167em" />')


def on_page_content(html: str, **_: Any) -> str:
    """Remove the roles of docstrings (like ``:class:``), which are meant for readers of the code."""
    return _ROLE.sub("", html)
