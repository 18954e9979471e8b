"""NCNN int8: calibrated, quantised and compared here, with the same bits on every processor."""
