"""Twenty models that must not serve, each tried again and again beside one that does.

A trial is right when the old release serves on, whole, with no file left over, and the installer says so: rolled back,
could not be tried, or refused at the door. It is a false success when the installer reports that the bad one serves.
Between the rounds a good model is installed and taken back, so that refusing everything does not pass.

    python tools/bad_models.py --quick        one round, 20 trials
    python tools/bad_models.py                ten rounds, 200 trials
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from bad_runtime import MODE, write_bad_runtime
from benchmarking import Figure, arguments, machine_figures, note, print_document
from edgekit.agent.install.installer import Installer, InstallReport, InstallRequest
from edgekit.agent.install.messages import TrialReport, TrialSettings
from edgekit.agent.install.supervising import run_trial
from edgekit.bundle.compatibility import DeviceFacts
from edgekit.bundle.manifest import Budgets, Manifest, RuntimeNeed
from edgekit.bundle.reading import open_bundle
from edgekit.core.errors import EdgekitError
from edgekit.encode.packing import pack
from fault_cases import leaks
from install_bundles import LABELS, rewrite_bundle, write_float_model, write_tiny_bundle

NUM_ROUNDS = 10
FACTS = DeviceFacts(
    board="host_cpu", architecture="x86_64", python=(3, 11), runtimes=(("litert", "2.3"),), free_ram_mib=2000
)
SETTINGS = TrialSettings(soak_s=0.3, silence_s=8.0, deadline_s=90.0, max_rss_mib=600.0)
BUDGETS = Budgets(p90_ms=20.0, rss_mib=400.0)

REQUEST = InstallRequest(trial=SETTINGS, again=True, downgrade=True)

Change: TypeAlias = Callable[[Manifest], Manifest]


class BadModel(msgspec.Struct, frozen=True, kw_only=True):
    """One of the twenty.

    Args:
        name: What is bad about it.
        bundle: It.
        reason: Words of the reason that must be told: refused for another one, it would prove nothing.
        mode: What it does to the runtime; "" for nothing.
    """

    name: str
    bundle: Path
    reason: str
    mode: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One trial of one of them.

    Args:
        name: Of the model.
        how: `rolled_back`, `failed`, `refused`, or what it must not be.
        detail: What the installer said.
        is_false_success: It said that the model serves.
        is_right: The reason is the right one.
        is_back: The old release serves, whole, and nothing is left over.
        verdict_s: From the end of the trial to the end of the installation; from the beginning when there was none.
        seconds: All of it.
    """

    name: str
    how: str
    detail: str
    is_false_success: bool
    is_right: bool
    is_back: bool
    verdict_s: float
    seconds: float


def make_bad_models(folder: Path) -> list[BadModel]:
    """All twenty."""
    good = write_tiny_bundle(folder, 10, budgets=BUDGETS)
    named = [
        BadModel(name=mode, bundle=good, mode=mode, reason=reason)
        for mode, reason in {
            "segfault_on_load": "SIGSEGV",
            "segfault_later": "SIGSEGV",
            "abort_on_load": "SIGABRT",
            "exit_on_load": "no result",
            "hang_on_load": "hung while loading",
            "hang_later": "hung while",
            "memory_on_load": "resident",
            "slow": "inferences over 20 ms",
            "drifts": "0 at the end",
        }.items()
    ]
    return [*named, *_bad_files(good, folder), *_bad_manifests(good, folder)]


def try_model(model: BadModel, state: Path) -> Outcome:
    """Install one of them over the release that serves in a state folder."""
    before = (state / "current").readlink()
    ended: list[float] = []

    def try_out(folder: Path, manifest: Manifest, work_dir: Path, settings: TrialSettings) -> TrialReport:
        with _mode(model.mode):
            report = run_trial(folder, manifest, work_dir, settings)
        ended.append(time.monotonic())
        return report

    started_s = time.monotonic()
    installer = Installer(state, try_out=try_out, facts=FACTS)
    try:
        report: InstallReport | None = installer.install(model.bundle, REQUEST)
        how, detail = report.result, report.detail
    except EdgekitError as error:
        how, detail = "refused", str(error)
    finished_s = time.monotonic()
    is_back = (state / "current").readlink() == before and not leaks(state)
    with contextlib.suppress(EdgekitError):
        is_back = is_back and open_bundle(state / "current").digest == before.name
    return Outcome(
        name=model.name,
        how=how,
        detail=detail,
        is_false_success=how not in ("rolled_back", "failed", "refused"),
        is_right=model.reason in detail,
        is_back=is_back,
        verdict_s=finished_s - (ended[-1] if ended else started_s),
        seconds=finished_s - started_s,
    )


def _bad_files(good: Path, folder: Path) -> list[BadModel]:
    """Files that are wrong, under hashes that are right."""
    content = (folder / "run-10-16" / "model.tflite").read_bytes()
    other_labels = write_float_model(folder / "labels.tflite", labels=tuple(reversed(LABELS)))
    files = {
        "nan_weights": (write_float_model(folder / "nan.tflite", bias=float("nan")), "NaN or infinity"),
        "wrong_answers": (write_float_model(folder / "other.tflite"), "golden picture"),
        "wrong_labels": (other_labels, "the bundle says labels"),
        "junk_flatbuffer": (b"\x1c\0\0\0TFL3" + bytes(range(256)) * 4, "cannot be loaded"),
        "missing_op": (_with_operator(content, builtin=32, custom=True), "cannot be loaded"),
        "newer_operator": (_with_operator(content, builtin=3, custom=False), "cannot be loaded"),
    }
    bad = [
        BadModel(
            name=name,
            bundle=rewrite_bundle(good, folder / f"{name}.ekb", _of_model(model), model_ekz=pack(model).content),
            reason=reason,
        )
        for name, (model, reason) in files.items()
    ]
    torn = rewrite_bundle(good, folder / "torn.ekb", model_ekz=pack(content).content[:-40])
    return [*bad, BadModel(name="torn_model", bundle=torn, reason="its header says")]


def _bad_manifests(good: Path, folder: Path) -> list[BadModel]:
    """Bundles that do not belong here, or ask for more than they keep."""

    def compatible(**changes: object) -> Change:
        return lambda manifest: msgspec.structs.replace(
            manifest, compatible=msgspec.structs.replace(manifest.compatible, **changes)
        )

    def costing(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(manifest, budgets=msgspec.structs.replace(manifest.budgets, rss_mib=10.0))

    def wanting(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(manifest, needs=msgspec.structs.replace(manifest.needs, ram_mib=1 << 20))

    changes: dict[str, tuple[Change, str]] = {
        "other_architecture": (compatible(architectures=("riscv64",)), "it is for riscv64"),
        "other_runtime": (compatible(runtimes=(RuntimeNeed(name="litert", at_least="99.0"),)), "it needs litert 99.0"),
        "too_much_memory": (costing, "allowed 10 MiB"),
        "no_room": (wanting, "MiB of memory"),
    }
    return [
        BadModel(name=name, bundle=rewrite_bundle(good, folder / f"{name}.ekb", change), reason=reason)
        for name, (change, reason) in changes.items()
    ]


def _of_model(content: bytes) -> Change:
    """Make the manifest speak of another model file."""
    digest = hashlib.sha256(content).hexdigest()
    return lambda manifest: msgspec.structs.replace(
        manifest, model=msgspec.structs.replace(manifest.model, size_bytes=len(content), sha256=digest)
    )


def _with_operator(content: bytes, *, builtin: int, custom: bool) -> bytes:
    """The model with its convolution made an operator that no runtime has, or of a version that none knows."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    code = next(one for one in model.operatorCodes if one.builtinCode == schema.BuiltinOperator.CONV_2D)
    if custom:
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.customCode = b"EdgekitNoSuchOperator"
        for operator in model.subgraphs[0].operators:
            if model.operatorCodes[operator.opcodeIndex] is code:
                operator.builtinOptions, operator.builtinOptionsType = None, 0
    else:
        code.version = 99
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@contextlib.contextmanager
def _mode(mode: str) -> Generator[None, None, None]:
    """While inside, a trial meets the bad runtime."""
    if not mode:
        yield
        return
    before = {name: os.environ.get(name) for name in (MODE, "PYTHONPATH")}
    with tempfile.TemporaryDirectory(prefix="edgekit-runtime-") as folder:
        place = write_bad_runtime(Path(folder))
        os.environ[MODE] = mode
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(place), before["PYTHONPATH"])))
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def summarize(outcomes: Sequence[Outcome], num_good: tuple[int, int], seconds: float) -> dict[str, Figure]:
    """One flat document."""
    how = collections.Counter(one.how for one in outcomes)
    names = {one.name for one in outcomes}
    return {
        "num_models": len(names),
        "num_models_rolled_back": len(
            names - {one.name for one in outcomes if one.is_false_success or not one.is_back}
        ),
        "num_trials": len(outcomes),
        "num_false_successes": sum(one.is_false_success for one in outcomes),
        "num_wrong_reasons": sum(not one.is_right for one in outcomes),
        "num_not_back": sum(not one.is_back for one in outcomes),
        "num_good_trials": num_good[0],
        "num_good_committed": num_good[1],
        "back_after_verdict_max_s": round(max(one.verdict_s for one in outcomes), 3),
        "trial_max_s": round(max(one.seconds for one in outcomes), 1),
        **{f"num_{name}": count for name, count in sorted(how.items())},
        "seconds": round(seconds, 1),
        **machine_figures(),
    }


def try_good(good: Path, state: Path) -> bool:
    """Install a good model, and take it back."""
    installer = Installer(state, facts=FACTS)
    report = installer.install(good, REQUEST)
    if report.result == "committed":
        installer.rollback()
        return True
    note(f"the good model: {report.result} {report.detail}")
    return False


def main(argv: list[str] | None = None) -> None:
    """Try all of them and print one JSON document; exit code 1 when one of them was taken."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS)
    options = parser.parse_args(argv)
    started_s = time.monotonic()
    outcomes: list[Outcome] = []
    num_rounds = 1 if options.quick else options.rounds
    num_committed = 0
    with tempfile.TemporaryDirectory(prefix="edgekit-bad-") as place:
        folder = Path(place)
        state = folder / "state"
        models = make_bad_models(folder)
        old = write_tiny_bundle(folder, 9, budgets=BUDGETS)
        better = write_tiny_bundle(folder, 11, budgets=BUDGETS)
        Installer(state, facts=FACTS).install(old, InstallRequest(trial=SETTINGS))
        for number in range(num_rounds):
            num_committed += try_good(better, state)
            for model in models:
                outcome = try_model(model, state)
                outcomes.append(outcome)
                note(f"{number + 1}: {outcome.name}: {outcome.how} in {outcome.seconds:.1f} s: {outcome.detail[:160]}")
    figures = summarize(outcomes, (num_rounds, num_committed), time.monotonic() - started_s)
    print_document(figures)
    bars = ("num_false_successes", "num_wrong_reasons", "num_not_back")
    if any(figures[bar] for bar in bars) or num_committed < num_rounds:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
