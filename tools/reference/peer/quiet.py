"""Silence of the libraries, whose progress bars and advice drown what our tools say."""

import diffusers
import transformers


def hush() -> None:
    """Keep diffusers and transformers to errors, without progress bars."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
