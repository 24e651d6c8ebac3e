"""What the stages share and needs no PyTorch."""
