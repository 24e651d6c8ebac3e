"""Stage ``audit``: what leaks between the sides."""
