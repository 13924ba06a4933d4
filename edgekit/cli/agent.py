"""`edgekit agent`: the camera classifier on a board, or on this machine."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import installing, updating
from edgekit.cli.console import plain_table, print_json, show

app = typer.Typer(
    help="The camera classifier: run it, change its model, look at the pictures that it kept.", no_args_is_help=True
)


@app.command("run")
def run_command(
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle (.ekb file or folder), or a run folder of compress.")
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(help="Index, /dev/video0, rtsp://, http://, file, folder, or KIND:SOURCE.  [default: 0]"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with all settings; options override it.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size to ask of the camera, e.g. 640x480.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second to ask of the camera.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Files: begin again at the end.")] = False,
    max_fps: Annotated[float | None, typer.Option(help="Answers per second at most.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Classes listed with each answer.  [default: 3]")] = None,
    threshold: Annotated[
        float | None, typer.Option(help='Confidence below which the answer is "unknown".  [default: 0.5]')
    ] = None,
    smooth: Annotated[float | None, typer.Option(help="Half-life of exponential smoothing, seconds.")] = None,
    votes: Annotated[str | None, typer.Option(metavar="K/N", help="A class needs K of the last N frames.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime.  [default: 1]")] = None,
    cpus: Annotated[str | None, typer.Option(metavar="LIST", help="Processors for inference, e.g. 2,3.")] = None,
    http: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="Where the live page is; off for none.  [default: 8080]")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that viewers need when HOST is not this machine alone.")
    ] = None,
    mqtt: Annotated[str | None, typer.Option(metavar="HOST[:PORT]", help="Broker to report to.")] = None,
    device_id: Annotated[str | None, typer.Option(help="Name of this board.  [default: host name]")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder for records, samples and what was not sent yet.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="End after so many answers.")] = None,
    any_board: Annotated[bool, typer.Option("--any-board", help="Take a bundle that is for other boards.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per second, one per line.")] = False,
) -> None:
    """Classify what a camera sees, until Ctrl-C; report size, latency and state on the way."""
    from edgekit.cli.agent_options import AgentOptions, merge_options, read_settings
    from edgekit.cli.agent_running import run_agent

    options = AgentOptions(
        bundle=bundle,
        camera=camera,
        size=size,
        fps=fps,
        loop=loop,
        max_fps=max_fps,
        top=top,
        threshold=threshold,
        smooth=smooth,
        votes=votes,
        threads=threads,
        cpus=cpus,
        http=http,
        token_file=token_file,
        mqtt=mqtt,
        device_id=device_id,
        state=state,
        frames=frames,
        any_board=any_board,
    )
    run_agent(merge_options(read_settings(config), options), as_json=as_json)


@app.command("samples")
def samples_command(
    state: Annotated[
        Path | None, typer.Option(help="The agent's state folder.  [default: as agent run takes it]")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy them into one folder per answer, for a human to correct.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the pictures that the agent kept (unsure answers, drift), or copy them out to be labelled."""
    from edgekit.agent.config import find_state_dir
    from edgekit.agent.telemetry.samples import SAMPLES_DIR, export_samples, list_samples

    folder = find_state_dir(None if state is None else str(state)) / SAMPLES_DIR
    samples = list_samples(folder)
    num_exported = None if export is None else export_samples(folder, export)
    if as_json:
        print_json({"folder": folder, "samples": samples, "exported": num_exported})
        return
    titles = ("when", "why", "answer", "confidence", "file")
    rows = [
        (
            datetime.fromtimestamp(one.note.time_unix_s, tz=timezone.utc).isoformat(sep=" ", timespec="seconds"),
            one.note.reason,
            one.note.label,
            f"{one.note.confidence:.2f}",
            one.picture_path.name,
        )
        for one in samples
    ]
    if rows:
        show(plain_table(titles, rows, left=("when", "why", "answer", "file")))
    show(f"{len(samples)} samples in {folder}" + ("" if export is None else f", {num_exported} copied to {export}"))


installing.register(app)
updating.register(app)
