"""`edgekit VERB`: the command line. Heavy imports wait inside the commands, so that `--help` is quick."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import (
    agent,
    bench,
    bundle,
    classify,
    compress,
    data,
    device,
    doctor,
    embed,
    evaluate,
    explain,
    export,
    failures,
    flash,
    image,
    importing,
    keys,
    pack,
    publish,
    report,
    search,
    train,
    verify,
    zoo,
)
from edgekit.cli.console import DEBUG_VARIABLE, QUIET_VARIABLE, VERBOSE_VARIABLE, is_set, write_text
from edgekit.core.errors import EdgekitError

GLOBAL_SWITCHES = {"--debug": DEBUG_VARIABLE, "--quiet": QUIET_VARIABLE, "--verbose": VERBOSE_VARIABLE}

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
    ("embed", embed.embed),
    ("search", search.search),
    ("evaluate", evaluate.evaluate),
    ("explain", explain.explain),
    ("export", export.export),
    ("import", importing.import_model),
    ("verify", verify.verify),
    ("bench", bench.bench),
    ("classify", classify.classify),
    ("pack", pack.pack),
    ("unpack", pack.unpack),
    ("inspect", pack.inspect),
    ("bundle", bundle.bundle),
    ("publish", publish.publish),
    ("flash", flash.flash),
    ("report", report.report),
    ("doctor", doctor.doctor),
):
    app.command(name)(command)
app.add_typer(data.app, name="data")
app.add_typer(agent.app, name="agent")
app.add_typer(keys.app, name="keys")
app.add_typer(device.app, name="device")
app.add_typer(image.app, name="image")


def _print_version(value: bool) -> None:
    if value:
        from edgekit import __version__

        write_text(sys.stdout, f"edgekit {__version__}\n")
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
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell the stages, with their time and memory.")] = False,
) -> None:
    """Take the global switches (see `take_global_switches`; here they are only documented)."""
    del version, debug, quiet, verbose


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors become lines on stderr and exit codes.

    Args:
        arguments: What follows `edgekit`; None for the arguments of the process.

    Returns:
        0 done; 1 a bar was not met; 2 wrong usage or bad input; 3 the environment; 70 a defect; 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    with _global_switches(given) as rest, _logging():
        return _run(rest, shlex.join(["edgekit", *given]))


def _run(arguments: list[str], command_line: str) -> int:
    try:
        # standalone_mode=False: the parser would print its errors its own way, and call Ctrl-C exit code 1
        code = typer.main.get_command(app).main(
            args=arguments, prog_name="edgekit", standalone_mode=False, obj=command_line
        )
    except failures.PARSER_ERRORS as error:
        return failures.report_parser_error(error)
    except EdgekitError as error:
        return failures.report_error(error)
    except (KeyboardInterrupt, typer.Abort):
        return failures.report_interrupt(arguments)
    except Exception as error:  # noqa: BLE001 - the rim: a user sees two lines, never a traceback without --debug
        return failures.report_exception(error)
    if code == failures.INTERRUPTED:  # how newer versions of the parser pass Ctrl-C on
        return failures.report_interrupt(arguments)
    return code if isinstance(code, int) else 0


def take_global_switches(arguments: Sequence[str]) -> tuple[list[str], frozenset[str]]:
    """Split arguments into those without the global switches, and the switches, wherever they stand.

    >>> take_global_switches(["zoo", "--json", "--quiet"])
    (['zoo', '--json'], frozenset({'--quiet'}))
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head = [argument for argument in arguments[:end] if argument not in GLOBAL_SWITCHES]
    switches = frozenset(argument for argument in arguments[:end] if argument in GLOBAL_SWITCHES)
    return [*head, *arguments[end:]], switches


@contextlib.contextmanager
def _global_switches(arguments: list[str]) -> Generator[list[str], None, None]:
    """Set the switches' variables while the command runs, and give the arguments without them."""
    rest, switches = take_global_switches(arguments)
    before = {variable: os.environ.get(variable) for variable in GLOBAL_SWITCHES.values()}
    os.environ.update({GLOBAL_SWITCHES[switch]: "1" for switch in switches})
    try:
        yield rest
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


@contextlib.contextmanager
def _logging() -> Generator[None, None, None]:
    """Show edgekit's log on stderr: warnings, with --verbose the stages too, with --quiet nothing."""
    logger, level = logging.getLogger("edgekit"), logging.getLogger("edgekit").level
    handler = logging.NullHandler() if is_set(QUIET_VARIABLE) else logging.StreamHandler(sys.stderr)
    logger.setLevel(logging.INFO if is_set(VERBOSE_VARIABLE) else logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _prepare_streams() -> None:
    """Make both streams usable: closed ones (`>&-`) go nowhere, characters that a terminal lacks are escaped."""
    for stream_name in ("stdout", "stderr"):
        stream = getattr(sys, stream_name)
        if stream is None:
            setattr(sys, stream_name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for good
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
