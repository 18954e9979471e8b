from .columns import Detections as Detections
from .columns import Truth as Truth
from .score import evaluate as evaluate
from .score import in_originals as in_originals
from .score import predict as predict
from .score import wider_truth as wider_truth
