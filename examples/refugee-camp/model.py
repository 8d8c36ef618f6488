"""A small U-Net that gives each pixel its probability of being a shelter.

Input  `input`  [N, 3, 256, 256] float32: RGB, each band z-scored with MEAN and STDDEV below.
Output `output` [N, 1, 256, 256] float32: probabilities in 0..1.

The sigmoid is the last layer of the network. Whoever runs it compares the output with a threshold and applies no
sigmoid again. The shape is that of Ronneberger et al. 2015 (arXiv:1505.04597), narrower, padded, with batch norm.
"""

import torch
from torch import nn

TILE_PX = 256

# ImageNet statistics, in the 0..255 units of the pixels: the division by 255 is already in them.
MEAN = (123.675, 116.28, 103.53)
STDDEV = (58.395, 57.12, 57.375)

WIDTHS = (8, 16, 32, 64, 96)  # channels at full resolution, then at each halving; most of the cost is in the first


class UNet(nn.Module):
    def __init__(self, widths=WIDTHS):
        super().__init__()
        self.down = nn.ModuleList(_block(a, b) for a, b in zip((3, *widths), widths))
        self.pool = nn.MaxPool2d(2)
        deep_to_shallow = widths[::-1]
        steps = list(zip(deep_to_shallow, deep_to_shallow[1:]))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, kernel_size=2, stride=2) for a, b in steps)
        self.up = nn.ModuleList(_block(2 * b, b) for _, b in steps)
        self.head = nn.Conv2d(widths[0], 1, kernel_size=1)

    def forward(self, x):
        skips = []
        for i, block in enumerate(self.down):
            x = block(self.pool(x) if i else x)
            skips.append(x)
        for grow, block, skip in zip(self.grow, self.up, skips[-2::-1]):
            x = block(torch.cat([skip, grow(x)], dim=1))
        return torch.sigmoid(self.head(x))


def normalise(pixels):
    """[N, H, W, 3] uint8 RGB to the network's input [N, 3, H, W] float32."""
    pixels = torch.as_tensor(pixels).permute(0, 3, 1, 2).float()
    mean, stddev = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STDDEV).view(3, 1, 1)
    return (pixels - mean) / stddev


def n_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def _block(n_in, n_out):
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(),
        nn.Conv2d(n_out, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(),
    )
