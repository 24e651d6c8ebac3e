"""Stage ``pretrain``: the self-supervised loop."""
