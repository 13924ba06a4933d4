"""Pictures to choose golden ones from: of the dataset that the run was tested on, or generated."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import EdgekitError
from edgekit.core.layout import RECIPE
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe_files import load_recipe
from edgekit.data.drawing import draw_order
from edgekit.data.opening import open_source
from edgekit.data.reading import iterate_batches
from edgekit.deploy.patterns import draw_pattern

_logger = logging.getLogger(__name__)
_BATCH = 64
_SEED = 0


class Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures, fitted to the model's input.

    Args:
        pictures: uint8 [n, height, width, channels].
        numbers: Index of each in its source, or its seed.
        dataset: Name of the dataset; None for generated patterns.
    """

    pictures: npt.NDArray[np.uint8]
    numbers: tuple[int, ...]
    dataset: str | None

    def source(self, chosen: tuple[int, ...]) -> str:
        """Where chosen ones come from, for the manifest."""
        numbers = ", ".join(str(self.numbers[index]) for index in chosen)
        if self.dataset is None:
            return f"smooth fields of colour, seeds {numbers}"
        return f"{self.dataset} test, pictures {numbers}"


def find_candidates(run_dir: Path, spec: PreprocessSpec, num_pictures: int) -> Candidates:
    """Test pictures of the run's dataset, the same ones every time; generated ones where it is not at hand."""
    try:
        return _test_pictures(run_dir, spec, num_pictures)
    except EdgekitError as error:  # no recipe, no such dataset here, files gone
        _logger.info("golden pictures are generated: %s", error.message)
    return generate_candidates(spec, num_pictures)


def generate_candidates(spec: PreprocessSpec, num_pictures: int) -> Candidates:
    """Smooth fields of colour, seeded with their number."""
    patterns = [draw_pattern(spec.input_size, spec.num_channels, seed=seed) for seed in range(num_pictures)]
    return Candidates(pictures=np.stack(patterns), numbers=tuple(range(num_pictures)), dataset=None)


def _test_pictures(run_dir: Path, spec: PreprocessSpec, num_pictures: int) -> Candidates:
    name = load_recipe(run_dir / RECIPE).data.name
    source = open_source(name, "test")
    order = draw_order(len(source), seed=_SEED)[:num_pictures]
    batches = list(iterate_batches(source, spec, batch_size=_BATCH, indices=order))
    return Candidates(
        pictures=np.concatenate([batch.pictures for batch in batches]),
        numbers=tuple(int(index) for batch in batches for index in batch.indices),
        dataset=Path(name).name,
    )
