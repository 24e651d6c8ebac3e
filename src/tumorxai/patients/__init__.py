"""Stage ``patients``: whose images they are, as far as it can be known."""
