"""Loss functions on raw outputs."""
