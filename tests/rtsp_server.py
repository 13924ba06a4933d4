"""A real RTSP camera (GStreamer), as a program for the system's Python: `/usr/bin/python3 tests/rtsp_server.py PORT`.

Prints its address and serves a moving ball, 320x240 at 25 frames per second, until it is killed.
"""

from __future__ import annotations

import importlib
import sys

LAUNCH = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 )"
)


def main(port: str) -> None:
    gi = importlib.import_module("gi")
    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    gst = importlib.import_module("gi.repository.Gst")
    rtsp = importlib.import_module("gi.repository.GstRtspServer")
    glib = importlib.import_module("gi.repository.GLib")
    gst.init(None)
    server = rtsp.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = rtsp.RTSPMediaFactory()
    factory.set_launch(LAUNCH)
    factory.set_shared(True)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is in use")
    sys.stdout.write(f"rtsp://127.0.0.1:{server.get_bound_port()}/cam\n")
    sys.stdout.flush()
    glib.MainLoop().run()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "0")
