"""Compare LoRA files that fewstep writes with what diffusers, PEFT and the reference's scripts make of them.

    python tools/reference/check_lora.py --fewstep target/debug/fewstep

Every file of tests/fixtures/lora is converted to both forms and loaded with `load_lora_weights`: no key may
be missing or left over, each module must have its scale, and the UNet must give the same output as with the
adapter that was never in a file. Then the key lists of full-size Stable Diffusion 1.5 and SDXL. Prints a
table; exits with 1 when a row is wrong.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from lora_files.full_size import check_full_size
from lora_files.outputs import check_outputs
from lora_files.texts import check_text_encoders
from peer.quiet import hush
from unseen.command import Fewstep
from unseen.compare import Table


def main() -> int:
    """Run all checks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fewstep", type=Path, required=True, help="the binary")
    arguments = parser.parse_args()
    hush()
    torch.set_num_threads(1)
    fewstep, table = Fewstep(arguments.fewstep.resolve()), Table()
    with tempfile.TemporaryDirectory() as folder:
        check_outputs(fewstep, Path(folder), table)
        check_text_encoders(fewstep, Path(folder), table)
        check_full_size(fewstep, Path(folder), table)
    print(f"{len(table.rows)} comparisons, {table.failures()} beyond tolerance")
    return 1 if table.failures() else 0


if __name__ == "__main__":
    raise SystemExit(main())
