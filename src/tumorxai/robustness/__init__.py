"""Stage ``robustness``: damaged and foreign images."""
