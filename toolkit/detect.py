"""The former place of toolkit.inference and toolkit.pictures; to be removed after 0.2."""

from toolkit.moved import at_old_place, callable_as

__getattr__ = at_old_place(__name__)
callable_as(__name__, "detect")
