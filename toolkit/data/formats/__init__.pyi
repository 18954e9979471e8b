from .registry import FORMATS as FORMATS
from .registry import LabelFormat as LabelFormat
from .registry import detect_format as detect_format
from .registry import read as read
from .registry import write as write
