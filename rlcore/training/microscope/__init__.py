"""The credit microscope: the prefix tree of a group of responses, its tokens coloured by their credit, as one page."""

from rlcore.training.microscope.data import prepare_group
from rlcore.training.microscope.estimators import describe
from rlcore.training.microscope.estimators import NOTES
from rlcore.training.microscope.estimators import redistributed
from rlcore.training.microscope.estimators import same
from rlcore.training.microscope.estimators import STANDARD
from rlcore.training.microscope.estimators import step_level
from rlcore.training.microscope.page import build_page
from rlcore.training.microscope.page import Frame
from rlcore.training.microscope.page import render

__all__ = (
    "Frame",
    "NOTES",
    "STANDARD",
    "build_page",
    "describe",
    "prepare_group",
    "redistributed",
    "render",
    "same",
    "step_level",
)
