"""Brings a file over HTTP and goes on where a connection broke off."""

from __future__ import annotations

import errno
import http.client
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from nnactive_nf.core.errors import UserError

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60  # of silence
ATTEMPTS = 10
PAUSE_S = 10.0
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TransferError(Exception):
    """The server cannot be reached, refuses, or breaks off again and again; the text says which."""


def download(url: str, path: Path, attempts: int = ATTEMPTS, pause_s: float = PAUSE_S) -> None:
    """Download to a file, whole. Progress is printed at each tenth.

    A connection that breaks off is taken up where it ended, if the server knows ranges, else from the start. Where the
    very first try brings nothing there is no second.

    Args:
        url: what to download.
        path: file to make; one that is there is taken as the beginning of it.
        attempts: how often to try.
        pause_s: seconds between tries.

    Raises:
        TransferError: it did not come whole.
        UserError: the disk is too small.
    """
    path.touch()
    reason = ""
    for attempt in range(attempts):
        time.sleep(pause_s if attempt else 0)
        try:
            if _append(url, path):
                return
            reason = f"the connection broke off after {megabytes(path.stat().st_size)}"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise UserError(f"{path.parent}: no space left for {url}") from None
            reason = _reason(error)
        if path.stat().st_size == 0:
            break
        print(f"{reason}; attempt {attempt + 1} of {attempts}", flush=True)
    raise TransferError(reason)


def megabytes(number: float) -> str:
    """Bytes as text, e.g. `28.4 MB`."""
    return f"{number / 1e6:.1f} MB"


def _append(url: str, path: Path) -> bool:
    """Add what the file lacks; whether it is whole then (true where the server does not tell the size)."""
    have = path.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        length = answer.headers.get("Content-Length")
        total = None if length is None else int(length) + (have if goes_on else 0)
        _check_space(path.parent, total or 0, have)
        with path.open("ab" if goes_on else "wb") as file:
            tenths = _tenths(file.tell(), total)
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                if total and _tenths(file.tell(), total) > tenths:
                    tenths = _tenths(file.tell(), total)
                    print(f"{tenths * 10}% of {megabytes(total)}", flush=True)
    return total is None or path.stat().st_size == total


def _tenths(number: int, total: int | None) -> int:
    return 10 * number // total if total else 0


def _check_space(folder: Path, total: int, have: int) -> None:
    # The archive and what is unpacked from it, which is as large: images come compressed.
    wanted, free = 2 * total - have, shutil.disk_usage(folder).free
    if free < wanted:
        raise UserError(f"{folder}: {megabytes(wanted)} are needed to download and unpack, {megabytes(free)} are free")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    cause = getattr(error, "reason", error)
    return getattr(cause, "strerror", None) or str(cause) or type(error).__name__
