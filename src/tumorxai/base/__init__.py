"""What the stages share and needs numpy alone."""
