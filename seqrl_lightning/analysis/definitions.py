"""Definitions of the measures, in the words of captions: a report stands without the documentation."""

from seqrl_lightning.functional import CRITERION_EPISODES

GREEDY = "The greedy policy makes no random choices"
KINDS_OF_ERRORS = (
    "Every wrong choice has one kind, the first that fits. Distractor: the object is never right. Perseverative: the "
    "choice repeats an error of the same episode (the choice before, or one at the same position). Rule-breaking: an "
    "error has set the sequence back, and the last right object, which must be chosen again, was not. Exploration: any "
    "other error."
)
SAVINGS = (
    "Savings: (a - b) / max(a, b), where a and b are the episodes to criterion of the first and of the later block, "
    f"the number of the first of {CRITERION_EPISODES} mastered training episodes in a row; 0.5 is half as many "
    "episodes, and -0.5 twice as many."
)
TRIALS_TO_CRITERION = (
    " Trials to criterion: the choices of the block for which an action was right, up to the end of that episode."
)
FINAL_RETURN = (
    "Final return: the greedy policy's mean return in the last evaluation of a run, under the rule of its last block."
)
FRACTION_RIGHT = "Fraction right: of the greedy policy's choices in whole episodes of that evaluation."
SHARE_OF_ERRORS = "Share of errors: of all training choices for which an action was right, random ones included."
SHARES_OF_KINDS = f"Shares of kinds of errors: of all choices in whole training episodes. {KINDS_OF_ERRORS}"
PREVIOUS_ORDER = (
    "Errors by the previous order: choices that were errors but were right at that position in the block before, "
    "which measures interference."
)
RANK_CORRELATION = (
    "Rank correlation with the previous order: Spearman's correlation, over the choices of the block's first five "
    "episodes, of the position at which an object was chosen with its rank in the order of the block before; 1 means "
    "as before the switch."
)


def episodes_to_criterion(mastery: str) -> str:
    """Define the criterion and the episodes to it.

    Args:
        mastery: The return of a mastered episode, in words.
    """
    return (
        f"Episodes to criterion: the number, from 1, of the first of {CRITERION_EPISODES} mastered training episodes "
        "in a row, counted from the start of the block over all environments; random choices count. An episode is "
        f"mastered if its return is at least {mastery}."
    )


def mean_return(axis: str) -> str:
    """Define the mean return over training.

    Args:
        axis: The label of the axis.
    """
    return (
        f"Mean return over {axis}: the area under the curve of the greedy policy's return in a block, under the "
        "block's rule, divided by its length; between two evaluations the earlier one holds."
    )
