"""Models loaded before workers are forked, so that all of them share the same memory."""

from __future__ import annotations

import logging
import os

from cascade.bundle import forget_kept, keep_bundle
from cascade.config import Config
from cascade.encoder import has_nvidia_driver
from cascade.errors import CascadeError
from cascade.pointer import POINTER, serving_version
from cascade.server.node import Encoders

_log = logging.getLogger(__name__)


def preload(config: Config) -> Encoders:
    """Open the encoders and the serving bundles of a configuration.

    What cannot be loaded is left to the workers, which say why and serve without it. With a GPU nothing is
    loaded: a CUDA context does not survive a fork.
    """
    # The tokenizers' own threads would not survive the fork either.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    had = forget_kept()  # those of the last configuration: each reload would add to the memory otherwise
    encoders = Encoders(config)
    if has_nvidia_driver():
        _log.info("workers load their models themselves: a GPU is there")
        return encoders
    for name in config.nodes:
        try:
            version = serving_version(config.models_path, name)
            if version is None and name in had:
                _log.error(
                    "node %s: it had a bundle, and there is no %s any more: the teacher answers",
                    name, config.models_path / name / POINTER,
                )  # fmt: skip
            if version is not None:
                keep_bundle(config.models_path / name / version, encoders, name)
        except CascadeError as error:
            _log.debug("node %s: not loaded before the fork: %s", name, error)
    return encoders
