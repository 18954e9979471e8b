"""What the network of a run is made from: a name of the zoo, or a darknet cfg whose text the run keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch

from toolkit.models import create_model, list_models
from toolkit.models.darknet.adapt import adapt, cfg_text
from toolkit.models.darknet.cfg import Section, is_cfg, parse_cfg, parse_cfg_text, read_names
from toolkit.models.darknet.names import find_names
from toolkit.models.darknet.network import CfgDetector
from toolkit.models.io import ModelIO
from toolkit.models.network import TorchNetwork
from toolkit.models.spec import class_names, sides_of
from toolkit.models.zoo import ZOO
from toolkit.runtime import InputError
from toolkit.text import short

N = TypeVar("N", bound=TorchNetwork)
CFG_CHANGES = ("classes", "input_size", "anchors")  # of a network from a cfg


@dataclass(frozen=True)
class Origin:
    """A network before its changes.

    Attributes:
        name: in the zoo, or the file name of the cfg.
        cfg: text of the cfg, "" for a network of the zoo.
        names: class names of the cfg; () for class0, class1, ...

    >>> Origin("yoloface-50k").build(TorchNetwork, input_size=112).io.input_size
    (112, 112)
    """

    name: str
    cfg: str = ""
    names: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """As in the network's io. InputError for an unknown network."""
        if self.cfg:
            return ModelIO.task
        if self.name not in ZOO:
            made = Path(self.name).suffix == ".pt" or Path(self.name).is_dir()
            hint = "; to go on from a run: --model NETWORK --weights run/best.pt" if made else ""
            raise InputError(
                f"unknown network {self.name!r}: name one of {', '.join(list_models())}, or a darknet "
                f".cfg{hint}"
            )
        return ZOO[self.name].io.task

    @cached_property
    def sections(self) -> list[Section]:
        """Of the cfg; none for a network of the zoo."""
        return parse_cfg_text(self.cfg, self.name) if self.cfg else []

    def build(self, kind: type[N], /, **changes: Any) -> N:
        """The network with fresh weights.

        Args:
            kind: class of the network, where only one is of use.
            **changes: as in `create_model`; of a cfg only `classes`, `input_size` and `anchors`.

        Returns:
            The network in evaluation mode.

        Raises:
            InputError: for an unknown network or change, a value that does not fit (WrongKind if its type is
                wrong), or a network of another kind.
        """
        model: TorchNetwork = (
            _from_cfg(self.sections, self.names, changes) if self.cfg else create_model(self.name, **changes)
        )
        if not isinstance(model, kind):
            raise InputError(f"{self.name} is a network for {model.io.task}: name one of the same task")
        return model

    def shadow(self, kind: type[N], /, **changes: Any) -> N:
        """The same without memory for its weights, on torch's device "meta"."""
        with torch.device("meta"):
            return self.build(kind, **changes)

    def record(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint keeps of the network beside its weights; `recorded_network` reads it."""
        return {"model_name": self.name, "changes": dict(changes), **({"cfg": self.cfg} if self.cfg else {})}


def check_changes(changes: Any) -> None:
    """InputError for changes of a stranger's file that name another network, or weights."""
    outside = sorted({"name", "weights"} & set(changes if isinstance(changes, Mapping) else ()))
    if outside:
        raise InputError(
            f"the changes of a network have {outside[0]!r}: expected what shapes it, such as input_size"
        )


def recorded_network(kind: type[N], state: Mapping[str, Any]) -> N:
    """The network of a checkpoint, with fresh weights. Raises InputError as `Origin.build`."""
    check_changes(state["changes"])
    return Origin(state["model_name"], state.get("cfg", "")).build(kind, **state["changes"])


def read_origin(
    model: str, cfg: str = "", names: str | Path | Sequence[str] | None = None
) -> tuple[Origin, str]:
    """The network that people name.

    Args:
        model: a name of the zoo, or the path of a darknet cfg.
        cfg: text of the cfg, where its file need not be there.
        names: class names of the cfg, or the file that has them; None: `find_names` looks for it.

    Returns:
        The network with the text of its cfg, from which it can be built where the file is gone; and where
        its class names are from, "" where they were given or it is a network of the zoo.

    Raises:
        InputError: the cfg or the names cannot be read or do not fit each other.
    """
    if not is_cfg(model):
        if names:
            raise InputError(f"{model} has its class names: --names belongs to a .cfg, leave it out")
        return Origin(model), ""
    origin = Origin(Path(model).name, cfg or cfg_text(parse_cfg(model)))
    count = len(origin.shadow(CfgDetector).io.classes)
    if names is None:
        if cfg:
            return origin, ""
        found = find_names(model, count)
        return replace(origin, names=found.names), found.sentence if found.names else ""
    listed = read_names(names) if isinstance(names, str | Path) else tuple(names)
    if len(listed) != count:
        raise InputError(
            f"{origin.name} has classes={count}, but there are {len(listed)} class names (--names): they are "
            "those of the cfg and its weights; the new network has the classes of the data set"
        )
    return replace(origin, names=listed), ""


def _from_cfg(sections: list[Section], names: tuple[str, ...], changes: Mapping[str, Any]) -> CfgDetector:
    unknown = sorted(set(changes) - set(CFG_CHANGES))
    if unknown:
        raise InputError(
            f"unknown change {short(unknown[0])}: a network from a cfg takes {', '.join(CFG_CHANGES)}; "
            "others need a network of the zoo"
        )
    classes = class_names(changes["classes"]) if "classes" in changes else names
    sides = sides_of(changes["input_size"]) if changes.get("input_size") is not None else None
    changed = adapt(sections, len(classes) or None, sides, changes.get("anchors"))
    return CfgDetector(changed, classes or None).eval()
