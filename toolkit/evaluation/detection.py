"""The former place of what is now in several modules of toolkit.evaluation; to be removed after 0.2."""

from toolkit.moved import at_old_place

__getattr__ = at_old_place(__name__)
