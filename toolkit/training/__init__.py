"""Training of detectors and landmark networks."""
