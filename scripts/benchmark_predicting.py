"""Measure on this machine how fast images are segmented, against the network's own forward pass.

    python scripts/benchmark_predicting.py --size 1024 --images 8 --repeat 5

Both see the same images in the same run, turn by turn: the bare network on tensors in memory, and
what `predict_images.py` does, which also reads the files, and writes labels and uncertainty. With
random weights uncertainty is noise, which compresses badly: give a --registry.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from backend.command_line import fail
from backend.learning import networks
from backend.learning.inference import segment_files
from backend.learning.registry import Registry
from backend.microscope.images import decode_image, to_gray
from backend.microscope.synthetic import make_image
from backend.trials.benchmark_table import Row, format_table
from backend.trials.demo_images import as_png

GOAL_RATIO = 1.25
"""Largest wanted: 0.8 of the throughput of the network alone."""
COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")


def draw(folder: Path, images: int, size_px: int) -> list[Path]:
    """Write synthetic gates of this side."""
    paths = [folder / f"{seed:03}.png" for seed in range(images)]
    for seed, path in enumerate(paths):
        drawn = make_image("gate", "A", seed=seed, shape=(size_px, size_px))
        path.write_bytes(as_png(drawn.image))
    return paths


def measure(network: networks.SharedNetwork, paths: Sequence[Path], repeat: int) -> list[Row]:
    """Medians of seconds an image, and of their ratio; everything is done once before."""
    import torch  # after backend, which tells OpenMP how to wait

    device = next(network.parameters()).device
    inputs = [
        networks.to_input(networks.pad_image(to_gray(decode_image(path.read_bytes())))).to(device)
        for path in paths
    ]
    bare, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeat + 1):
            start = time.perf_counter()
            with torch.inference_mode(), networks.mixed_precision(device):
                for image in inputs:
                    network(image).sum().item()  # waits for a GPU
            middle = time.perf_counter()
            failed = [why for _, why in segment_files(network, paths, Path(folder), COLORS) if why]
            if failed:
                raise OSError(failed[0])
            bare.append((middle - start) / len(paths))
            whole.append((time.perf_counter() - middle) / len(paths))
    ratios = [one / other for one, other in zip(whole[1:], bare[1:], strict=True)]
    where = f"{len(paths)} images"
    return [
        Row(where, "the network's forward pass", 1e3 * median(bare[1:]), "ms"),
        Row(where, "from file to files", 1e3 * median(whole[1:]), "ms"),
        Row(where, "their ratio", median(ratios), "times", GOAL_RATIO),
    ]


def load(registry: Path | None) -> networks.SharedNetwork:
    """The published model of a registry, or an untrained network: the weights cost no time.

    Raises:
        ValueError: There is none, or it cannot be read.
    """
    if registry is None:
        return networks.SharedNetwork(len(COLORS), "random").eval()
    card = Registry(registry).published()
    if card is None:
        raise ValueError(f"no model is published in {registry}")
    return Registry(registry).load(card)


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Measure how fast images are segmented.")
    parser.add_argument("--size", type=int, default=1024, metavar="PX", help="of the images (1024)")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="how many (8)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs (5)")
    parser.add_argument("--registry", type=Path, help="of shared models; without: random weights")
    options = parser.parse_args(arguments)
    try:
        network = load(options.registry).to(networks.fastest_device())
        with tempfile.TemporaryDirectory() as folder:
            paths = draw(Path(folder), max(options.images, 1), options.size)
            rows = measure(network, paths, max(options.repeat, 1))
    except (ValueError, OSError) as error:
        return fail(error)
    print(format_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
