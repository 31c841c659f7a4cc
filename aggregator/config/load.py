"""Reads `fleet.yaml`, what it includes and the environment into a `FleetConfig`.

The only place that looks at the environment. Every error names file, line and path.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from aggregator.config.document import NOT_AVAILABLE, FleetConfig
from aggregator.documents import Document, Place, load_document
from aggregator.errors import ConfigError

_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, the files it came from and the folders its `include` patterns look in."""

    config: FleetConfig
    files: tuple[Path, ...]


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """Read the configuration at *path*.

    Raises `ConfigError` for the first thing that is wrong, with file, line and path.
    """
    environment = os.environ if environment is None else environment
    assembled = _Assembled.read(path)
    for place in _places(assembled.data):
        assembled.check_available(place)
    data = {
        key: assembled.expanded(value, environment, (key,)) for key, value in assembled.data.items()
    }
    try:
        config = FleetConfig.model_validate(data)
    except ValidationError as error:
        raise assembled.translated(error) from None
    assembled.check_unique_names(config)
    return Loaded(config, tuple(document.file for document in assembled.documents))


def included_files(path: Path, patterns: object) -> list[Path]:
    """Return the files that *patterns* (relative to the main file *path*) name, sorted."""
    if not isinstance(patterns, list):
        return []
    texts = [pattern for pattern in patterns if isinstance(pattern, str)]
    try:
        return sorted({file for text in texts for file in path.parent.glob(text) if file.is_file()})
    except (NotImplementedError, ValueError) as error:
        message = "patterns are relative to this file, for example clusters.d/*.yaml"
        raise ConfigError(message, file=path, path="include") from error


@dataclass(frozen=True, slots=True)
class _Assembled:
    """The main document with the clusters of all files; `origins[i]` wrote `clusters[i]`."""

    data: dict[str, object]
    documents: tuple[Document, ...]
    origins: tuple[tuple[Document, int], ...]

    @staticmethod
    def read(path: Path) -> "_Assembled":
        main = load_document(path)
        data = _mapping(main)
        files = included_files(path, data.get("include"))
        documents = (main, *(load_document(file) for file in files))
        clusters: list[object] = []
        origins: list[tuple[Document, int]] = []
        for document in documents:
            own = _mapping(document)
            if document is not main and set(own) - {"clusters"}:
                key = min(set(own) - {"clusters"})
                raise document.error((key,), "an included file may only hold clusters")
            listed = own.get("clusters") or []
            if not isinstance(listed, list):
                raise document.error(("clusters",), "must be a list")
            origins.extend((document, index) for index in range(len(listed)))
            clusters.extend(listed)
        return _Assembled({**data, "clusters": clusters}, documents, tuple(origins))

    def error(self, place: Place, message: str) -> ConfigError:
        """Return the error that *message* is wrong at *place*, in the file that wrote it."""
        match place:
            case ("clusters", int(index), *rest) if index < len(self.origins):
                document, own_index = self.origins[index]
                return document.error(("clusters", own_index, *rest), message)
        return self.documents[0].error(place, message)

    def check_available(self, place: Place) -> None:
        """Refuse what the format has a place for but this version does not act on."""
        if tuple("*" if isinstance(key, int) else key for key in place) in NOT_AVAILABLE:
            raise self.error(place, "not available in this version; remove it")

    def expanded(self, value: object, environment: Mapping[str, str], place: Place) -> object:
        """Return *value* with every scalar that is `${NAME}` as a whole replaced."""
        if isinstance(value, dict):
            return {
                key: self.expanded(item, environment, (*place, key)) for key, item in value.items()
            }
        if isinstance(value, list):
            return [
                self.expanded(item, environment, (*place, index))
                for index, item in enumerate(value)
            ]
        match = _ENVIRONMENT.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return value
        if match[1] not in environment:
            raise self.error(place, f"environment variable {match[1]} is not set")
        return environment[match[1]]

    def translated(self, error: ValidationError) -> ConfigError:
        """Return the first of pydantic's findings, without the value that it is about."""
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "unknown key; `aggregator config schema` lists the known ones"
        return self.error(first["loc"], message)

    def check_unique_names(self, config: FleetConfig) -> None:
        """Refuse two clusters of one name."""
        seen: set[str] = set()
        for index, cluster in enumerate(config.clusters):
            if cluster.name in seen:
                message = f"the name {cluster.name} is taken by another cluster; names are unique"
                raise self.error(("clusters", index, "name"), message)
            seen.add(cluster.name)


def _mapping(document: Document) -> dict[str, object]:
    if document.data is None:
        return {}
    if not isinstance(document.data, dict):
        raise document.error((), "must be a mapping, for example `clusters: [...]`")
    return document.data


def _places(value: object, place: Place = ()) -> Iterator[Place]:
    """Yield the place of every mapping key below *value*."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*place, key)
            yield from _places(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places(item, (*place, index))
