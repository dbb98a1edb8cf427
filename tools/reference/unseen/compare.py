"""How far two results are apart, and the table of all comparisons."""

from dataclasses import dataclass, field

import torch


def distance(found: torch.Tensor, wanted: torch.Tensor, floor: float = 0.0) -> float:
    """Return the largest difference over the largest value of what is wanted; infinite when shapes differ.

    Where that value is below `floor`, the difference is taken over `floor`.
    """
    if found.shape != wanted.shape:
        return float("inf")
    difference = (found.double() - wanted.double()).abs().max().item()
    scale = max(wanted.double().abs().max().item(), floor)
    return difference / scale if scale > 0 else difference


@dataclass
class Table:
    """Rows of (what, distance, tolerance, remark), and whether all are within."""

    rows: list[tuple[str, float, float, str]] = field(default_factory=list)

    def add(self, what: str, value: float, tolerance: float, remark: str = "") -> None:
        """Record and print one comparison; a value that is not a number fails."""
        self.rows.append((what, value, tolerance, remark))
        verdict = "ok  " if value <= tolerance else "FAIL"
        print(f"{verdict} {what:44} {value:9.2e} (<= {tolerance:.0e}) {remark}", flush=True)

    def fail(self, what: str, remark: str) -> None:
        """Record that there was nothing to compare."""
        self.add(what, float("inf"), 0.0, remark)

    def failures(self) -> int:
        """Count the rows beyond their tolerance."""
        return sum(not value <= tolerance for _, value, tolerance, _ in self.rows)
