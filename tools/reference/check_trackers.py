"""Reads a run's trackers with TensorBoard's and Weights & Biases' own packages, beside its metrics.jsonl.

    python check_trackers.py OUT

Needs `pip install tensorboard wandb`; what of OUT/logs is there is checked.
"""

import json
import struct
import sys
import zlib
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768


def steps_of(run):
    """Read the lines of the steps, by number."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if "loss" in line}


def check_tensorboard(file, steps):
    """Every step once, with the numbers of its line."""
    events = EventAccumulator(str(file.parent), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    for tag in ("loss", "lr", "grad_norm", "samples_per_s"):
        found = {event.step: event.value for event in events.Scalars(tag)}
        assert found.keys() == steps.keys(), (tag, sorted(found), sorted(steps))
        for step, value in found.items():
            assert abs(value - steps[step][tag]) <= 1e-6 * abs(steps[step][tag]), (tag, step)
    hparams = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(hparams)
    images = {tag: [image.step for image in events.Images(tag)] for tag in tags["images"]}
    print(f"tensorboard: {len(steps)} steps, images {images}, {len(start.hparams)} hyper-parameters")


def records(data):
    """Yield the records of an offline run, checksums checked."""
    place, record = 7, b""
    assert data[:7] == b":W&B\xe1\xbe\x00"
    while place + 7 <= len(data):
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        crc, length, kind = struct.unpack("<IHB", data[place : place + 7])
        piece = data[place + 7 : place + 7 + length]
        assert zlib.crc32(piece, zlib.crc32(bytes([kind]))) == crc, place
        place += 7 + length
        record += piece
        if kind in (1, 4):
            yield record
            record = b""


def check_wandb(file, steps):
    """Every step once, with its loss; every picture is there."""
    found, kinds = {}, {}
    for number, data in enumerate(records(file.read_bytes()), 1):
        record = Record.FromString(data)
        assert record.num == number
        kind = record.WhichOneof("record_type")
        kinds[kind] = kinds.get(kind, 0) + 1
        if kind == "history":
            items = {".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found[record.history.step.num] = items
        if kind == "files":
            for item in record.files.files:
                assert (file.parent / "files" / item.path).is_file(), item.path
    assert found.keys() == steps.keys(), (sorted(found), sorted(steps))
    for step, items in found.items():
        assert items["loss"] == steps[step]["loss"], step
    print(f"wandb: {kinds}")


def main():
    """Check what the run left."""
    run = Path(sys.argv[1])
    steps = steps_of(run)
    files = [(check_tensorboard, "events.out.tfevents.*"), (check_wandb, "run-*.wandb")]
    found = [(check, file) for check, pattern in files for file in sorted(run.rglob(pattern))]
    for check, file in found:
        check(file, steps)
    if not found:
        sys.exit(f"{run} has neither event files nor an offline run")


if __name__ == "__main__":
    main()
