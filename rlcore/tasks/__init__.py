"""Prompts and the verifiers of their answers."""

from rlcore.tasks.countdown import make_countdown

__all__ = ["make_countdown"]
