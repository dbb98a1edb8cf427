"""A training step of the reference and of fewstep, in turns on the same model, pictures and threads.

    cargo xtask bench

`cargo xtask bench` builds fewstep and runs this with its path. For each method and dtype every side runs once
a round, in turns; a run's first step warms up and does not count. The peer is train_loop.py in its best
documented settings (`--cast_teacher_unet`); it also runs with memory that is kept once it was asked for, as
the program `fewstep` sets glibc up. fewstep also runs with a full cache of latents and embeddings.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from peer.bench_models import half_width_sd
from peer.photos import write_shard

HERE = Path(__file__).resolve().parent
KEPT = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "68719476736"}
SIDES = ("reference", "reference, memory kept", "fewstep", "fewstep, cached")


@dataclass
class Run:
    """What one process took."""

    start: float
    steps: list[float]
    peak: float


@dataclass
class Runs:
    """What all runs of a side took."""

    start: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """Take note of a run; its first step was a warm-up."""
        self.start.append(run.start)
        self.steps.extend(run.steps[1:] or run.steps)
        self.peak.append(run.peak)


def measured(command: list[str], variables: dict[str, str], log: Path) -> tuple[float, float]:
    """Run a command to its end and return when it was started and its peak of resident memory in GB."""
    began = time.time()
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **variables})
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    return began, usage.ru_maxrss * 1024 / 1e9


class Bench:
    """Where everything lies, and how a side is run."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Make the model and the pictures where they are missing."""
        self.options = options
        self.work = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        tokenizer = HERE.parents[1] / "tests/fixtures/models/tiny-sd/tokenizer"
        self.model = options.model or half_width_sd(self.work / "half-width-sd", tokenizer)
        self.shard = self.work / "web.tar"
        if not self.shard.exists():
            write_shard(self.shard.with_suffix(".part"), "web", 64)
            self.shard.with_suffix(".part").rename(self.shard)

    def common(self, method: str, precision: str) -> list[str]:
        """Return the flags that both sides know."""
        options = self.options
        return [
            f"--pretrained_teacher_model={self.model}",
            f"--method={method}",
            f"--mixed_precision={precision}",
            f"--resolution={options.resolution}",
            f"--train_batch_size={options.batch}",
            f"--max_train_steps={options.steps + 1}",
            "--learning_rate=1e-5",
            "--loss_type=huber",
        ]

    def reference(self, method: str, precision: str, variables: dict[str, str]) -> Run:
        """Run the peer."""
        lines = self.work / "reference.jsonl"
        command = [sys.executable, str(HERE / "train_loop.py"), *self.common(method, precision)]
        command += [f"--train_shards={self.shard}", f"--output={lines}", f"--threads={threads()}"]
        command += ["--cast_teacher_unet"]
        began, peak = measured(command, variables, self.work / "reference.log")
        steps = [json.loads(line) for line in lines.read_text().splitlines()]
        start = steps[0]["time"] - steps[0]["seconds"] - began
        return Run(start, [step["seconds"] for step in steps], peak)

    def fewstep(self, method: str, precision: str, cached: bool) -> Run:
        """Run fewstep in a new folder; the cache is filled before, and that is not measured."""
        out = self.work / "run"
        shutil.rmtree(out, ignore_errors=True)
        given = [*self.common(method, precision), f"--train_shards_path_or_url={self.shard}", "--device=cpu"]
        if cached:
            folder = [f"--cache_dir={self.work / 'cache'}", "--center_crop"]
            kept = [
                flag
                for flag in given
                if not flag.startswith(("--method", "--max_train", "--learn", "--loss"))
            ]
            measured([self.options.fewstep, "cache", *kept, *folder], {}, self.work / "fill.log")
            given += folder
        given += ["--checkpointing_steps=0", f"--output_dir={out}"]
        began, peak = measured([self.options.fewstep, "train", *given], {}, self.work / "fewstep.log")
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        ends = [line["time"] for line in lines if "loss" in line]
        first = self.options.batch / next(line["samples_per_s"] for line in lines if "loss" in line)
        steps = [first, *(end - before for before, end in zip(ends, ends[1:], strict=False))]
        return Run(ends[0] - first - began, steps, peak)

    def run(self, side: str, method: str, precision: str) -> Run:
        """Run a side once."""
        match side:
            case "reference":
                return self.reference(method, precision, {})
            case "reference, memory kept":
                return self.reference(method, precision, KEPT)
            case "fewstep":
                return self.fewstep(method, precision, cached=False)
        return self.fewstep(method, precision, cached=True)


def threads() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def spread(values: list[float], digits: int) -> str:
    """Return median and range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(found: dict[str, Runs]) -> str:
    """Return the rows of one method and dtype; ratios are to the reference as its users run it."""
    base = found["reference"]
    rows = []
    for side, runs in found.items():
        ratios = [
            statistics.median(ours) / statistics.median(theirs)
            for ours, theirs in ((runs.steps, base.steps), (runs.peak, base.peak), (runs.start, base.start))
        ]
        cells = [side, spread(runs.steps, 2), f"{ratios[0]:.2f}", spread(runs.peak, 2), f"{ratios[1]:.2f}"]
        cells += [spread(runs.start, 1), f"{ratios[2]:.2f}"]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    """Run all sides in turns and print a table for each method and dtype."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fewstep", required=True, help="the built program")
    parser.add_argument(
        "--work", type=Path, default=Path("target/bench"), help="where model and pictures lie"
    )
    parser.add_argument("--model", type=Path, help="another teacher in diffusers' layout")
    parser.add_argument("--methods", nargs="+", default=["full", "lora"], choices=["full", "lora"])
    parser.add_argument("--precisions", nargs="+", default=["no", "bf16"], choices=["no", "bf16"])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="measured steps in a run")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=256)
    options = parser.parse_args()
    bench = Bench(options)
    for method in options.methods:
        for precision in options.precisions:
            found = {side: Runs() for side in options.sides}
            for _ in range(options.rounds):
                for side, runs in found.items():
                    runs.add(bench.run(side, method, precision))
            print(f"\n{method}, {'f32' if precision == 'no' else precision}\n")
            print(
                "| side | seconds a step | times | peak, GB | times | start, s | times |\n" + "|---" * 7 + "|"
            )
            print(table(found), flush=True)


if __name__ == "__main__":
    main()
