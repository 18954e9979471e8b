"""Exported networks: one folder each, written whole, compared with torch, opened again as a detector."""

from toolkit.moved import face_with_old_names

__getattr__, __dir__, __all__ = face_with_old_names(__name__, __file__)
