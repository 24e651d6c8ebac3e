"""Stage ``scores``: every score of every protocol, and comparisons."""
