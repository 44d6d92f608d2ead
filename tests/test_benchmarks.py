"""The benchmarks compare like with like."""

from benchmarks.update import HandWrittenGradient, Update, check


def test_the_variants_of_an_update_compute_the_same_gradients() -> None:
    check(Update(), HandWrittenGradient())
