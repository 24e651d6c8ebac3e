"""Similar cases."""
