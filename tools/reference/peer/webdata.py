"""The reference's data pipeline (WebDataset, Pillow, torchvision), in this process and without workers."""

import random
from collections.abc import Iterator

import torch
import webdataset as wds
from torch.utils.data import default_collate
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF


class Square:
    """The shorter side to the resolution, then a random square: [3, R, R] in [-1, 1]."""

    def __init__(self, resolution: int) -> None:
        """Keep the resolution."""
        self.resolution = resolution

    def __call__(self, image: object) -> torch.Tensor:
        """Transform one picture."""
        side = self.resolution
        image = TF.resize(image, side, interpolation=InterpolationMode.BILINEAR)
        place = transforms.RandomCrop.get_params(image, output_size=(side, side))
        return TF.normalize(TF.to_tensor(TF.crop(image, *place)), [0.5], [0.5])


def batches(shards: list[str], batch: int, resolution: int, window: int) -> Iterator[tuple]:
    """Yield (pixels, captions) for ever, in the stages of the reference's scripts for Stable Diffusion."""
    random.seed(0)
    pipeline = wds.DataPipeline(
        wds.ResampledShards(shards),
        wds.tarfile_to_samples(handler=wds.ignore_and_continue),
        wds.shuffle(window),
        wds.decode("pil", handler=wds.ignore_and_continue),
        wds.rename(image="jpg;png;jpeg;webp", text="text;txt;caption", handler=wds.warn_and_continue),
        wds.map_dict(image=Square(resolution)),
        wds.to_tuple("image", "text"),
        wds.batched(batch, partial=False, collation_fn=default_collate),
    )
    return iter(pipeline)
