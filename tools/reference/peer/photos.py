"""Shards of JPEGs with the statistics of photographs: a spectrum that falls as theirs, edges, and grain."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

# (width, height) by kind of shard: what data sets for 512 pixels hold, and photographs as cameras make them.
SIZES = {
    "web": (
        (512, 512),
        (640, 512),
        (768, 512),
        (683, 1024),
        (1024, 768),
        (1024, 1024),
        (1200, 800),
        (900, 1200),
    ),
    "large": ((2048, 1365), (1536, 2048), (1920, 1080), (2048, 2048)),
}
# JPEG's quality, and whether its chroma has half the resolution: as often as given.
ENCODINGS = ((85, 2), (90, 2), (75, 2), (92, 0))


def spectrum(rng: np.random.Generator, width: int, height: int, fall: float) -> np.ndarray:
    """Draw a field of mean 0 and deviation 1; its amplitudes fall as frequency to the power of `fall`."""
    down = np.fft.fftfreq(height)[:, None] * height
    across = np.fft.rfftfreq(width)[None, :] * width
    frequency = np.hypot(down, across)
    frequency[0, 0] = 1
    shape = (height, width // 2 + 1)
    waves = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / frequency**fall
    waves[0, 0] = 0
    field = np.fft.irfft2(waves, s=(height, width))
    return field / field.std()


def photo(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw luma with a spectrum of photographs, softer chroma, a dozen shapes with hard edges, and grain."""
    luma = 128 + 38 * spectrum(rng, width, height, 1.25)
    blue, red = (14 * spectrum(rng, width, height, 1.6) for _ in range(2))
    colours = np.stack([luma + 1.402 * red, luma - 0.344 * blue - 0.714 * red, luma + 1.772 * blue], -1)
    image = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    largest = max(width, height)
    for number in range(12):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        radius = int(rng.integers(largest // 40, largest // 6))
        box = (x - radius, y - radius, x + radius, y + int(radius * rng.uniform(0.4, 1)))
        shape = draw.ellipse if number % 2 else draw.rectangle
        shape(box, fill=tuple(int(value) for value in rng.integers(20, 235, 3)))
    grain = rng.normal(0, 2.5, (height, width, 1))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def write_shard(path: Path, kind: str, count: int) -> None:
    """Write a tar of `count` captioned pictures, the same at every call."""
    rng = np.random.default_rng(sum(kind.encode()))
    sizes = SIZES[kind]
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            file = io.BytesIO()
            quality, subsampling = ENCODINGS[number // len(sizes) % len(ENCODINGS)]
            image = photo(rng, *sizes[number % len(sizes)])
            image.save(file, "JPEG", quality=quality, subsampling=subsampling)
            caption = f"picture {number} of the kind {kind}".encode()
            for extension, content in (("jpg", file.getvalue()), ("txt", caption)):
                member = tarfile.TarInfo(f"{number:06}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
