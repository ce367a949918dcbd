"""Results drawn with matplotlib: plots of numbers, and panels of images in joint colours."""
