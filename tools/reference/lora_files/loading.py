"""Loading with diffusers while watching what it says about keys."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import diffusers.loaders.peft
import peft
from diffusers import DiffusionPipeline
from peft.tuners.lora import LoraLayer


@dataclass
class Said:
    """What was missing or left over, and what was warned of."""

    problems: list[str] = field(default_factory=list)


@contextmanager
def watching() -> Iterator[Said]:
    """Collect the keys that PEFT reports, and every warning."""
    said = Said()
    set_state = peft.set_peft_model_state_dict

    def set_and_note(*args: object, **kwargs: object) -> object:
        result = set_state(*args, **kwargs)
        said.problems += [f"unexpected {key}" for key in result.unexpected_keys]
        said.problems += [f"missing {key}" for key in result.missing_keys if ".lora_" in key]
        return result

    def note(message: str, *_: object, **__: object) -> None:
        # Every file lacks the adapters of some network.
        if "No LoRA keys associated to" not in message:
            said.problems.append(message)

    logger = diffusers.loaders.peft.logger
    warning = logger.warning
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        peft.set_peft_model_state_dict, logger.warning = set_and_note, note
        try:
            yield said
        finally:
            peft.set_peft_model_state_dict, logger.warning = set_state, warning
    said.problems += [str(one.message) for one in caught if "PEFT" in str(one.message)]


def load(pipeline: DiffusionPipeline, path: Path) -> Said:
    """Load a file into the pipeline."""
    with watching() as said:
        try:
            pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name="checked")
        except (ValueError, KeyError, RuntimeError, TypeError) as error:
            said.problems.append(f"{type(error).__name__}: {error}")
    return said


def scales(network: object) -> dict[str, float]:
    """Return alpha / rank of every adapted module."""
    return {
        name.removeprefix("base_model.model."): next(iter(module.scaling.values()))
        for name, module in network.named_modules()
        if isinstance(module, LoraLayer) and module.scaling
    }
