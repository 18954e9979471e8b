"""Networks: specs, blocks, the darknet bridge, costs and the zoo of published detectors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
