"""Dataset cards: `datasets/<name>.yaml` describes a data set: what it is, where it comes from, its layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from toolkit.data.class_names import shown
from toolkit.data.formats import registry
from toolkit.runtime import InputError
from toolkit.text import YAML_BYTES, first_fault, parse_yaml, read_bytes

FOLDER = (
    Path(__file__).resolve().parents[2] / "datasets"
)  # next to the package: the project is used from its clone


Text = Annotated[str, Field(min_length=1)]


class Layout(BaseModel):
    """Which reader of `formats.FORMATS` reads the folder, and what it is given besides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    options: dict[str, Any] = {}

    @field_validator("format")
    @classmethod
    def _known(cls, format: str) -> str:
        if format not in registry.FORMATS:
            raise ValueError(f"expected one of {', '.join(registry.FORMATS)}")
        return format


class Card(BaseModel):
    """One data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^\w+$")]
    title: Text
    source: Annotated[str, Field(pattern=r"^(https://\S+|made here)$")]
    licence: Text
    classes: Annotated[list[Text], Field(min_length=1)]
    splits: dict[str, Annotated[int, Field(ge=1)] | None]  # pictures in each; null: not known
    folder: Text  # below TOOLKIT_DATA
    layout: Layout
    get: Text  # how to get it, for people
    fiftyone: Text | None = None  # its name in FiftyOne's zoo
    mirrored: bool = True  # is a mirror image still of its class?
    notes: str = ""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) != len(classes):
            raise ValueError("class names repeat")
        return classes


def names() -> Sequence[str]:
    """The names of all cards, sorted; empty where the package is not used from its clone."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def card(name: str) -> Card:
    """The card of that name, checked. InputError where there is none or it breaks the schema."""
    file = FOLDER / f"{name}.yaml"
    if name not in names():
        raise InputError(f"there is no dataset card {name!r}: choose one of {shown(names(), 20)}")
    try:
        data_card = Card.model_validate(parse_yaml(read_bytes(file, YAML_BYTES), file))
    except ValidationError as error:
        raise InputError(first_fault(str(file), error)) from None
    if data_card.name != name:
        raise InputError(f"{file} is the card of {data_card.name!r}: name the file after it")
    return data_card
