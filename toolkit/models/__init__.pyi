from . import cost as cost
from .darknet.network import load_darknet as load_darknet
from .zoo import create_model as create_model
from .zoo import list_models as list_models
