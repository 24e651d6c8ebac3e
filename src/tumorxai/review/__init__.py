"""Stage ``review``: the worst errors and suspected labels."""
