"""The seed's published files: fetched once, checked by checksum."""

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
    """Every published file by its name here, such as `nano-voc/nano-voc.weights`."""
    text = (files("toolkit.models") / "published.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return {row["file"]: PublishedFile(**{**row, "bytes": int(row["bytes"])}) for row in rows}  # type: ignore[arg-type]


def fetch(file: str, host: str = "", timeout: float = 30.0) -> Path:
    """The local path of a published file, checked by sha256.

    TOOLKIT_ZOO names a folder that has the files already; otherwise they come from `host` (the seed's
    repository, or TOOLKIT_ZOO_HOST) once and stay in the user's cache. Raises InputError with the reason
    where the file cannot be had: no network, a wrong checksum, a time-out after `timeout` seconds.
    """
    entry = published_files().get(file)
    if entry is None:
        raise InputError(f"{file} is not among the published files")
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
            f"cannot download {url} ({type(error).__name__}): connect to a network, or let TOOLKIT_ZOO "
            "name a folder that has the files"
        ) from None
    except ValueError:
        raise InputError(
            f"the download of {url} differs from the published file (sha256): try again"
        ) from None
    return Path(path)
