"""Scores of an answer."""

from rlcore.verifiers.arithmetic import Evaluation
from rlcore.verifiers.arithmetic import evaluate_expression

__all__ = ["Evaluation", "evaluate_expression"]
