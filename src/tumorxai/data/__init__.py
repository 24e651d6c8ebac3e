"""Data: sources, archives, the pack, duplicates, splits and the leakage audit."""
