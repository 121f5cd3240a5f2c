"""One release into one repository: looked at before, sent in one commit, and compared afterwards."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from fusedata.errors import HubError
from fusedata.publish.protocol import Hub, Listed, Repo, Stage
from fusedata.publish.release import Local, Release, front_matter, kind_of_card

_HUB_OWNED = {".gitattributes", ".gitignore", "dataset_infos.json", "configuration.json"}
"""Files that a hub writes of itself; they are never compared, and never taken away."""


@dataclass(frozen=True)
class Pushed:
    """What was verified to stand on a hub: `sent` and `removed` count files of this push, `rows` all rows a split."""

    hub: str
    repo: str
    url: str
    commit: str
    tag: str
    public: bool
    sent: int
    removed: int
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Shipment:
    """One release on its way to one repository; `found` is the repository before, None where there is none."""

    hub: Hub
    repo: str
    release: Release
    found: Repo | None
    tag: str
    tagged: bool
    """The tag stands already, on this very content."""


def look(hub: Hub, repo: str, recipe: str, kind: str, *, public: bool) -> Repo | None:
    """Give the repository before anything is sent. Raises HubError where it may not be pushed to."""
    found = hub.look(repo)
    if found is None:
        return None
    if found.public and not public:
        raise HubError(f"{hub.name} shows {repo} to everyone: give --public to push there, or choose another --repo.")
    _refuse_foreign(hub, repo, found, recipe, kind)
    return found


def _refuse_foreign(hub: Hub, repo: str, found: Repo, recipe: str, kind: str) -> None:
    """Refuse what is neither empty nor an earlier state of this release, by the file that tells what made it."""
    names = set(found.files) - _HUB_OWNED
    if names <= {"README.md"}:
        return
    remedy = "Nothing was sent: choose another --repo."
    told, thing = ("recipe.toml", "the dataset of recipe") if hub.kind == "dataset" else ("train.json", "a model of")
    if told not in names:
        raise HubError(f"{repo} on {hub.name} holds something else: {len(names)} files, no {told}. {remedy}")
    content = hub.read(repo, found.revision, told)
    other, held = _model(content) if hub.kind == "model" else (_recipe_name(content), _kind(hub, repo, found))
    if other != recipe:
        raise HubError(f"{repo} on {hub.name} holds {thing} {other}, not of {recipe}. {remedy}")
    if held not in (None, kind):
        raise HubError(f"{repo} on {hub.name} holds the {str(held).upper()} {hub.kind}, not {kind.upper()}. {remedy}")


def _kind(hub: Hub, repo: str, found: Repo) -> str | None:
    """Say which dataset a repository's card describes."""
    card = hub.read(repo, found.revision, "README.md") if "README.md" in found.files else b""
    return kind_of_card(front_matter(card.decode("utf-8", "replace")))


def _model(content: bytes) -> tuple[str, str | None]:
    """Read target and stage out of a trained model's record."""
    try:
        record = json.loads(content)
        return str(record["target"]), str(record["stage"])
    except (ValueError, KeyError, TypeError):
        return "that cannot be read", None


def _recipe_name(content: bytes) -> str:
    try:
        return str(tomllib.loads(content.decode()).get("name", "without a name"))
    except ValueError:
        return "that cannot be read"


def prepare(hub: Hub, repo: str, release: Release, tag: str | None, *, public: bool) -> Shipment:
    """Look at everything that could refuse this push, and write nothing. Raises HubError."""
    found = look(hub, repo, release.recipe, release.kind, public=public)
    name = tag or release.tag
    tagged = found is not None and name in hub.tags(repo)
    if tagged and (differ := _differences(hub, repo, name, hub.layout(release.files), hub.files(repo, name))):
        raise HubError(f"Tag {name} of {repo} on {hub.name} names another state ({differ}). Choose another --tag.")
    return Shipment(hub, repo, release, found, name, tagged)


def send(shipment: Shipment, stage: Stage, *, public: bool) -> Pushed:
    """Send what the repository lacks, take away what it holds too much, compare, and tag. Raises HubError."""
    hub, repo, release = shipment.hub, shipment.repo, shipment.release
    found = shipment.found or _made(hub, repo, release, public=public)
    local = hub.layout(release.files)
    changed = {n: f for n, f in local.items() if n not in found.files or not _same(hub, repo, found, n, f)}
    gone = sorted(set(found.files) - set(local) - _HUB_OWNED)
    revision = found.revision
    if changed or gone:
        with stage(f"push {repo} to {hub.name}", len(changed)) as advance:
            message = f"{release.recipe}, {release.kind.upper()}: {shipment.tag}"
            revision = hub.commit(repo, found.revision, changed, gone, message, advance)
    with stage(f"verify {repo} on {hub.name}", None):
        if differ := _differences(hub, repo, revision, local, hub.files(repo, revision)):
            raise HubError(f"{hub.name} lists other content for {repo} than was sent ({differ}). Push again.")
        if not shipment.tagged:
            hub.tag(repo, shipment.tag, revision)
    url = hub.url(repo)
    return Pushed(
        hub.name, repo, url, revision, shipment.tag, found.public, len(changed), len(gone), dict(release.rows)
    )


def _made(hub: Hub, repo: str, release: Release, *, public: bool) -> Repo:
    hub.create(repo, release.license, public=public)
    made = hub.look(repo)
    if made is None:
        raise HubError(f"{hub.name} made {repo}, and does not show it. Push again in a minute.")
    if made.public and not public:
        raise HubError(f"{hub.name} made {repo} public though it was asked not to. Nothing was sent: remove it there.")
    return made


def _differences(hub: Hub, repo: str, revision: str, local: Mapping[str, Local], held: Mapping[str, Listed]) -> str:
    """Name the first file that differs between here and there; empty: all files are the same, and there is no other."""
    state = Repo(revision, public=False, files=held)
    for name in sorted({*local, *held} - _HUB_OWNED):
        if name not in held:
            return f"{name} is missing"
        if name not in local:
            return f"{name} is too much"
        if not _same(hub, repo, state, name, local[name]):
            return f"{name} differs"
    return ""


def _same(hub: Hub, repo: str, found: Repo, name: str, local: Local) -> bool:
    """Compare by size and whichever hash the hub tells; a file that it tells none of is fetched."""
    listed = found.files[name]
    if listed.sha256:
        return listed.sha256 == local.sha256
    if listed.git:
        return listed.git == local.git
    return listed.size == local.size and local.sha256 == _sha256(hub.read(repo, found.revision, name))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
