from .faces import detect_faces as detect_faces
from .inference.run import detect as detect
from .models.darknet.network import load_darknet as load_darknet
from .models.zoo import create_model as create_model
from .models.zoo import list_models as list_models
from .networks import open_network as open_network

__version__: str
