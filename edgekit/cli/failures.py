"""How a command fails: an error in one line, what to do in another, and an exit code."""

from __future__ import annotations

import traceback
from typing import Any, cast

import typer

from edgekit.cli.console import DEBUG_VARIABLE, is_set, print_line
from edgekit.core.errors import EdgekitError, MissingDependencyError, OutputError

INTERRUPTED = 130
"""As shells say it: 128 + SIGINT."""
DEFECT = 70
"""A defect of edgekit itself (EX_SOFTWARE of sysexits.h): none of the four exit codes would be true."""

# The base class of the parser's own errors moved when typer took click in; BadParameter has always been public.
PARSER_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in typer.BadParameter.__mro__ if issubclass(kind, Exception) and hasattr(kind, "format_message")
)
_RUNTIME_MODULES = {"cv2", "onnxruntime", "ai_edge_litert", "psutil"}


def report_error(error: EdgekitError) -> int:
    """Print an error in one line, and what to do in another; return the exit code."""
    if is_set(DEBUG_VARIABLE):
        traceback.print_exception(error)
    print_line(f"error: {_one_line(error.message)}", style="bold red")
    if error.hint:
        print_line(f" hint: {_one_line(error.hint)}")
    return error.exit_code


def report_parser_error(error: Exception) -> int:
    """Print what is wrong with the arguments, or the help of a group that was called without a command."""
    context = getattr(error, "ctx", None)
    message = cast("Any", error).format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        print_line(message)
    else:
        print_line(f"error: {_one_line(message)}", style="bold red")
        path = "edgekit" if context is None else context.command_path
        print_line(f" hint: {path} --help shows what it takes")
    return cast("int", getattr(error, "exit_code", 2))


_RESUMABLE_OPTIONS = ("--prune", "--share", "--qat", "--bits", "--budget-kb", "--pareto", "--recipe")
"""Options of `compress` with which it may fine-tune, or round layer by layer."""


def report_interrupt(arguments: list[str]) -> int:
    """Say that Ctrl-C was heard, and how to go on."""
    print_line("interrupted; nothing half-written is left behind")
    if arguments[:1] == ["train"]:
        print_line(" hint: the same command with --resume goes on after the last whole epoch")
    elif arguments[:1] == ["compress"] and any(word.startswith(_RESUMABLE_OPTIONS) for word in arguments):
        print_line(" hint: training and rounding, if any, go on where they were with the same command and --resume")
    elif arguments[:1] == ["flash"]:
        print_line(" hint: the board serves what it served; the same command goes on where it was")
    return INTERRUPTED


def report_exception(error: Exception) -> int:
    """Turn an exception that is none of edgekit's own into lines: the environment's, or a defect."""
    known = _environment_error(error)
    if known is not None:
        known.__cause__ = error
        return report_error(known)
    if is_set(DEBUG_VARIABLE):
        traceback.print_exception(error)
    print_line(f"error: internal error, {type(error).__name__}: {_one_line(str(error))}", style="bold red")
    print_line(" hint: this is a defect of edgekit: please report it with what --debug prints")
    return DEFECT


def _environment_error(error: Exception) -> EdgekitError | None:
    """What the machine lacks; None when that is not the cause."""
    words = str(error).lower()
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in words):
        return OutputError("out of memory", hint="use a smaller input size, a smaller batch or fewer pictures")
    if isinstance(error, ImportError) and not (error.name or "").startswith("edgekit"):
        package = (error.name or "a package").split(".")[0]
        extra = "runtime" if package in _RUNTIME_MODULES else "host"
        is_absent = isinstance(error, ModuleNotFoundError)
        message = f"this command needs {package}, which is not installed" if is_absent else f"{package}: {error}"
        return MissingDependencyError(message, hint=f"pip install edgekit[{extra}]")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return OutputError(
            f"{where}{error.strerror or error}", hint="check the path, the permissions and the free space"
        )
    return None


def _one_line(text: str) -> str:
    """Messages of third parties may hold line breaks; an error is one line."""
    return " ".join(text.split())
