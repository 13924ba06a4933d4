"""Making a client of paho-mqtt and connecting it: the part that may block, and that reads the secrets."""

from __future__ import annotations

import importlib
import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.agent.mqtt.commands import MAX_PACKET_BYTES
from edgekit.agent.mqtt.config import PASSWORD_VARIABLE, MqttConfig
from edgekit.agent.mqtt.topics import OFFLINE, Topics
from edgekit.core.errors import MissingDependencyError

if TYPE_CHECKING:
    from paho.mqtt.client import Client

CONNECT_TIMEOUT_S = 5.0
"""For each of: TCP to one address, the TLS handshake."""


def require_paho() -> None:
    """Make sure that paho-mqtt is there.

    Raises:
        MissingDependencyError: It is not.
    """
    try:
        importlib.import_module("paho.mqtt.client")
    except ImportError as error:
        raise MissingDependencyError(
            f"MQTT needs paho-mqtt, which is not installed ({error})", hint="pip install edgekit[agent]"
        ) from error


def make_client(config: MqttConfig, device_id: str, topics: Topics, *, is_version_5: bool) -> Client:
    """A client that is not connected. Files are read anew each time: what was wrong in them may have been put right.

    Raises:
        OSError: A certificate or the password file cannot be read.
        ValueError: One of them does not hold what it should.
    """
    from paho.mqtt import client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"edgekit-{device_id}",
        clean_session=None if is_version_5 else True,
        protocol=mqtt.MQTTv5 if is_version_5 else mqtt.MQTTv311,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.max_inflight_messages = 0  # `Connection` counts, as only it knows what the broker allows
    if config.username is not None:
        client.username_pw_set(config.username, _read_password(config))
    if config.tls is not None:
        client.tls_set_context(_make_tls(config))  # pyright: ignore[reportUnknownMemberType] - paho does not say
    client.will_set(topics.availability, OFFLINE, qos=1, retain=True)
    return client


def connect(client: Client, config: MqttConfig, *, is_version_5: bool) -> None:
    """Resolve the name, connect, shake hands, send the first packet. Blocks. Raises what sockets and TLS raise."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = None
    if is_version_5:
        properties = Properties(PacketTypes.CONNECT)
        properties.MaximumPacketSize = MAX_PACKET_BYTES
    client.connect(config.host, config.broker_port, keepalive=config.keepalive_s, properties=properties)
    sock = client.socket()
    if isinstance(sock, socket.socket):  # small packets must not wait for each other's acknowledgement, 40 ms at a time
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _read_password(config: MqttConfig) -> str | None:
    """First line of the password file, or the environment variable; None when there is neither."""
    if config.password_file is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        lines = Path(config.password_file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise OSError(error.errno, f"the password file {config.password_file}: {error.strerror}") from error
    except UnicodeDecodeError as error:  # its own message would quote the password
        raise ValueError(f"the password file {config.password_file} is no UTF-8") from error.__cause__
    return lines[0] if lines else ""


class _TlsSocket(ssl.SSLSocket):
    """Closes when the handshake fails: paho forgets it then, open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _make_tls(config: MqttConfig) -> ssl.SSLContext:
    tls = config.tls
    if tls is None:
        raise ValueError("no TLS is configured")
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:  # SSLError is one
        raise OSError(error.errno, f"the CA file {tls.ca_file}: {error.strerror or error}") from error
    context.sslsocket_class = _TlsSocket
    if tls.cert_file is not None:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")
        except OSError as error:
            raise OSError(error.errno, f"the certificate {tls.cert_file}: {error.strerror or error}") from error
    return context
