"""A notebook lab for object detectors that fit a phone."""

from toolkit.detect import detect
from toolkit.faces import detect_faces
from toolkit.models import create_model, list_models, load_darknet

__all__ = ["create_model", "detect", "detect_faces", "list_models", "load_darknet"]
__version__ = "0.1.0"
