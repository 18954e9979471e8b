from .cfg import parse_cfg as parse_cfg
from .cfg import read_names as read_names
from .network import CfgDetector as CfgDetector
from .network import load_darknet as load_darknet
from .weights import load_weights as load_weights
from .weights import save_weights as save_weights
from .write import save_darknet as save_darknet
from .write import to_cfg as to_cfg
