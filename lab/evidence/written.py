"""When a criterion was written: before any result was committed, after one, or not yet committed.

`lab.experiment.standing` determines this when a run starts; the record stores it by criterion.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lab.evidence.values import check_type

When = Literal["before any result", "after a result", "not committed", "not known"]
WHENS: tuple[str, ...] = get_args(When)

_SAID = {
    "before any result": "In the committed source before any result was committed",
    "after a result": "Added or changed after a result had been committed",
    "not committed": "Not in the commit at which this run started",
    "not known": "Not known whether it stood in the committed source before the run",
}


@dataclass(frozen=True)
class Written:
    """When one criterion was written.

    Attributes:
        when: one of `WHENS`.
        detail: what it was before, or why it is not known, in a few words; may be empty.
    """

    when: When
    detail: str = ""


def record(found: Mapping[str, Written]) -> dict[str, dict[str, str]]:
    """Plain JSON values by criterion id; `read` is the inverse."""
    return {id_: dataclasses.asdict(each) for id_, each in found.items()}


def read(stored: Any) -> dict[str, Written]:
    """What a record says about its criteria, by id; empty for older records, which say nothing.

    Raises:
        ValueError: it is not as `record` writes it.
    """
    check_type(stored, dict, "written of the record")
    return {id_: _read(id_, each) for id_, each in stored.items()}


def sentences(found: Mapping[str, Written]) -> list[str]:
    """One line per value of `when`, with the ids of its criteria, in the order of `WHENS`."""
    lines = []
    for when in WHENS:
        ids: dict[str, list[str]] = {}
        for id_, each in found.items():
            if each.when == when:
                ids.setdefault(each.detail, []).append(id_)
        said = [", ".join(of) + (f" ({detail})" if detail else "") for detail, of in ids.items()]
        lines += [f"{_SAID[when]}: {'; '.join(said)}."] if said else []
    return lines


def _read(id_: str, stored: Any) -> Written:
    check_type(stored, dict, f"written of criterion {id_} of the record")
    if stored.keys() != {"when", "detail"} or stored["when"] not in WHENS:
        raise ValueError(
            f"written of criterion {id_} of the record has a detail and a when, one of "
            f"{', '.join(WHENS)}: got {stored}"
        )
    check_type(stored["detail"], str, f"written of criterion {id_} of the record")
    return Written(**stored)
