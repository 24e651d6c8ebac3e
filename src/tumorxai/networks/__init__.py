"""What the stages share and needs PyTorch."""
