"""A notebook lab for object detectors that fit a phone."""

import lazy_loader

from toolkit.machine import prepare_engines

__version__ = "0.2.0"

prepare_engines()  # before torch is loaded: afterwards it is too late
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
