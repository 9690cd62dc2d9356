"""A shared model's network that has learned one image, from all of its truth."""

import torch
import torch.nn.functional as F

from backend.learning import networks


def taught_network(gray, truth, steps=40):
    """Train it for a few seconds.

    Args:
        gray: From 0 to 1, sides multiples of 128.
        truth: Class of each pixel.
        steps: Each on the whole image.
    """
    torch.manual_seed(0)
    network = networks.SharedNetwork(int(truth.max()) + 1, "imagenet")
    image, target = networks.to_input(gray), torch.from_numpy(truth)[None].long()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(image), target).backward()
        optimizer.step()
    return network.eval()
