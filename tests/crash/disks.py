"""Disks whose power can be cut: file systems in images on loop devices. Root, loop devices and the makers of file systems are needed."""

from __future__ import annotations

import fcntl
import gc
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["KINDS", "Disk"]

KINDS = ("ext4", "xfs")
_SHUT_DOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, the same number as XFS_IOC_GOINGDOWN
_NO_FLUSH = 2
_IMAGE_BYTES = {"ext4": 16 * 1024 * 1024, "xfs": 300 * 1024 * 1024}  # the smallest that mkfs.xfs makes
_OPTIONS = {"ext4": ["-F"], "xfs": ["-f"]}


class Disk:
    """A file system in an image on a loop device, whose power can be cut.

    Args:
        image: its file.
        kind: ``ext4`` or ``xfs``.
    """

    def __init__(self, image: Path, kind: str) -> None:
        self._image = image
        self._kind = kind
        self.folder = image.with_suffix(".mounted")
        self.folder.mkdir()

    def format(self) -> None:
        """Makes an empty file system."""
        with open(self._image, "wb") as file:
            file.truncate(_IMAGE_BYTES[self._kind])
        subprocess.run([f"mkfs.{self._kind}", "-q", *_OPTIONS[self._kind], str(self._image)], check=True, capture_output=True)

    def copy(self, image: Path) -> Disk:
        """Returns a disk with the same content; this one is not mounted."""
        subprocess.run(["cp", "--sparse=always", str(self._image), str(image)], check=True)
        return Disk(image, self._kind)

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mounts the file system, which repairs it from its journal."""
        subprocess.run(
            ["mount", "-o", "loop,nouuid" if self._kind == "xfs" else "loop", str(self._image), str(self.folder)],
            check=True,
            capture_output=True,
        )
        try:
            yield self.folder
        finally:
            gc.collect()  # what maps its files
            subprocess.run(["umount", str(self.folder)], check=True, capture_output=True)

    def cut_power(self) -> None:
        """Throws away everything that is not durable; the file system can only be unmounted then."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUT_DOWN, struct.pack("I", _NO_FLUSH))
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Deletes the image."""
        self._image.unlink()
