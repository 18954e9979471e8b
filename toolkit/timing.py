"""The former place of toolkit.stopwatch; to be removed after 0.2."""

from toolkit.moved import at_old_place

__getattr__ = at_old_place(__name__)
