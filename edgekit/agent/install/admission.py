"""Whether a checked bundle may be staged at all: pure rules over its manifest, what is remembered, and the board."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgekit.agent.install.machine import MAX_ATTEMPTS
from edgekit.agent.install.record import Counter, Quarantined
from edgekit.bundle.compatibility import DeviceFacts, incompatibilities
from edgekit.bundle.manifest import Manifest
from edgekit.core.errors import BarNotMetError, UsageError


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What the record says about a bundle.

    Args:
        counter: Highest release of its name that served; None when none did.
        quarantined: All that is in quarantine.
        num_attempts: Trials of its digest that did not end in good order.
    """

    counter: Counter | None = None
    quarantined: Sequence[Quarantined] = ()
    num_attempts: int = 0


def check_remembered(manifest: Manifest, digest: str, remembered: Remembered, *, downgrade: bool) -> None:
    """Refuse what has failed before, and what is older than what served.

    Args:
        manifest: Of the bundle.
        digest: Of its manifest.
        remembered: What the record says.
        downgrade: Take an older release, or another of the same number.

    Raises:
        BarNotMetError: It is in quarantine, or was tried already.
        UsageError: A lower counter, or the same counter with other content.
    """
    named = f"{manifest.name} release {manifest.release} ({digest[:12]})"
    for one in remembered.quarantined:
        if one.digest == digest:
            raise BarNotMetError(f"{named} is in quarantine: {one.reason}", hint="--again tries it once more")
    if remembered.num_attempts >= MAX_ATTEMPTS:
        raise BarNotMetError(
            f"{named} was tried {remembered.num_attempts} times without an end, allowed {MAX_ATTEMPTS}",
            hint="--again tries it once more",
        )
    counter = remembered.counter
    if counter is None or downgrade or manifest.release == 0:
        return
    if manifest.release < counter.release:
        raise UsageError(
            f"{named} is older than release {counter.release}, which served here",
            hint="edgekit agent rollback goes back to the one before; --downgrade takes any",
        )
    if manifest.release == counter.release and digest != counter.digest:
        raise UsageError(
            f"{named} has other content than the release {counter.release} ({counter.digest[:12]}) that served here",
            hint="make the bundle with a higher --release; --downgrade takes it all the same",
        )


def check_board(manifest: Manifest, facts: DeviceFacts, *, any_board: bool) -> None:
    """Refuse what does not belong on this board, or what it has no room for beside the model that serves.

    Raises:
        UsageError: Says every reason, with numbers.
    """
    reasons = incompatibilities(manifest, facts)
    if reasons and not any_board:
        raise UsageError(
            f"{manifest.name} release {manifest.release} does not belong here: {'; '.join(reasons)}",
            hint="make one for this board (edgekit bundle RUN --for BOARD), or free what it needs",
        )
