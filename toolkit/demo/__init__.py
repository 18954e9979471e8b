"""The demo: the whole chain on the toy set, from pictures to a timed detector, and a page about it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
