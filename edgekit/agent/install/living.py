"""One life of an agent in a state folder: what it owes to installers, and to a release on probation."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from edgekit.agent.install.installer import Installer
from edgekit.agent.install.probation import PROBATION_S
from edgekit.agent.install.serving import ServingPost, find_agent
from edgekit.core.errors import EdgekitError, MissingDependencyError, OutputError, UsageError

_logger = logging.getLogger(__name__)

NOT_THE_MODELS = (UsageError, OutputError, MissingDependencyError, KeyboardInterrupt, SystemExit)
"""What ends an agent and is no fault of the model's: settings, disk, what is installed, whoever asked for it."""

_AGAIN_S = 60.0
_GOODBYE_S = 1.0


class Life:
    """One life. Whatever cannot be written down is told and left out: serving is what counts.

    Args:
        state_dir: Folder with the releases.
        probation_s: Length of a life that proves a release.
    """

    def __init__(self, state_dir: Path, *, probation_s: float = PROBATION_S) -> None:
        self._installer = Installer(state_dir)
        self._post = ServingPost(state_dir)
        self._probation_s = probation_s
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._is_over = False
        self._is_alone = find_agent(state_dir) is None  # what a second agent does there says nothing about the first

    @property
    def digest(self) -> str | None:
        """The release that was taken last; None for none yet."""
        return self._post.digest

    def begin(self) -> None:
        """Settle what an interrupted installation or a dying agent left, and be found by installers."""
        try:
            report = self._installer.begin_life() if self._is_alone else self._installer.recover()
            if report.result != "unchanged":
                _logger.warning("%s release %d: %s %s", report.name, report.release, report.result, report.detail)
        except EdgekitError as error:  # what is there serves all the same
            _logger.warning("%s", error)
        self._post.open()

    def took(self, digest: str) -> None:
        """Say that a release serves; from now on it proves itself."""
        self._post.took(digest)
        self._prove_after(self._probation_s, digest)

    def refused(self, digest: str | None, reason: str) -> None:
        """Say that a release may not serve, and that the one before goes on."""
        self._post.refused(digest, reason)

    def end(self, *, in_good_order: bool) -> None:
        """Say that there is no agent any more. Idempotent.

        Args:
            in_good_order: It ends because it was told to, or by nothing that the model did.
        """
        with self._lock:
            was_over, self._is_over = self._is_over, True
            if self._timer is not None:
                self._timer.cancel()
        if self._is_alone and in_good_order and not was_over:
            try:
                self._installer.end_life()
            except EdgekitError as error:
                _logger.warning("%s", error)
        self._post.close()

    def end_quickly(self, *, in_good_order: bool) -> None:
        """As `end`, for a process that must go: a disk that stands still does not hold it."""
        ending = threading.Thread(target=self.end, kwargs={"in_good_order": in_good_order}, daemon=True)
        ending.start()
        ending.join(_GOODBYE_S)

    def _prove_after(self, delay_s: float, digest: str) -> None:
        with self._lock:
            if self._is_over or not self._is_alone:
                return
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(delay_s, self._prove, (digest,))
            self._timer.name, self._timer.daemon = "edgekit-probation", True
            self._timer.start()

    def _prove(self, digest: str) -> None:
        try:
            self._installer.prove(digest)
        except EdgekitError as error:  # somebody installs, or the disk is full: later
            _logger.info("not yet proved: %s", error)
            self._prove_after(_AGAIN_S, digest)
