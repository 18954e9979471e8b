from .folder import Exported as Exported
from .folder import open_export as open_export
from .folder import write_threshold as write_threshold
from .parity import probe_input as probe_input
from .registry import FORMATS as FORMATS
from .registry import formats_of as formats_of
from .write import export_model as export_model
