"""Copy code into the docs: ``python -m docs.scripts.code``.

A page names what it shows between two markers, ``<!-- code: FILE NAME... -->`` and ``<!-- end of code -->``: functions,
classes and methods of a file, without their docstrings, or, if it names none, the whole file. The block between the
markers is not edited by hand.
"""

import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOWN = re.compile(r"(<!-- code: (\S+)(.*?) -->\n).*?(<!-- end of code -->)", re.DOTALL)
Definition = ast.FunctionDef | ast.ClassDef


def main() -> None:
    """Write it into all pages."""
    for path in (ROOT / "docs").rglob("*.md"):
        path.write_text(with_code(path.read_text()))


def with_code(text: str) -> str:
    """Return a page's text with the present code between its markers."""
    return SHOWN.sub(lambda found: f"{found[1]}```python\n{code(found[2], found[3].split())}\n```\n{found[4]}", text)


def code(file: str, names: list[str]) -> str:
    """Return the code of a file, or of some of its functions, classes and methods, like ``DQN.target``.

    Raises:
        ValueError: If the file doesn't define a name.
    """
    source = (ROOT / file).read_text().rstrip()
    if not names:
        return source
    module, lines = ast.parse(source), source.splitlines()
    return "\n\n\n".join([f"# {file}", *(_without_docstring(find(module, name), lines) for name in names)])


def find(module: ast.Module, name: str) -> Definition:
    """Return the definition of a dotted name.

    Raises:
        ValueError: If there is none.
    """
    node: ast.Module | Definition = module
    for part in name.split("."):
        defined = {child.name: child for child in node.body if isinstance(child, Definition)}
        if part not in defined:
            raise ValueError(f"nothing defines {name}")
        node = defined[part]
    assert not isinstance(node, ast.Module)
    return node


def _without_docstring(node: Definition, lines: list[str]) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    shown = range(first, (node.end_lineno or first) + 1)
    docstring = node.body[0] if ast.get_docstring(node) else None
    hidden = range(docstring.lineno, (docstring.end_lineno or 0) + 1) if docstring else range(0)
    return textwrap.dedent("\n".join(lines[number - 1] for number in shown if number not in hidden))


if __name__ == "__main__":
    main()
