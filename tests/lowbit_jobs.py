"""A small model with a card, pictures that it answers right, and the job of quantizing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from edgekit.core.artifact import ModelCard
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Silent
from edgekit.core.recipe import DataSection, ModelSection, QuantizeSection, Recipe, VerifySection
from edgekit.core.stages import StageClock, Watch
from edgekit.data.memory import MemorySource
from edgekit.export.hub import HubModel
from edgekit.lowbit.request import QuantizeJob
from edgekit.quantize.network import GraphNetwork
from edgekit.runtime.preprocess import normalize
from rounding_starts import mobile_graph

NAMES = tuple(f"class {index}" for index in range(5))
SPEC = PreprocessSpec(input_size=(10, 10), mean=(0.5,) * 3, std=(0.25,) * 3)


def hub_of(graph: Graph | None = None, *, trained: bool = True) -> HubModel:
    return HubModel(
        graph=mobile_graph() if graph is None else graph,
        card=ModelCard(model="small", scheme="float", labels=NAMES, preprocess=SPEC),
        dataset="toy",
        num_params=1000,
        trained=trained,
        torch_logits=None,
    )


def pictures_for(hub: HubModel, num: int, split: str = "calibration", *, labelled: bool = True) -> MemorySource:
    """Smooth pictures; their labels are what the float model answers."""
    rng = np.random.default_rng(num)
    noise = rng.normal(size=(num, 10, 10, 3))
    for axis in (1, 2):
        noise = noise + 0.8 * np.roll(noise, 1, axis)
    pictures = np.clip(128 + 40 * noise + rng.normal(0, 30, (num, 1, 1, 3)), 0, 255).astype(np.uint8)
    with torch.no_grad():
        answers = GraphNetwork(hub.graph)(torch.from_numpy(normalize(pictures, SPEC))).numpy().argmax(1)
    return MemorySource(
        name="toy",
        split=split,
        class_names=NAMES if labelled else (),
        pictures=pictures,
        labels=answers.astype(np.int64) if labelled else None,
    )


def job_of(
    work_dir: Path,
    section: QuantizeSection,
    *,
    hub: HubModel | None = None,
    num_pictures: int = 160,
    labelled: bool = True,
    max_drop: float = 1.0,
) -> QuantizeJob:
    hub = hub or hub_of()
    recipe = Recipe(
        model=ModelSection(name="small"),
        data=DataSection(name="toy"),
        quantize=section,
        verify=VerifySection(max_drop=max_drop),
    )
    return QuantizeJob(
        recipe=recipe,
        hub=hub,
        calibration=pictures_for(hub, num_pictures, labelled=labelled),
        test=pictures_for(hub, 90, "test", labelled=labelled),
        data="toy",
        work_dir=work_dir,
    )


class Ear:
    """Keeps what people are told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @property
    def watch(self) -> Watch:
        return Watch(clock=StageClock(), progress=Silent(), tell=self.lines.append)
