"""The bridge to darknet: any cfg to a torch network, weights in and out byte for byte, specs to cfg.

Semantics after AlexeyAB's darknet (parser.c, convolutional_layer.c, maxpool_layer.c, yolo_layer.c).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
