"""Stage ``dedupe``: images that are copies of each other."""
