from .backend import DetectSettings as DetectSettings
from .results import annotate as annotate
from .run import annotate_video as annotate_video
from .run import detect as detect
