"""Every way in which an update can end without one, each with a name."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import msgspec

from edgekit.core.errors import EdgekitError

NetworkOutcome: TypeAlias = Literal[
    "offline",  # no route, no name, nobody listens
    "cut",  # the connection broke off, again and again without getting further
    "timed_out",  # connected, and not a byte for too long
    "too_slow",  # bytes, but too few of them (slow retrieval, slow loris)
    "byte_budget",  # more bytes than the job may cost, over all attempts
    "not_found",  # 404
    "gone",  # 410
    "forbidden",  # 401, 403
    "rate_limited",  # 429
    "server_error",  # 5xx
    "http_error",  # any other status
    "bad_response",  # no HTTP
    "redirect_loop",
    "redirect_refused",  # from https to http, or to no web address
    "captive_portal",  # a page of HTML where none belongs
    "wrong_range",  # other bytes than those asked for
    "changed_length",  # another length than the signed one
    "certificate",  # the server's TLS certificate is not valid
]
TrustOutcome: TypeAlias = Literal[
    "unsigned",  # no signature at all
    "wrong_key",  # signed by keys that the role does not have
    "forged",  # a signature of a right key that does not fit
    "below_threshold",  # too few good signatures
    "expired",  # a role's metadata is too old: also what a freeze attack ends in
    "rollback",  # older than what was seen before
    "mix_and_match",  # pieces of different states of the repository
    "too_large",  # endless data
    "malformed",  # no metadata, or a signed entry of the wrong form
    "no_root",  # nothing trusted to begin with
    "bad_target_name",  # path traversal and the like
    "lower_release",  # a lower release counter than before
    "same_release_other_content",
    "ambiguous",  # bundles of several names, and nobody said which
    "wrong_hash",  # the whole file is there, and is not the signed one
    "wrong_bundle",  # the file is the signed one, but says other things than the signed entry
    "too_big",  # the signed entry is for a file larger than this board takes
]
LocalOutcome: TypeAlias = Literal["disk_full", "storage", "busy"]
OutcomeName: TypeAlias = Literal[NetworkOutcome, TrustOutcome, LocalOutcome]

_NETWORK = frozenset[str](get_args(NetworkOutcome))
_LOCAL = frozenset[str](get_args(LocalOutcome))
_EXIT_BAD_INPUT, _EXIT_ENVIRONMENT = 2, 3


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no update.

    Args:
        name: Which of the known ways.
        message: What happened, in one line.
        role: The TUF role it happened with; None where there is none.
        url: Where; None for things on the board.
        retry_after_s: What the server asked to wait, at most a day; None when it asked nothing.
    """

    name: OutcomeName
    message: str
    role: str | None = None
    url: str | None = None
    retry_after_s: float | None = None

    @property
    def is_attack(self) -> bool:
        """Whether what was received must not be trusted, as opposed to a network or a board that is out of order."""
        return self.name not in _NETWORK and self.name not in _LOCAL


class UpdateError(EdgekitError):
    """No update, for a reason with a name. Exit code 3 for network and board, 2 for what must not be trusted.

    Args:
        outcome: The reason.
        hint: What to do about it.
    """

    def __init__(self, outcome: Outcome, *, hint: str | None = None) -> None:
        super().__init__(f"{outcome.name}: {outcome.message}", hint=hint)
        self.outcome = outcome
        self.exit_code = _EXIT_BAD_INPUT if outcome.is_attack else _EXIT_ENVIRONMENT


def update_error(
    name: OutcomeName, message: str, *, role: str | None = None, url: str | None = None, hint: str | None = None
) -> UpdateError:
    """The error of an outcome."""
    return UpdateError(Outcome(name=name, message=message, role=role, url=url), hint=hint)
