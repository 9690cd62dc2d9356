"""The TEM equipment: images as files and as arrays, and synthetic images with known truth."""
