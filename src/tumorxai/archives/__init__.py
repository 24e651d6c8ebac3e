"""Archives of images: their names, what they hold, and how it is read."""
