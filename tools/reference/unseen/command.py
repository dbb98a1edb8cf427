"""Calls of the binary: tensors go in and come out as safetensors files."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from fixtures.common import save_tensors


class CommandError(Exception):
    """The binary did not end well; the message is its last lines."""


@dataclass
class Fewstep:
    """The path of the binary."""

    path: Path

    def run(self, *arguments: str) -> None:
        """Run the binary, and raise with its last words if it fails."""
        done = subprocess.run([self.path, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = (done.stderr + done.stdout).strip().splitlines()
            raise CommandError(f"exit {done.returncode}: {' | '.join(lines[-4:])}")

    def debug(self, what: str, inputs: dict[str, torch.Tensor], *arguments: str) -> dict[str, torch.Tensor]:
        """Run `fewstep debug WHAT` on tensors and return those it writes."""
        with tempfile.TemporaryDirectory() as folder:
            given, found = Path(folder, "in.safetensors"), Path(folder, "out.safetensors")
            if inputs:
                save_tensors(given, inputs)
                arguments = (*arguments, "--inputs", str(given))
            self.run("debug", what, *arguments, "--output", str(found))
            return load_file(found)
