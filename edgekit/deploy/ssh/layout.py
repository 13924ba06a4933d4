"""Where everything lies on a board. One prefix before all paths makes a board of any folder, for tests."""

from __future__ import annotations

import msgspec

from edgekit.core.resources import find_resource_dir

UNIT = "edgekit-agent.service"
UPDATE_SERVICE, UPDATE_TIMER = "edgekit-update.service", "edgekit-update.timer"
SERVICE_USER = "edgekit"
CURRENT = "current"
"""In the state folder: a link to the bundle that serves."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Paths on a board.

    Args:
        prefix: Before each of them; "" on a real board.
        user: Whose service it is.
    """

    prefix: str = ""
    user: str = SERVICE_USER

    @property
    def programs(self) -> str:
        """Folder of the environments, and of the link `venv` to the one that serves."""
        return f"{self.prefix}/opt/edgekit"

    @property
    def edgekit(self) -> str:
        """The program of the environment that serves."""
        return f"{self.programs}/venv/bin/edgekit"

    @property
    def state(self) -> str:
        """The agent's own folder."""
        return f"{self.prefix}/var/lib/edgekit"

    @property
    def cache(self) -> str:
        """Folder of what was sent, which belongs to whoever logs in."""
        return f"{self.prefix}/var/cache/edgekit-flash"

    @property
    def settings(self) -> str:
        """Folder of the configuration."""
        return f"{self.prefix}/etc/edgekit"

    @property
    def config(self) -> str:
        """The agent's configuration."""
        return f"{self.settings}/agent.toml"

    @property
    def root_json(self) -> str:
        """The pinned root of trust for updates, where the board's update client looks for it."""
        return f"{self.state}/update/pinned-root.json"

    @property
    def unit(self) -> str:
        """The service's unit file."""
        return self.unit_file(UNIT)

    def unit_file(self, name: str) -> str:
        """Where a unit file lies."""
        return f"{self.prefix}/etc/systemd/system/{name}"

    @property
    def announcement(self) -> str:
        """What avahi announces of it, where there is avahi."""
        return f"{self.prefix}/etc/avahi/services/edgekit.service"

    @property
    def lock(self) -> str:
        """What one flash at a time holds."""
        return f"{self.prefix}/run/edgekit-flash.lock"

    def unstarted(self, unit: str) -> str:
        """What is there from the first change to a unit until it has started again.

        It lies in memory: a board that boots starts everything again anyway.
        """
        return f"{self.prefix}/run/edgekit-flash.{unit}"


def unit_text(layout: Layout, name: str = UNIT) -> str:
    """A unit file for a board."""
    text = (find_resource_dir("devices") / name).read_text(encoding="utf-8")
    if layout.prefix:
        for folder in ("/opt/edgekit", "/etc/edgekit/"):
            text = text.replace(folder, f"{layout.prefix}{folder}")
    return text if layout.user == SERVICE_USER else _for_user(text, layout.user)


def announcement_text(board: str, ssh_port: int) -> str:
    """What avahi announces: that edgekit is there, on which board, and where to get in."""
    return f"""<?xml version="1.0" standalone="no"?>
<!DOCTYPE service-group SYSTEM "avahi-service.dtd">
<service-group>
  <name replace-wildcards="yes">%h</name>
  <service>
    <type>_edgekit._tcp</type>
    <port>{ssh_port}</port>
    <txt-record>board={board}</txt-record>
    <txt-record>ssh_port={ssh_port}</txt-record>
  </service>
</service-group>
"""


def _for_user(text: str, user: str) -> str:
    return text.replace(f"User={SERVICE_USER}\n", f"User={user}\n").replace(
        f"Group={SERVICE_USER}\n", f"Group={user}\n"
    )
