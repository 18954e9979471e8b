"""Scores of detectors and landmark networks, from any engine, by the protocols of published tables."""

from toolkit.moved import face_with_old_names

__getattr__, __dir__, __all__ = face_with_old_names(__name__, __file__)
