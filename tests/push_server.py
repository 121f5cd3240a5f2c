"""The twin of both hubs, with what their real clients need to write a dataset or a model, besides what `hub_server` reads.

    with PushServer() as server:
        ...                          # HF_ENDPOINT or MODELSCOPE_ENDPOINT = server.url, token = TOKEN
        server.files("org/name")     # what the main branch holds
        server.commits("org/name")   # every commit there was, oldest first
        server.uploads               # the SHA-256 of each large file that arrived whole

Written after the clients' source (huggingface_hub 2.4, modelscope_hub 0.5) and the git-lfs batch API. As on the hubs, an
object that storage holds is not asked for again, a commit on a stale parent is refused (412), a tag that stands is
refused (409), a new dataset holds .gitattributes (and on ModelScope a README.md). One namespace holds both hubs'
datasets and models. Not covered: Xet, multipart uploads, pull requests, quotas.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping

from hub_server import (
    ID,
    ROUTES,
    Dataset,
    HubServer,
    Reply,
    Request,
    as_json,
    git_sha,
    hf_error,
    ms_error,
    ms_tree,
    sha256,
)

STORED = (".parquet", ".safetensors")
TOKEN = "hf_tokenthatmustneverbetold"
Found = re.Match[str]


class PushServer(HubServer):
    """The server, and what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.token = TOKEN
        self.public: set[str] = set()
        self.storage: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.history: dict[str, list[str]] = {}
        self.kinds: dict[str, str] = {}
        self.hashless = False  # let ModelScope's listings tell no hash

    def files(self, repo: str, revision: str = "main") -> Mapping[str, bytes]:
        state = self.datasets[repo].at(revision)
        assert state is not None
        return state[1]

    def commits(self, repo: str) -> list[str]:
        return self.history[repo]

    def make(self, repo: str, files: dict[str, bytes], *, public: bool = False) -> None:
        self.datasets[repo] = Dataset({}, {})
        self.history[repo] = []
        self.public |= {repo} if public else set()
        self.write(repo, files)

    def write(self, repo: str, files: dict[str, bytes]) -> str:
        """The next commit on the main branch."""
        listing = json.dumps([self.history[repo], sorted((name, sha256(content)) for name, content in files.items())])
        commit = hashlib.sha1(listing.encode()).hexdigest()
        dataset = self.datasets[repo]
        dataset.commits[commit] = files
        dataset.refs |= {"main": commit, "master": commit}
        self.history[repo].append(commit)
        return commit

    def tags(self, repo: str) -> dict[str, str]:
        refs = self.datasets[repo].refs
        return {name: commit for name, commit in refs.items() if name not in {"main", "master"}}


def server_of(request: Request) -> PushServer:
    assert isinstance(request.server, PushServer)
    return request.server


def allowed(request: Request) -> bool:
    return request.headers.get("Authorization") == f"Bearer {server_of(request).token}"


# --- Hugging Face ---------------------------------------------------------------------------------------------


def hf_whoami(request: Request, _found: Found) -> Reply:
    if not allowed(request):
        return hf_error(401, "", f"Invalid credentials: {request.headers.get('Authorization')}")
    return as_json({"name": "tester", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})


def hf_create(request: Request, _found: Found) -> Reply:
    if not allowed(request):
        return hf_error(401, "", "Invalid credentials")
    asked, server = json.loads(request.body), server_of(request)
    repo = f"{asked['organization']}/{asked['name']}"
    if repo in server.datasets:
        return hf_error(409, "", "You already created this dataset repo")
    server.kinds[repo] = asked.get("type") or "model"  # huggingface_hub leaves a model's out
    server.make(repo, {".gitattributes": b"*.parquet filter=lfs\n"}, public=asked.get("visibility") != "private")
    return as_json({"url": f"{server.url}/datasets/{repo}", "name": repo, "id": "1"})


def hf_info(request: Request, found: Found) -> Reply:
    server = server_of(request)
    if found["id"] not in server.datasets or not allowed(request):
        return hf_error(404, "RepoNotFound", "Repository not found")
    state = server.datasets[found["id"]].at(found.groupdict().get("revision") or "main")
    if state is None:
        return hf_error(404, "RevisionNotFound", "Invalid rev id")
    return as_json({"id": found["id"], "sha": state[0], "private": found["id"] not in server.public, "siblings": []})


def hf_tree(request: Request, found: Found) -> Reply:
    """Parquet is known by its SHA-256, everything else by git's hash."""
    state = server_of(request).datasets[found["id"]].at(found["revision"])
    if state is None:
        return hf_error(404, "RevisionNotFound", "Invalid rev id")
    entries = []
    for name, content in state[1].items():
        entry = {"type": "file", "path": name, "oid": git_sha(content), "size": len(content)}
        lfs = {"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 130}}
        entries.append(entry | (lfs if name.endswith(STORED) else {}))
    return as_json(entries)


def hf_yaml(_request: Request, _found: Found) -> Reply:
    return as_json({"errors": [], "warnings": []})


def hf_preupload(request: Request, found: Found) -> Reply:
    files = json.loads(request.body)["files"]
    mode = {True: "lfs", False: "regular"}
    modes = [{"path": f["path"], "uploadMode": mode[f["path"].endswith(STORED)]} for f in files]
    return as_json({"files": [{**f, "shouldIgnore": False} for f in modes]})


def lfs_batch(request: Request, found: Found) -> Reply:
    """Actions only for what the storage lacks: on Hugging Face each object is answered, here on both hubs."""
    server = server_of(request)
    objects = []
    for wanted in json.loads(request.body)["objects"]:
        upload = {"upload": {"href": f"{server.cdn}/lfs/{wanted['oid']}"}}
        objects.append(wanted if wanted["oid"] in server.storage else {**wanted, "actions": upload})
    answer = {"transfer": "basic", "objects": objects}
    return as_json(answer | {"Code": 200, "Data": answer} if "/api/v1/" in request.path else answer)


def lfs_put(request: Request, found: Found) -> Reply:
    """Storage takes only what has the hash that it is put under."""
    server = server_of(request)
    if sha256(request.body) != found["digest"]:
        return Reply(400, b"")
    server.storage[found["digest"]] = request.body
    server.uploads.append(found["digest"])
    return Reply(200, b"")


def hf_commit(request: Request, found: Found) -> Reply:
    server, repo = server_of(request), found["id"]
    if not allowed(request):
        return hf_error(401, "", "Invalid credentials")
    header, *steps = [json.loads(line) for line in request.body.splitlines()]
    head, held = server.datasets[repo].at("main") or ("", {})
    if header["value"].get("parentCommit") != head:
        return hf_error(412, "", "A commit has happened since. Please refresh and try again.")
    files = dict(held)
    for step in steps:
        value = step["value"]
        if step["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif step["key"] == "lfsFile":
            if value["oid"] not in server.storage:
                return hf_error(400, "", "LFS pointer points to a file that does not exist")
            files[value["path"]] = server.storage[value["oid"]]
        else:
            del files[value["path"]]
    commit = server.write(repo, files)
    return as_json({"success": True, "commitOid": commit, "commitUrl": f"{server.url}/datasets/{repo}/commit/{commit}"})


def hf_refs(request: Request, found: Found) -> Reply:
    def ref(kind: str, name: str, commit: str) -> dict[str, str]:
        return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}

    server, repo = server_of(request), found["id"]
    tags = [ref("tags", name, commit) for name, commit in server.tags(repo).items()]
    head = server.datasets[repo].refs["main"]
    return as_json({"branches": [ref("heads", "main", head)], "tags": tags, "converts": []})


def hf_tag(request: Request, found: Found) -> Reply:
    refs, name = server_of(request).datasets[found["id"]].refs, json.loads(request.body)["tag"]
    if name in refs:
        return hf_error(409, "", "Tag reference exists already")
    refs[name] = found["revision"]
    return as_json({})


# --- ModelScope -----------------------------------------------------------------------------------------------


def ms_whoami(request: Request, _found: Found) -> Reply:
    if not allowed(request):
        return ms_error(401, 10010101001, f"bad token {request.headers.get('Authorization')}")
    return as_json({"success": True, "data": {"username": "tester", "email": "t@example.org"}})


def ms_create(request: Request, _found: Found) -> Reply:
    """The client sends a form for a dataset (no field of it holds a line break), JSON for a model."""
    if not allowed(request):
        return ms_error(401, 10010101001, "bad token")
    server, kind = server_of(request), request.path.rsplit("/", 1)[-1].removesuffix("s")
    if kind == "model":
        told = {key.encode(): str(value).encode() for key, value in json.loads(request.body).items()}
        form = told | {b"Owner": told[b"Path"]}
    else:
        form = dict(re.findall(rb'name="(\w+)"\r\n\r\n(.*?)\r\n', request.body))
    repo = f"{form[b'Owner'].decode()}/{form[b'Name'].decode()}"
    server.kinds[repo] = kind
    if repo in server.datasets:
        return ms_error(400, 10020101002, "dataset already exists")
    server.make(
        repo, {".gitattributes": b"*\n", "README.md": b"---\nlicense: x\n---\n"}, public=form[b"Visibility"] == b"5"
    )
    return as_json({"Code": 200, "Success": True, "Data": {"Id": 1, "Path": repo}})


def ms_info(request: Request, found: Found) -> Reply:
    server, repo = server_of(request), found["id"]
    if repo not in server.datasets or not allowed(request):
        return ms_error(404, 10010205001, "not found")
    visibility = 5 if repo in server.public else 1
    return as_json({"Code": 200, "Success": True, "Data": {"Id": 1, "Name": repo, "Visibility": visibility}})


def ms_tree_told(request: Request, found: Found) -> Reply:
    reply = ms_tree(request, found)
    return (
        Reply(reply.status, re.sub(rb'"Sha256": "\w+"', b'"Sha256": ""', reply.body), reply.headers)
        if server_of(request).hashless
        else reply
    )


def ms_commit(request: Request, found: Found) -> Reply:
    server, repo = server_of(request), found["id"]
    if not allowed(request):
        return ms_error(401, 10010101001, "bad token")
    files = dict(server.files(repo))
    for action in json.loads(request.body)["actions"]:
        if action["action"] == "delete":
            del files[action["path"]]
        elif action["type"] == "lfs":
            if action["sha256"] not in server.storage:
                return ms_error(400, 10010205009, "no such object")
            files[action["path"]] = server.storage[action["sha256"]]
        else:
            files[action["path"]] = base64.b64decode(action["content"])
    commit = server.write(repo, files)
    return as_json({"Code": 200, "Success": True, "Data": {"oid": commit}})


def ms_revisions(request: Request, found: Found) -> Reply:
    tags = [{"Revision": name, "CreatedAt": 1} for name in server_of(request).tags(found["id"])]
    revisions = {"Branches": [{"Revision": "master", "CreatedAt": 1}], "Tags": tags}
    return as_json({"Code": 200, "Success": True, "Data": {"RevisionMap": revisions}})


def ms_tag(request: Request, found: Found) -> Reply:
    dataset, asked = server_of(request).datasets[found["id"]], json.loads(request.body)
    state = dataset.at(asked["Ref"])
    if state is None or asked["TagName"] in dataset.refs:
        return ms_error(409, 10010205010, "tag exists")
    dataset.refs[asked["TagName"]] = state[0]
    return as_json({"Code": 200, "Success": True, "Data": {}})


KIND = "(?:datasets|models)"
WRITING = [
    ("GET", r"/api/whoami-v2", hf_whoami),
    ("POST", r"/api/repos/create", hf_create),
    ("POST", r"/api/validate-yaml", hf_yaml),
    ("GET", rf"/api/{KIND}/{ID}(?:/revision/(?P<revision>[^/]+))?", hf_info),
    ("GET", rf"/api/{KIND}/{ID}/tree/(?P<revision>[^/]+)", hf_tree),
    ("POST", rf"/api/{KIND}/{ID}/preupload/main", hf_preupload),
    ("POST", rf"/(?:datasets/)?{ID}\.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", r"/lfs/(?P<digest>[0-9a-f]{64})", lfs_put),
    ("POST", rf"/api/{KIND}/{ID}/commit/main", hf_commit),
    ("GET", rf"/api/{KIND}/{ID}/refs", hf_refs),
    ("POST", rf"/api/{KIND}/{ID}/tag/(?P<revision>[^/]+)", hf_tag),
    ("GET", r"/openapi/v1/users/me", ms_whoami),
    ("POST", rf"/api/v1/{KIND}", ms_create),
    ("GET", rf"/api/v1/{KIND}/{ID}", ms_info),
    ("GET", rf"/api/v1/{KIND}/{ID}/repo/(?:tree|files)", ms_tree_told),
    ("POST", rf"/api/v1/repos/{KIND}/{ID}/info/lfs/objects/batch", lfs_batch),
    ("POST", rf"/api/v1/repos/{KIND}/{ID}/commit/master", ms_commit),
    ("GET", rf"/api/v1/{KIND}/{ID}/revisions", ms_revisions),
    ("POST", rf"/api/v1/{KIND}/{ID}/repo/tag", ms_tag),
]
PushServer.routes = [*WRITING, *ROUTES]
