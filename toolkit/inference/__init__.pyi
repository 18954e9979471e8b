from .backend import DetectSettings as DetectSettings
from .preprocess import preprocess as preprocess
from .results import annotate as annotate
from .run import annotate_video as annotate_video
from .run import detect as detect
from .run import run as run
