"""Why there is no connection, in words that say what to look at."""

from __future__ import annotations

import socket
import ssl

_REFUSALS = {
    "Bad user name or password": "the broker refuses the user name or the password",
    "Not authorized": "the broker does not let this user in: it wants a user name and password, or other ones",
    "Client identifier not valid": "the broker refuses the name of this device",
    "Server unavailable": "the broker is not available",
    "Server busy": "the broker is busy",
    "Banned": "the broker has banned this device",
    "Session taken over": "another client has connected under the name of this device",
    "Server shutting down": "the broker is shutting down",
}

NO_ANSWER = "closed the connection before it answered; does it expect TLS, or a certificate of this device?"


class ConnectError(Exception):
    """No connection, and why, for people."""


def explain_failure(error: Exception, host: str, port: int) -> str:
    """Why connecting failed.

    >>> explain_failure(ConnectionRefusedError(), "kitchen", 1883)
    'kitchen:1883 refuses connections; is the broker running?'
    """
    place = f"{host}:{port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the certificate of {place} is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS with {place} failed: {error.reason or error}; does it expect TLS?"
    if isinstance(error, socket.gaierror):
        return f"the name {host} cannot be resolved: {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return f"{place} refuses connections; is the broker running?"
    if isinstance(error, TimeoutError):
        return f"{place} does not answer"
    if isinstance(error, ConnectionResetError):
        return f"{place} {NO_ANSWER}"
    if isinstance(error, OSError):
        return f"{place} cannot be reached: {error.strerror or error}"
    return f"{place}: {error}"


def explain_refusal(reason: str, host: str, port: int) -> str:
    """Why the broker refuses, or ends, a connection.

    Args:
        reason: Name of the MQTT reason code.
        host: Of the broker.
        port: Of the broker.
    """
    return f"{_REFUSALS.get(reason, 'the broker says: ' + reason)} ({host}:{port})"
