"""Jobs of `bench_bits.py` and who does them: `bits_worker.py`, in a process for each. Light to import.

The work folder holds a folder for each model (float files, pictures, float answers), and in it `rows/`, a JSON file for
each row that is there already, which is not made again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from benchmarking import REPOSITORY, note, run_child
from bits_plan import ModelPlan, Setting
from bits_rows import Row, cached, describe
from edgekit.core.errors import UsageError

FLOAT, FLOAT_TFLITE, CALIBRATION = "float.onnx", "float.tflite", "calibration.npy"
WEIGHTS, FOLDED_WEIGHTS = "weights.npz", "folded_weights.npz"
"""Of the module, with its BatchNorm apart (where it has any), and of the hub graph."""

BASE_SETTING = "w8a8"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Args:
        task: "prepare" the folder of a model, "compress" it, "score" a peer's file, or "restore" its weights.
        plan: The model, with all paths filled in.
        folder: Of the model, with everything about it.
        max_pictures: Test on so many, drawn with a seed; None for all.
        overrides: Of the recipe, to compress.
        run_dir: Where the compressed model goes.
        files: Model file to score; or archives of weights to restore.
    """

    task: Literal["prepare", "compress", "score", "restore"]
    plan: ModelPlan
    folder: str
    max_pictures: int | None = None
    overrides: tuple[str, ...] = ()
    run_dir: str = ""
    files: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job.

    Args:
        rows: One for a file, one for each archive of weights; the float model's when prepared.
    """

    rows: tuple[Row, ...]


class Workshop:
    """Where rows are made and kept.

    Args:
        work_dir: The work folder.
        runs_dir: Folder of trained runs; None for none.
        max_pictures: Test on so many; None for all.
        overrides: More of them, for every recipe.
    """

    def __init__(
        self,
        work_dir: Path,
        runs_dir: Path | None = None,
        max_pictures: int | None = None,
        overrides: tuple[str, ...] = (),
    ) -> None:
        self._work_dir = work_dir.resolve()
        self._runs_dir = runs_dir
        self._max_pictures = max_pictures
        self._overrides = overrides

    def folder(self, plan: ModelPlan) -> Path:
        """Everything about a model."""
        return self._work_dir / plan.name

    def row_path(self, plan: ModelPlan, name: str) -> Path:
        """Where a row lies once it is there."""
        return self.folder(plan) / "rows" / f"{name}.json"

    def prepare(self, plan: ModelPlan) -> Row:
        """The float model's row, once its folder is ready; one with an error, which is not kept, when it cannot be."""
        return self.kept(plan, "float", lambda: self.do(plan, "prepare", max_pictures=self._max_pictures)[0])

    def compressed(self, plan: ModelPlan, setting: Setting) -> Row:
        """The row of a setting; one with an error, which is not kept, when there is no file to measure."""

        def make() -> Row:
            overrides = setting.recipe_overrides(self.base_bytes(plan))
            if overrides is None:
                return Row(error=f"no {BASE_SETTING} file to take a share of")
            run_dir = self.folder(plan) / "runs" / setting.name
            wanted = (*overrides, *self._overrides)
            return self.do(plan, "compress", overrides=wanted, run_dir=str(run_dir))[0]

        return self.kept(plan, setting.name, make)

    def kept(self, plan: ModelPlan, name: str, make: Callable[[], Row]) -> Row:
        """The row of that name, or a new one, which is kept unless it has an error."""
        row = cached(self.row_path(plan, name), make)
        note(f"{plan.name}.{name}: {row.error or describe(row)}")
        return row

    def base_bytes(self, plan: ModelPlan) -> int | None:
        """Bytes of the W8A8 `.ekz`; None before there is one."""
        path = self.row_path(plan, BASE_SETTING)
        return msgspec.json.decode(path.read_bytes(), type=Row).ekz_bytes if path.is_file() else None

    def do(self, plan: ModelPlan, task: str, **settings: object) -> tuple[Row, ...]:
        """Have a job done in a process of its own.

        Raises:
            UsageError: A run of the plan is not there.
        """
        folder = self.folder(plan)
        folder.mkdir(parents=True, exist_ok=True)
        values = {"task": task, "plan": self._located(plan), "folder": str(folder), **settings}
        path = folder / "job.json"
        path.write_bytes(msgspec.json.encode(msgspec.convert(values, Job)))
        command = [sys.executable, str(Path(__file__).with_name("bits_worker.py")), str(path)]
        child = run_child(command, environment={"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"})
        if child.exit_code:
            return (Row(error=f"the worker ended with exit code {child.exit_code}"),)
        return msgspec.json.decode(child.stdout.splitlines()[-1], type=Answer).rows

    def _located(self, plan: ModelPlan) -> ModelPlan:
        """The plan with all paths filled in."""
        if plan.importer:
            return msgspec.structs.replace(plan, model=str(self.folder(plan) / "imported"))
        if not plan.in_runs:
            return plan
        if self._runs_dir is None:
            raise UsageError(f"{plan.name}: a trained run is needed", hint="--runs DIR, the folder of runs")
        return msgspec.structs.replace(plan, model=str((self._runs_dir / plan.model).resolve()))
