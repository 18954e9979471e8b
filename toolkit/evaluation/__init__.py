"""Scores of detectors and landmark networks, from any engine, by the protocols of published tables."""

import lazy_loader

from toolkit.moved import at_old_place

_attach, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_old = at_old_place(__name__)


def __getattr__(name: str) -> object:
    try:
        return _attach(name)
    except AttributeError:
        return _old(name)
