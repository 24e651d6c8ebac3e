"""Stage ``split``: the sides."""
