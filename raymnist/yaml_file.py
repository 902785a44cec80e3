"""YAML as people mean it: `1e-4` is a number, a key given twice is an error, a mistake is one line."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from raymnist.errors import InputError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's floats, and without silent overwriting of duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is not text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# PyYAML follows YAML 1.1, where 1e-4 is text (a float needs a dot and a signed exponent), 010 is eight, 1:30 is ninety
# and 2026-01-02 is a date. Numbers are YAML 1.2's decimal ones instead, and dates are text.
_NUMBERS_AND_DATES = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS_AND_DATES]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?$|[-+]?[0-9]+[eE][-+]?[0-9]+$"
        r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes the texts that this loader would read as numbers."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def parse(text: str, where: str) -> Any:
    """Read one YAML document.

    Raises InputError, which opens with `where` (a file's name) and the line, for a syntax error or a duplicate key.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{where}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:  # the latter for a tag with a wrong value
        raise InputError(f"{where}: expected YAML; {str(error).splitlines()[0]}") from None


def dump(data: Any) -> str:
    """Write `data` as YAML in the order of its keys, short lists on one line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)
