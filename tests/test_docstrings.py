"""Docstrings of tasks, which may be written in any style."""

from seqrl_lightning.docstrings import description, summary


class Unparsable:
    """Cards are turned over in pairs.

    Args:
        num_decks: Number of decks.
        Whether to match by the color
        (colors) or by the rank (ranks)
    """


def test_a_docstring_that_cannot_be_parsed_is_its_own_description() -> None:
    assert summary(Unparsable) == "Cards are turned over in pairs."
    assert "(colors) or by the rank" in description(Unparsable)
