"""Checks of plain English: no phrases translated word by word, and docstrings that name things."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VOCABULARY = {  # what is not to be written, and what is
    r"anew": "again, or a verb with re-",
    r"one's own": "your own, or a user's own",
    r"so many (?:env steps|episodes|finished|rows|steps|time steps|units|updates)": "that many",
    r"of today": "current",
    r"in a line": "in one line",
    r"without a word": "without notice",
    r"(?:is|are) told": "reported",
    r"goes on": "continues",
    r"go on (?:after|from|in|with)": "continue",
    r"but for": "except for",
    r"some \d\S*": "about",
    r"who wants": "if you want",
    r"whoever wants": "if you want",
    r"as that which": "as one that",
    r"makes? no use": "ignores",
    r"flatters itself": "is optimistic",
    r"what it brings": "measured effect",
    r"the way of the": "how the",
    r"seeds 1 to 1": "seed 1",
    r"stays over": "stays ended",
    r"up to and with": "up to and including",
    r"(?:does not|doesn't) tell(?! (?:the next|apart))": "doesn't state",
    r"(?:tasks?|tables?) tells?": "states",
    r"tells? about itself": "states",
    r"\w*Error: if (?:it|one) is (?:one|another)": "name the case",
}


def read_by_people() -> Iterator[Path]:
    """Pages, configs, examples, and the package's modules."""
    yield from ROOT.glob("*.md")
    yield from (ROOT / "docs").rglob("*.md")
    yield from (ROOT / "configs").rglob("*.yaml")
    yield from (ROOT / "examples").glob("*.py")
    yield from (ROOT / "seqrl_lightning").rglob("*.py")


def violations(text: str) -> list[str]:
    """The phrases in a text that the vocabulary rejects, also across the end of a line."""
    plain = re.sub(r"\s+(?:# )?", " ", text)
    found = ((re.search(rf"\b{phrase}\b", plain, re.IGNORECASE), better) for phrase, better in VOCABULARY.items())
    return [f"{match[0]!r}: write {better!r}" for match, better in found if match]


def test_phrases_are_found_also_across_lines() -> None:
    assert violations("It goes\n    # on.") == ["'goes on': write 'continues'"]
    assert violations("It takes so many\nsteps.") == ["'so many steps': write 'that many'"]
    assert violations("So many rules that nothing is left. Some seeds continue.") == []


@pytest.mark.parametrize("path", sorted(read_by_people()), ids=lambda path: str(path.relative_to(ROOT)))
def test_phrases(path: Path) -> None:
    assert violations(path.read_text()) == []


def test_docstrings_name_things_or_are_imperatives() -> None:
    for path in (ROOT / "seqrl_lightning").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                first_line = (ast.get_docstring(node) or "").split("\n")[0]
                assert not re.match(r"(?:How|That|What|Which|Who|Whose|Where)\b", first_line), f"{path}: {first_line}"
