"""Shards for the peer: an endless, shuffled stream of pixels and captions, decoded in line by Pillow."""

import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
CAPTIONS = (".txt", ".text", ".caption")


def read_samples(shard: Path) -> Iterator[tuple[bytes, str]]:
    """Yield (encoded picture, caption) of a whole shard, in order."""
    picture, caption, key = None, None, None
    with tarfile.open(shard) as tar:
        for member in tar:
            stem, _, kind = member.name.partition(".")
            if stem != key:
                picture, caption, key = None, None, stem
            content = tar.extractfile(member)
            if content is None:
                continue
            if f".{kind.lower()}" in PICTURES:
                picture = content.read()
            elif f".{kind.lower()}" in CAPTIONS:
                caption = content.read().decode()
            if picture is not None and caption is not None:
                yield picture, caption
                picture, caption = None, None


def decode(content: bytes, resolution: int, rng: random.Random) -> torch.Tensor:
    """Decode, bring the shorter side to the resolution and cut a random square, [3, R, R] in [-1, 1]."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = (int(resolution * width / short), int(resolution * height / short))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = rng.randint(0, size[0] - resolution), rng.randint(0, size[1] - resolution)
    square = np.asarray(image.crop((left, top, left + resolution, top + resolution)))
    return torch.from_numpy(square.copy()).permute(2, 0, 1).float() / 127.5 - 1


def batches(
    shards: list[Path], batch: int, resolution: int, seed: int
) -> Iterator[tuple[torch.Tensor, list[str]]]:
    """Yield batches for ever; each pass over the shards is shuffled as a whole."""
    rng = random.Random(seed)
    samples = [sample for shard in shards for sample in read_samples(shard)]
    if len(samples) < batch:
        raise ValueError(f"the shards hold {len(samples)} samples, fewer than one batch of {batch}")
    while True:
        rng.shuffle(samples)
        for place in range(0, len(samples) - batch + 1, batch):
            chosen = samples[place : place + batch]
            pixels = torch.stack([decode(content, resolution, rng) for content, _ in chosen])
            yield pixels, [caption for _, caption in chosen]
