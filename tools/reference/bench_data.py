"""Pictures a second of one core: fewstep's data path and the reference's, in turns, on the same shards.

    cargo xtask bench-data

`cargo xtask bench-data` builds fewstep's side (an example of fewstep-data) and runs this with its path. Each
process is pinned to the same core. The shards are drawn once and kept in --shards. Both sides run with the
settings of glibc, and with memory that is kept once it was asked for, as the program `fewstep` sets glibc up.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BATCH = 16
RESOLUTION = 512
WINDOW = 100
KEPT = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "4294967296"}


def measure_reference(shard: str, batches: int) -> float:
    """Return the pictures a second of the reference's pipeline, after one batch to warm up."""
    import torch  # noqa: PLC0415

    from peer.webdata import batches as stream  # noqa: PLC0415

    torch.set_num_threads(1)
    source = stream([shard], BATCH, RESOLUTION, WINDOW)
    next(source)
    start = time.perf_counter()
    for _ in range(batches):
        pixels, _ = next(source)
        assert pixels.shape == (BATCH, 3, RESOLUTION, RESOLUTION)
    return BATCH * batches / (time.perf_counter() - start)


def run(command: list[str], core: int, variables: dict[str, str]) -> float:
    """Run a side pinned to a core, with these variables, and return the number that it prints."""
    done = subprocess.run(
        ["taskset", "-c", str(core), *command],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **variables},
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Draw the shards, run both sides in turns, and print a line for each kind of shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fewstep", help="the built example `throughput` of fewstep-data")
    parser.add_argument("--shards", type=Path, default=Path("target/bench-data"), help="where the shards lie")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each side")
    parser.add_argument("--batches", type=int, default=12, help="batches of 16 in a run")
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--reference", metavar="SHARD", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.reference:
        print(measure_reference(args.reference, args.batches))
        return
    if not args.fewstep:
        parser.error("--fewstep is missing: run `cargo xtask bench-data`")
    from peer.photos import SIZES, write_shard  # noqa: PLC0415

    args.shards.mkdir(parents=True, exist_ok=True)
    print("| shard | memory | reference | fewstep | times |\n|---|---|---|---|---|")
    for kind in SIZES:
        shard = args.shards / f"{kind}.tar"
        if not shard.exists():
            write_shard(shard.with_suffix(".part"), kind, 192)
            shard.with_suffix(".part").rename(shard)
        sides = {
            "reference": [
                sys.executable,
                __file__,
                "--reference",
                str(shard),
                "--batches",
                str(args.batches),
            ],
            "fewstep": [
                args.fewstep,
                str(shard),
                str(RESOLUTION),
                str(BATCH),
                str(args.batches),
                str(WINDOW),
            ],
        }
        kinds = {"glibc's": {}, "kept": KEPT}
        found = {(side, memory): [] for side in sides for memory in kinds}
        for _ in range(args.rounds):
            for (side, memory), values in found.items():
                values.append(run(sides[side], args.core, kinds[memory]))
        for memory in kinds:
            cells, medians = [], []
            for side in sides:
                values = found[side, memory]
                medians.append(statistics.median(values))
                cells.append(f"{medians[-1]:.1f} ({min(values):.1f} to {max(values):.1f})")
            print(f"| {kind} | {memory} | {' | '.join(cells)} | {medians[1] / medians[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
