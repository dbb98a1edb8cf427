"""Write tests/fixtures: tiny models, golden values and shards.

    python tools/reference/make_fixtures.py            # everything
    python tools/reference/make_fixtures.py models unet

Every tensor is drawn from a label, so a second run on the same versions writes the same files.
"""

import argparse
import importlib

import torch

from peer.quiet import hush

KINDS = (
    "models",
    "unet",
    "clip",
    "vae",
    "tokens",
    "schedule",
    "lcm",
    "ddim",
    "maths",
    "optimizer",
    "eight_bits",
    "step",
    "loop",
    "pipeline",
    "canvas",
    "lora",
    "adapters",
    "resize",
    "sizes",
    "pictures",
    "shards",
    "parquet",
)


def main() -> None:
    """Run the makers named on the command line, or all of them in order."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"any of: {', '.join(KINDS)}")
    kinds = parser.parse_args().kinds or KINDS
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        parser.error(f"unknown kind {unknown[0]}; known are {', '.join(KINDS)}")
    torch.set_num_threads(1)
    hush()
    torch.use_deterministic_algorithms(True)
    for kind in kinds:
        importlib.import_module(f"fixtures.{kind}").make()
        print(f"made {kind}")


if __name__ == "__main__":
    main()
