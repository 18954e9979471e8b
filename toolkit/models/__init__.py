"""Networks: specs, blocks, the darknet bridge, costs and the zoo of published detectors."""

from toolkit.models import cost
from toolkit.models.darknet import load_darknet
from toolkit.models.zoo import create_model, list_models

__all__ = ["cost", "create_model", "list_models", "load_darknet"]
