"""LiteRT (TensorFlow Lite): files for phones and microcontrollers, channels last."""
