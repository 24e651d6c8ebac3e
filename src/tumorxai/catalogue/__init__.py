"""Stage ``catalogue``: every image listed, labelled and packed."""
