"""Published files of the seed: downloaded once, checked by sha256."""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from toolkit.runtime import InputError

RAW_HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PublishedFile:
    """A file of the seed at a fixed commit."""

    file: str
    bytes: int
    sha256: str
    repository: str
    commit: str
    path: str

    def url(self, host: str) -> str:
        return f"{host}/{self.repository}/{self.commit}/{self.path}"


@cache
def published_files() -> dict[str, PublishedFile]:
    """Every published file by its name here, such as `nano-voc/nano-voc.weights`.

    >>> published_files()["nano-voc/nano-voc.weights"].repository
    'dog-qiuqiu/MobileNetv2-YOLOV3'
    """
    text = (files("toolkit.models") / "published.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return {
        row["file"]: PublishedFile(
            row["file"], int(row["bytes"]), row["sha256"], row["repository"], row["commit"], row["path"]
        )
        for row in rows
    }


def fetch(file: str, host: str = "", timeout: float = 30.0) -> Path:
    """Local path of a published file, checked by sha256.

    A file is downloaded once and kept in the user's cache, unless the environment variable TOOLKIT_ZOO names
    a folder that has it.

    Args:
        file: name in `published_files()`, such as "nano-voc/nano-voc.weights".
        host: address in place of raw.githubusercontent.com; TOOLKIT_ZOO_HOST by default.
        timeout: seconds to wait for an answer.

    Returns:
        Path of the file.

    Raises:
        InputError: unknown file, no network, no answer in time, or a wrong checksum.
    """
    entry = published_files().get(file)
    if entry is None:
        raise InputError(
            f"{file} is not among the published files: the names are in toolkit/models/published.csv"
        )
    folder = os.environ.get("TOOLKIT_ZOO")
    if folder:
        path = Path(folder) / file
        if not path.is_file():
            raise InputError(f"{file} is missing in TOOLKIT_ZOO={folder}: unset TOOLKIT_ZOO to download it")
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry.sha256:
            raise InputError(
                f"{path} differs from the published file: its sha256 is not {entry.sha256[:12]}..."
            )
        return path

    import pooch
    import requests

    host = host or os.environ.get("TOOLKIT_ZOO_HOST", RAW_HOST)
    url = entry.url(host)
    try:
        path = pooch.retrieve(
            url,
            known_hash=f"sha256:{entry.sha256}",
            fname=Path(file).name,
            path=pooch.os_cache("toolkit") / Path(file).parent,
            downloader=pooch.HTTPDownloader(timeout=timeout),
        )
    except requests.exceptions.HTTPError as error:
        status = error.response.status_code if error.response is not None else "nothing"
        raise InputError(f"cannot download {url}: the server answers {status}") from None
    except requests.exceptions.Timeout:
        raise InputError(f"cannot download {url}: no answer in {timeout:g} seconds") from None
    except (requests.exceptions.RequestException, OSError) as error:
        raise InputError(
            f"cannot download {url} ({type(error).__name__}): connect to a network, or set TOOLKIT_ZOO to a "
            "folder that has the files"
        ) from None
    except ValueError:
        raise InputError(
            f"the download of {url} differs from the published file (sha256): try again"
        ) from None
    return Path(path)
