"""`edgekit VERB`: the command line. Heavy imports wait inside the commands, so that `--help` is quick."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from edgekit.cli import bench, classify, compress, data, doctor, evaluate, export, report, train, verify, zoo
from edgekit.cli.console import DEBUG_VARIABLE, QUIET_VARIABLE, VERBOSE_VARIABLE, is_set, stderr
from edgekit.core.errors import EdgekitError, OutputError

GLOBAL_SWITCHES = {"--debug": DEBUG_VARIABLE, "--quiet": QUIET_VARIABLE, "--verbose": VERBOSE_VARIABLE}
INTERRUPTED = 130

app = typer.Typer(
    name="edgekit",
    help="From a folder of pictures to a camera classifier on a board, at the smallest honest size.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in (
    ("zoo", zoo.zoo),
    ("train", train.train),
    ("compress", compress.compress),
    ("evaluate", evaluate.evaluate),
    ("export", export.export),
    ("verify", verify.verify),
    ("bench", bench.bench),
    ("classify", classify.classify),
    ("report", report.report),
    ("doctor", doctor.doctor),
):
    app.command(name)(command)
app.add_typer(data.app, name="data")


def _print_version(value: bool) -> None:
    if value:
        from edgekit import __version__

        sys.stdout.write(f"edgekit {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with errors. Works after the verb, too.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bars, no notes, no summary.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell more of what is done.")] = False,
) -> None:
    """Take the global switches (see `take_global_switches`; here they are only documented)."""
    del version, debug, quiet, verbose


def take_global_switches(arguments: list[str]) -> list[str]:
    """Set the global switches wherever they stand, and give the arguments without them.

    >>> take_global_switches(["zoo", "--json"])
    ['zoo', '--json']
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    for switch, variable in GLOBAL_SWITCHES.items():
        if switch in arguments[:end]:
            os.environ[variable] = "1"
    head = [argument for argument in arguments[:end] if argument not in GLOBAL_SWITCHES]
    return head + arguments[end:]


def report_error(error: EdgekitError) -> int:
    """Print an error in one line, and what to do in another; return the exit code."""
    if is_set(DEBUG_VARIABLE):
        traceback.print_exception(error)
    console = stderr()
    console.print(f"error: {error.message}", markup=False, style="bold red")
    if error.hint:
        console.print(f" hint: {error.hint}", markup=False)
    return error.exit_code


def main() -> None:
    """Entry point: run the command, turn errors into lines and exit codes."""
    arguments = take_global_switches(sys.argv[1:])
    try:
        app(args=arguments, standalone_mode=True)
    except EdgekitError as error:
        sys.exit(report_error(error))
    except KeyboardInterrupt:
        stderr().print("interrupted; nothing half-written is left behind", markup=False)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # the reader of our output (head, less) went away: not our failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError:
        sys.exit(report_error(OutputError("out of memory", hint="use a smaller input size or fewer pictures")))
    except ModuleNotFoundError as error:
        sys.exit(_report_missing(error))


def _report_missing(error: ModuleNotFoundError) -> int:
    """A missing package is an environment problem with a remedy, not a traceback."""
    from edgekit.core.errors import MissingDependencyError

    extra = "runtime" if error.name in {"cv2", "onnxruntime", "ai_edge_litert"} else "host"
    return report_error(
        MissingDependencyError(f"this command needs {error.name}", hint=f"pip install edgekit[{extra}]")
    )
