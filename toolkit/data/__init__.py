"""Data sets: reading, checking, curating, splitting, augmenting and making them."""
