"""Images for networks that nobody looks at."""

import torch


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normally distributed values, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
