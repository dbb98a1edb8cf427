"""Compare `fewstep debug forward|step|sample` with diffusers on random models that nobody has seen before.

    python tools/reference/check_unseen.py --fewstep target/debug/fewstep --seeds 5
    python tools/reference/check_unseen.py --fewstep target/debug/fewstep --first 40 --seeds 1 --only step

Prints a table; exits with 1 when a row is beyond its tolerance. `--keep DIR` leaves the models there.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from peer.quiet import hush
from unseen.command import Fewstep
from unseen.compare import Table
from unseen.forward import Forward
from unseen.model import make_model
from unseen.sample import check_sample
from unseen.step import check_step
from unseen.student import draw_lora, draw_whole

KINDS = ("forward", "step", "sample")


def check_seed(fewstep: Fewstep, folder: Path, seed: int, kinds: list[str], table: Table) -> None:
    """Make the model of one seed and run the checks on it."""
    model = make_model(folder, seed)
    print(f"seed {seed}: {'SDXL' if model.is_xl else 'SD'} {model.summary()}", flush=True)
    forward = Forward(fewstep, model, seed, table)
    if "forward" in kinds:
        forward.all()
    elif "sample" in kinds:
        forward.unet_with_guidance()
    if "step" in kinds:
        check_step(fewstep, model, seed, "step", draw_whole, table)
        check_step(fewstep, model, seed, "lora step", draw_lora, table)
    if "sample" in kinds:
        check_sample(fewstep, model, seed, table)


def main() -> int:
    """Run all seeds and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fewstep", type=Path, default=Path("target/debug/fewstep"), help="the binary")
    parser.add_argument("--seeds", type=int, default=3, help="how many models to draw")
    parser.add_argument("--first", type=int, default=1000, help="the first seed")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="which checks to run")
    parser.add_argument("--keep", type=Path, help="a folder to leave the models in")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    hush()
    fewstep, table = Fewstep(arguments.fewstep.resolve()), Table()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary)
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            folder = root / str(seed)
            check_seed(fewstep, folder, seed, arguments.only, table)
    failures = table.failures()
    print(f"{len(table.rows)} comparisons, {failures} beyond their tolerance")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
