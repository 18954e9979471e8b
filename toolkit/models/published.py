"""Files with trained weights: the seed's, downloaded once, and this project's own, which come with the
package. All are checked by size and sha256 or git blob id."""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from toolkit.files import whole_file
from toolkit.machine import cache_folder
from toolkit.runtime import InputError

RAW_HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PublishedFile:
    """A file of the seed at a fixed commit, or one that comes with this package.

    Attributes:
        file: name here, such as `nano-voc/nano-voc.weights`.
        bytes: size of the file; None where only its blob id is known.
        sha256: of the content; "" where only the blob id is known.
        blob: git's id of the file, sha1 of `blob <bytes>\\0` and the content; "" where the sha256 is known.
        repository, commit, path: where the file is at GitHub; of a file that comes with the package,
            repository and commit are "" and path is below toolkit/models.
    """

    file: str
    bytes: int | None
    sha256: str
    blob: str
    repository: str
    commit: str
    path: str

    @property
    def shipped(self) -> bool:
        """Whether the file comes with this package."""
        return not self.repository

    def url(self, host: str) -> str:
        return f"{host}/{self.repository}/{self.commit}/{self.path}"

    def fault(self, path: Path) -> str:
        """How a file differs from the published one, such as "its sha256 is not 814fe112..."; "" if it does
        not."""
        content = path.read_bytes()
        if self.bytes is not None and len(content) != self.bytes:
            return f"it has {len(content)} bytes, the published file has {self.bytes}"
        if self.sha256 and hashlib.sha256(content).hexdigest() != self.sha256:
            return f"its sha256 is not {self.sha256[:12]}..."
        if self.blob and blob_id(content) != self.blob:
            return f"its git blob id is not {self.blob[:12]}..."
        return ""


def blob_id(content: bytes) -> str:
    """The id under which git keeps a file.

    >>> blob_id(b"hello\\n")
    'ce013625030ba8dba906f756967f9e9ca394464a'
    """
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


@cache
def published_files() -> dict[str, PublishedFile]:
    """Every published file by its name here, such as `nano-voc/nano-voc.weights`.

    >>> published_files()["nano-voc/nano-voc.weights"].repository
    'dog-qiuqiu/MobileNetv2-YOLOV3'
    """
    text = (files("toolkit.models") / "published.csv").read_text()
    return {row["file"]: _entry(**row) for row in csv.DictReader(text.splitlines())}


def _entry(file: str, bytes: str, **columns: str) -> PublishedFile:
    return PublishedFile(file, int(bytes) if bytes else None, **columns)


def can_fetch(file: str) -> bool:
    """Whether `fetch` has a place to take a published file from: the folder that TOOLKIT_ZOO names, or the
    network where it names none; a file that comes with this package is always there."""
    folder, entry = os.environ.get("TOOLKIT_ZOO"), published_files().get(file)
    return entry is not None and (entry.shipped or not folder or (Path(folder) / file).is_file())


def fetch(file: str, host: str = "", timeout: float = 30.0) -> Path:
    """Local path of a published file, checked by its size and its sha256 or git blob id.

    A file that comes with this package is there; another is downloaded once and kept in the user's cache,
    unless the environment variable TOOLKIT_ZOO names a folder that has it.

    Args:
        file: name in `published_files()`, such as "nano-voc/nano-voc.weights".
        host: address in place of raw.githubusercontent.com; TOOLKIT_ZOO_HOST by default.
        timeout: seconds to wait for an answer.

    Returns:
        Path of the file.

    Raises:
        InputError: unknown file, no network, no answer in time, or a file that is not the published one.
    """
    entry = published_files().get(file)
    if entry is None:
        raise InputError(
            f"{file} is not among the published files: the names are in toolkit/models/published.csv"
        )
    if entry.shipped:
        path = Path(str(files("toolkit.models"))) / entry.path
        if not path.is_file() or entry.fault(path):
            raise InputError(f"{path} is missing or damaged: install this project again")
        return path
    folder = os.environ.get("TOOLKIT_ZOO")
    if folder:
        path = Path(folder) / file
        if not path.is_file():
            raise InputError(
                f"{file} is missing in TOOLKIT_ZOO={folder}: put it there, or unset TOOLKIT_ZOO to download "
                "it"
            )
        if fault := entry.fault(path):
            raise InputError(f"{path} differs from the published file: {fault}")
        return path

    path = cache_folder() / file
    if not path.is_file() or entry.fault(path):
        _download(entry, entry.url(host or os.environ.get("TOOLKIT_ZOO_HOST", RAW_HOST)), path, timeout)
    return path


def _download(entry: PublishedFile, url: str, path: Path, timeout: float) -> None:
    """Download to `path`, where the file appears if it is the published one."""
    import pooch
    import requests

    print(f"downloading {url} to {path}", file=sys.stderr)
    with whole_file(path) as temporary:
        try:
            pooch.HTTPDownloader(timeout=timeout)(url, str(temporary), None)
        except requests.exceptions.HTTPError as error:
            status = error.response.status_code if error.response is not None else "nothing"
            raise _not_downloaded(entry, url, f"the server answers {status}") from None
        except requests.exceptions.Timeout:
            raise _not_downloaded(entry, url, f"no answer in {timeout:g} seconds") from None
        except requests.exceptions.RequestException as error:
            raise _not_downloaded(entry, url, type(error).__name__) from None
        if fault := entry.fault(temporary):
            raise InputError(
                f"the download of {url} differs from the published file: {fault}; try again"
            ) from None


def _not_downloaded(entry: PublishedFile, url: str, why: str) -> InputError:
    scratch = (
        "; a training without --weights starts from random ones" if entry.file.endswith(".weights") else ""
    )
    return InputError(
        f"cannot download {url} ({why}): connect to a network, or save the file as FOLDER/{entry.file} and "
        f"set TOOLKIT_ZOO=FOLDER{scratch}"
    )
