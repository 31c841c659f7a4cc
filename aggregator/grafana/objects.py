"""What we keep in Grafana: a folder, a data source, dashboards; each compares and writes itself.

An object of ours is known by its uid. What another tool provisions, or what has our uid but is not
ours, is left alone and reported.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

import orjson
from grafana_client import GrafanaApi

from aggregator.errors import ConfigError
from aggregator.grafana.connect import Json, read, write

FOLDER_UID = "fleet"
DATASOURCE_UID = "fleet-metrics"
FAMILY_TAG = "fleet"
_REVISION = "rev:"
# What an operator may have set on our data source; a PUT without it would take it away.
_OPERATORS = (
    "name", "isDefault", "version", "basicAuth", "basicAuthUser", "user", "withCredentials",
)  # fmt: skip


class Action(Enum):
    """What happens to an object."""

    CREATE = "create"
    UPDATE = "update"
    KEEP = "keep"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Change:
    """What is, or was, to be done about one object, and why; `found` is what Grafana has."""

    what: str
    action: Action
    reason: str = ""
    found: Json = field(default_factory=dict, repr=False, compare=False)


class Wanted(Protocol):
    """An object as we want it."""

    def decide(self, api: GrafanaApi) -> Change:
        """Read what Grafana has and return what to do. Raises `GrafanaError`."""
        ...

    def write(self, api: GrafanaApi, change: Change) -> None:
        """Create or update the object, as `decide` said. Raises `GrafanaError`."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of our dashboards."""

    title: str

    def decide(self, api: GrafanaApi) -> Change:
        """Compare the title."""
        what = f"folder {self.title}"
        found = read(what, lambda: api.folder.get_folder(FOLDER_UID))
        if found is None:
            return Change(what, Action.CREATE)
        if found.get("managedBy"):
            return Change(what, Action.LEAVE, f"{found['managedBy']} manages it", found)
        if found.get("title") != self.title:
            return Change(what, Action.UPDATE, f"its title is {found.get('title')}", found)
        return Change(what, Action.KEEP, found=found)

    def write(self, api: GrafanaApi, change: Change) -> None:
        """Create or rename the folder."""
        folder = api.folder
        if change.action is Action.CREATE:
            write(change.what, lambda: folder.create_folder(self.title, FOLDER_UID))
        else:
            write(change.what, lambda: folder.update_folder(FOLDER_UID, self.title, overwrite=True))


@dataclass(frozen=True, slots=True)
class DataSource:
    """Our Prometheus API as Grafana's data source; `token` is what Grafana sends us, if any."""

    url: str
    token: str = field(default="", repr=False)

    def decide(self, api: GrafanaApi) -> Change:
        """Compare what we set; what an operator added, renamed or made the default stays."""
        what = f"data source {DATASOURCE_UID}"
        found = read(what, lambda: api.datasource.get_datasource_by_uid(DATASOURCE_UID))
        if found is None:
            return Change(what, Action.CREATE)
        if found.get("readOnly"):
            return Change(what, Action.LEAVE, "it is provisioned from a file", found)
        if found.get("type") != "prometheus":
            return Change(what, Action.LEAVE, f"it is of type {found.get('type')}", found)
        present, wanted = found.get("jsonData") or {}, self._json_data()
        differ = [key for key in ("access", "url") if found.get(key) != self._body()[key]]
        differ += [f"jsonData.{key}" for key in wanted if present.get(key) != wanted[key]]
        if differ:
            return Change(what, Action.UPDATE, f"{', '.join(differ)} differ", found)
        return Change(what, Action.KEEP, found=found)

    def write(self, api: GrafanaApi, change: Change) -> None:
        """Create the data source, or replace it with what it has and what we set."""
        body, found = self._body(), change.found
        if change.action is Action.CREATE:
            write(change.what, lambda: api.datasource.create_datasource(body))
            return
        kept = {key: found[key] for key in _OPERATORS if key in found}
        json_data = (found.get("jsonData") or {}) | self._json_data()
        full = body | kept | {"jsonData": json_data}
        write(change.what, lambda: api.datasource.update_datasource_by_uid(DATASOURCE_UID, full))

    def _body(self) -> Json:
        body: Json = {
            "name": "Fleet metrics",
            "uid": DATASOURCE_UID,
            "type": "prometheus",
            "access": "proxy",
            "url": self.url,
            "isDefault": False,
            "jsonData": self._json_data(),
        }
        if self.token:
            body["secureJsonData"] = {"httpHeaderValue1": f"Bearer {self.token}"}
        return body

    def _json_data(self) -> Json:
        data: Json = {
            "httpMethod": "POST",
            "timeInterval": "30s",
            "queryTimeout": "60s",
            "prometheusType": "Prometheus",
            "prometheusVersion": "2.50.1",
            "cacheLevel": "Low",
            "seriesLimit": 40_000,
            "manageAlerts": True,
            "allowAsRecordingRulesTarget": False,
            "incrementalQuerying": False,
            "disableRecordingRules": False,
        }
        if self.token:
            # Grafana never returns a secret; this tells whether it has the present one.
            digest = hmac.new(self.token.encode(), DATASOURCE_UID.encode(), hashlib.sha256)
            data |= {"httpHeaderName1": "Authorization", "fleetTokenId": digest.hexdigest()[:16]}
        return data


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard of ours; a tag holds the digest of what we sent."""

    uid: str
    title: str
    content: Json = field(repr=False)

    @property
    def revision(self) -> str:
        """The tag that changes with the content."""
        canonical = orjson.dumps(self.content, option=orjson.OPT_SORT_KEYS)
        return _REVISION + hashlib.sha256(canonical).hexdigest()[:12]

    def decide(self, api: GrafanaApi) -> Change:
        """Compare digests, since Grafana migrates what it stores."""
        what = f"dashboard {self.uid}"
        found = read(what, lambda: api.dashboard.get_dashboard(self.uid))
        if found is None:
            return Change(what, Action.CREATE)
        if found.get("meta", {}).get("provisioned"):
            return Change(what, Action.LEAVE, "it is provisioned from a file", found)
        tags = found.get("dashboard", {}).get("tags") or []
        if FAMILY_TAG not in tags:
            return Change(what, Action.LEAVE, f"it lacks the tag {FAMILY_TAG}: not ours", found)
        if self.revision not in tags:
            return Change(what, Action.UPDATE, "its content is of another revision", found)
        return Change(what, Action.KEEP, found=found)

    def write(self, api: GrafanaApi, change: Change) -> None:
        """Save the dashboard on top of the version that was read, where it is now."""
        content = self.content | {"id": None, "tags": [*self.content["tags"], self.revision]}
        folder_uid = FOLDER_UID
        if change.action is Action.UPDATE:
            content["version"] = change.found["dashboard"].get("version", 0)
            folder_uid = change.found.get("meta", {}).get("folderUid") or FOLDER_UID
        payload = {
            "dashboard": content,
            "folderUid": folder_uid,
            "overwrite": False,
            "message": f"fleet-aggregator {self.revision}",
        }
        write(change.what, lambda: api.dashboard.update_dashboard(payload))


def load_dashboards(paths: Sequence[Path]) -> tuple[Dashboard, ...]:
    """Return the dashboards of files. Raises `ConfigError` if one is not a dashboard of ours."""
    dashboards = []
    for path in paths:
        try:
            content = orjson.loads(path.read_bytes())
            uid, title, tags = content["uid"], content["title"], content["tags"]
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigError(f"is not a dashboard ({type(error).__name__})", file=path) from error
        if FAMILY_TAG not in tags:
            raise ConfigError(f"lacks the tag {FAMILY_TAG}", file=path, path="tags")
        dashboards.append(Dashboard(uid, title, content))
    return tuple(dashboards)
