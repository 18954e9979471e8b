from .runs import run as run
