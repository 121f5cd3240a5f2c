"""Where a corpus is: folders, the hub's layout, and both hubs through their real clients against a local twin."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer, sha256

from fusedata.collect.locate import choose, locate
from fusedata.errors import CorpusError

LINE = b'{"x": 1}\n'
SMALL, LARGE = LINE, LINE * 100
FILES = {
    "README.md": b"# card",
    "data/train-00000-of-00002.jsonl": LARGE,
    "data/train-00001-of-00002.jsonl": SMALL,
    "data/test-00000-of-00001.jsonl": LINE * 2,
}
TRAIN = ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"]
SECRET = "hf_averysecrettoken"


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(LINE)
    return folder


# --- choosing files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "split", "chosen"),
    [
        (["train.jsonl", "test.jsonl"], "train", ["train.jsonl"]),
        (["train.jsonl.gz", "preference/preference.jsonl.gz"], "train", ["train.jsonl.gz"]),
        (["train.jsonl", "preference/train.jsonl"], "train", ["train.jsonl"]),
        (["data/b/train.jsonl", "data/train-0.json"], "train", ["data/train-0.json"]),
        (["main/train-00000-of-00001.parquet", "x/test.parquet"], "train", ["main/train-00000-of-00001.parquet"]),
        (["data/train_1M-00000-of-00003.parquet", "data/train-00000-of-00032.parquet"], "train",
         ["data/train-00000-of-00032.parquet"]),
        (["data/train_1M-00000-of-00003.parquet", "data/train-00000-of-00032.parquet"], "train_1M",
         ["data/train_1M-00000-of-00003.parquet"]),
        (["data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet"], "train",
         ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]),
        (["train.ndjson.zst", "train.csv", "train.txt", "xtrain.json", "train.parquet.bak"], "train",
         ["train.ndjson.zst"]),
    ],
)  # fmt: skip
def test_files_of_a_split_are_found_by_name(names, split, chosen):
    assert choose("a/b", names, [], split) == chosen


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("*.jsonl", ["a.jsonl"]),
        ("**/*.jsonl", ["a.jsonl", "x/b.jsonl", "x/y/c.jsonl"]),
        ("x/**", ["x/b.jsonl", "x/y/c.jsonl"]),
        ("x/?.jsonl", ["x/b.jsonl"]),
        ("./a.jsonl", ["a.jsonl"]),
        ("x/y/c.jsonl", ["x/y/c.jsonl"]),
    ],
)
def test_pattern_matches_whole_names_and_star_stops_at_a_slash(pattern, chosen):
    assert choose("a/b", ["x/y/c.jsonl", "x/b.jsonl", "a.jsonl"], [pattern], "train") == chosen


def test_name_with_brackets_is_matched_by_itself():
    assert choose("a/b", ["a[1].jsonl", "a1.jsonl"], ["a[1].jsonl"], "train") == ["a[1].jsonl"]


def test_file_that_two_patterns_match_is_chosen_once():
    assert choose("a/b", ["a.jsonl"], ["a.jsonl", "*.jsonl"], "train") == ["a.jsonl"]


def test_pattern_that_matches_nothing_is_refused_beside_one_that_does():
    with pytest.raises(CorpusError, match=r"^Corpus a/b has no file b\.jsonl\. It has a\.jsonl\."):
        choose("a/b", ["a.jsonl"], ["*.jsonl", "b.jsonl"], "train")


def test_split_that_is_not_there_is_refused_with_the_files_that_are():
    with pytest.raises(
        CorpusError, match=r"^Corpus a/b has no file dev\.\* or dev-\*\.\* .* It has f0.* and 12 more\."
    ):
        choose("a/b", [f"f{i}.jsonl" for i in range(20)], [], "dev")


def test_split_in_several_unusual_folders_is_refused_with_the_folders():
    with pytest.raises(CorpusError, match=r"the split train in several folders: main/, socratic/\."):
        choose("a/b", ["main/train.jsonl", "socratic/train.jsonl"], [], "train")


# --- folders --------------------------------------------------------------------------------------------------


def test_path_to_a_folder_gives_its_files_by_their_names(tmp_path):
    fill(tmp_path, *FILES)
    located = locate("a/b", files=[], split="train", path=tmp_path)
    assert (located.id, located.origin, list(located.names)) == ("a/b", "folder", TRAIN)
    assert located.files == tuple(tmp_path / name for name in TRAIN)


def test_path_to_a_file_gives_that_file_whatever_its_name(tmp_path):
    path = fill(tmp_path, "some.jsonl") / "some.jsonl"
    located = locate("a/b", files=["x"], split="train", path=path)
    assert (located.files, located.names) == ((path,), ("some.jsonl",))


def test_mirror_is_looked_up_by_the_name_with_two_underscores(tmp_path):
    fill(tmp_path / "org__name", *FILES)
    located = locate("org/name", files=["data/test-*"], split="train", mirror=tmp_path)
    assert (located.origin, located.names) == ("folder", ("data/test-00000-of-00001.jsonl",))


def test_path_comes_before_the_mirror(tmp_path):
    fill(tmp_path / "org__name", "train.jsonl")
    fill(tmp_path / "mine", "train.jsonl")
    located = locate("org/name", files=[], split="train", mirror=tmp_path, path=tmp_path / "mine")
    assert located.files == (tmp_path / "mine/train.jsonl",)


def test_hidden_files_are_not_part_of_a_corpus(tmp_path):
    fill(tmp_path, "train.jsonl", ".cache/train.jsonl", ".train.jsonl")
    assert locate("a/b", files=["**"], split="train", path=tmp_path).names == ("train.jsonl",)


def test_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"^Corpus a/b is not at .*nowhere: there is no such file or folder"):
        locate("a/b", files=[], split="train", path=tmp_path / "nowhere")


def test_path_that_the_system_refuses_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="cannot be read"):
        locate("a/b", files=[], split="train", path=tmp_path / ("x" * 300))


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="It has no files at all"):
        locate("a/b", files=[], split="train", path=tmp_path)


def test_revision_of_a_folder_follows_names_and_contents_only(tmp_path):
    def revision(name: str) -> str:
        return locate("a/b", files=["*.jsonl"], split="train", path=tmp_path / name).revision

    for name in "abcd":
        fill(tmp_path / name, "1.jsonl", "2.jsonl")
    (tmp_path / "b/other.txt").write_text("not chosen")
    (tmp_path / "c/2.jsonl").write_text("{}")
    (tmp_path / "d/2.jsonl").rename(tmp_path / "d/3.jsonl")
    assert revision("a").startswith("sha256:")
    assert revision("a") == revision("b")
    assert len({revision(name) for name in "acd"}) == 3


# --- hubs: the real clients, in a process of their own, against the twin ---------------------------------------

RUN = """
import json, sys
from pathlib import Path
from fusedata.collect.locate import locate
from fusedata.errors import FusedataError
asked = json.loads(sys.argv[1])
if "without" in asked:
    sys.modules[asked.pop("without")] = None
asked = {key: Path(value) if key in ("cache", "mirror") else value for key, value in asked.items()}
try:
    found = locate(**asked)
    print(json.dumps({"origin": found.origin, "revision": found.revision, "names": found.names,
                      "contents": [path.read_bytes().decode() for path in found.files]}))
except FusedataError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


class Client:
    """Runs `locate` in a fresh process with a home of its own, as a user's would, and holds it to silence."""

    def __init__(self, home: Path, url: str) -> None:
        self.environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "NO_PROXY": "127.0.0.1,localhost",
            "HF_ENDPOINT": url,
            "HF_HUB_DISABLE_XET": "1",
            "MODELSCOPE_ENDPOINT": url,
            "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1",
            "MODELSCOPE_DOWNLOAD_MAX_RETRIES": "1",
        }

    def __call__(self, name: str = "org/name", *, environment: dict[str, str] | None = None, **asked: object) -> dict:
        asked = {"id": name, "files": [], "split": "train", **asked}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", RUN, json.dumps(asked)],
            env=self.environment | (environment or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stderr == ""
        found = json.loads(done.stdout)
        assert SECRET not in done.stdout
        assert "\n" not in found.get("message", "")
        return found


@pytest.fixture
def client(tmp_path: Path, server: HubServer) -> Client:
    return Client(tmp_path, server.url)


OFFLINE = {"HF_HUB_OFFLINE": "1"}
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing answers
BOTH = pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
NAME = {"huggingface": "Hugging Face", "modelscope": "ModelScope"}
FILE = {"huggingface": r"GET /(cdn|datasets/org/name/resolve)/", "modelscope": r"GET /api/v1/datasets/org/name/repo\?"}
LIST = {"huggingface": r"GET /api/datasets/org/name$", "modelscope": r"GET /api/v1/datasets/org/name/repo/tree"}


@BOTH
def test_corpus_from_a_hub_has_the_contents_of_its_split(server, client, hub):
    server.add("org/name", FILES)
    found = client(hub=hub)
    assert (found["origin"], found["names"]) == (hub, TRAIN)
    assert found["contents"] == [FILES[name].decode() for name in TRAIN]


@BOTH
def test_second_run_fetches_no_file_again(server, client, hub):
    server.add("org/name", FILES)
    client(hub=hub)
    assert len(server.asked(FILE[hub])) == 2
    client(hub=hub)
    assert len(server.asked(FILE[hub])) == 2


@BOTH
def test_only_the_chosen_files_are_fetched(server, client, hub):
    server.add("org/name", FILES)
    assert client(hub=hub, files=["data/test-*"])["names"] == ["data/test-00000-of-00001.jsonl"]
    assert len(server.asked(FILE[hub])) == 1


@BOTH
def test_files_are_stored_in_the_cache_that_was_named(server, client, tmp_path, hub):
    server.add("org/name", FILES)
    client(hub=hub, cache=str(tmp_path / "mine"))
    assert sorted(path.name for path in (tmp_path / "mine").rglob("train-*.jsonl")) == [
        name.removeprefix("data/") for name in TRAIN
    ]


def test_huggingface_revision_is_recorded_as_its_commit(server, client):
    commit = server.add("org/name", FILES)
    assert client()["revision"] == commit


def test_huggingface_branch_is_resolved_and_an_older_commit_is_served(server, client):
    old = server.add("org/name", {"train.jsonl": SMALL})
    new = server.add("org/name", {"train.jsonl": LARGE})
    assert client(revision="main") == client()
    assert (client()["revision"], client()["contents"]) == (new, [LARGE.decode()])
    older = client(revision=old)
    assert (older["revision"], older["contents"]) == (old, [SMALL.decode()])


def test_huggingface_commit_in_the_cache_needs_no_request(server, client):
    commit = server.add("org/name", FILES)
    found = client(revision=commit)
    server.log.clear()
    assert client(revision=commit) == found
    assert not server.asked(r"org/name")


def test_huggingface_offline_serves_the_branch_that_the_cache_knows(server, client):
    server.add("org/name", FILES)
    found = client()
    server.log.clear()
    assert client(environment=OFFLINE) == found
    assert client(environment=OFFLINE, revision=found["revision"]) == found
    assert server.log == []


def test_huggingface_without_network_serves_what_the_cache_has(server, client):
    server.add("org/name", FILES)
    assert client() == client(environment={"HF_ENDPOINT": NOWHERE})


def test_huggingface_offline_without_cache_is_refused(client):
    found = client(environment=OFFLINE)
    assert found["error"] == "HubError"
    assert "org/name is not in the cache of Hugging Face, and HF_HUB_OFFLINE forbids" in found["message"]


def test_huggingface_offline_refuses_a_split_that_was_not_fetched(server, client):
    server.add("org/name", FILES)
    client()
    found = client(environment=OFFLINE, split="test")
    assert "HF_HUB_OFFLINE forbids" in found["message"]


def test_modelscope_revision_follows_the_contents_of_the_branch(server, client):
    server.add("org/name", {"train.jsonl": SMALL})
    first = client(hub="modelscope")
    server.add("org/name", {"train.jsonl": LARGE})
    second = client(hub="modelscope")
    assert first["revision"].startswith("master@sha256:")
    assert first["revision"] != second["revision"]
    assert second["contents"] == [LARGE.decode()]


def test_modelscope_commit_is_recorded_as_asked_for(server, client):
    commit = server.add("org/name", FILES)
    assert client(hub="modelscope", revision=commit)["revision"] == commit


def test_modelscope_is_asked_for_the_name_that_the_corpus_has_there(server, client):
    server.add("AI-ModelScope/name", FILES)
    assert client(hub="modelscope", modelscope_id="AI-ModelScope/name")["names"] == TRAIN


def test_missing_modelscope_client_is_named_with_its_extra(client):
    found = client(hub="modelscope", without="modelscope_hub")
    assert found["error"] == "MissingExtraError"
    assert "pip install 'fusedata[hub]'" in found["message"]


def test_corpus_that_the_mirror_lacks_comes_from_the_hub(server, client, tmp_path):
    server.add("org/name", FILES)
    assert client(mirror=str(tmp_path))["origin"] == "huggingface"


@BOTH
def test_split_that_a_hub_lacks_is_a_corpus_error_with_its_files(server, client, hub):
    server.add("org/name", FILES)
    found = client(hub=hub, split="dev")
    assert found["error"] == "CorpusError"
    assert "It has README.md, data/test-00000-of-00001.jsonl, data/train" in found["message"]


def test_huggingface_corpus_that_is_not_there_is_refused(client):
    found = client()
    assert found["error"] == "HubError"
    assert found["message"].startswith(
        "Hugging Face does not show org/name (401): it is gated or private, or not there."
    )


def test_modelscope_corpus_that_is_not_there_is_refused(client):
    found = client(hub="modelscope")
    assert found["error"] == "HubError"
    assert found["message"].startswith("ModelScope has no dataset org/name")


@BOTH
def test_revision_that_is_not_there_is_refused(server, client, hub):
    server.add("org/name", FILES)
    found = client(hub=hub, revision="nope")
    assert found["error"] == "HubError"
    assert "org/name at revision nope" in found["message"]
    assert "(404)" in found["message"]


@BOTH
@pytest.mark.parametrize("name", ["no-slash", "a/b/c", "org/../name"])
def test_id_that_is_no_name_on_a_hub_is_refused(client, hub, name):
    found = client(name, hub=hub)
    assert found["error"] == "HubError"


@BOTH
@pytest.mark.parametrize(("token", "code"), [("", "401"), (SECRET, "403")])
def test_gated_corpus_is_refused_without_the_token_in_the_message(server, client, hub, token, code):
    server.add("org/name", FILES, token="another")
    sent = {"HF_TOKEN": token, "MODELSCOPE_API_TOKEN": token} if token else {}
    found = client(hub=hub, environment=sent)
    assert found["error"] == "HubError"
    assert code in found["message"]
    assert "accept its terms" in found["message"]


@BOTH
def test_gated_corpus_is_read_with_the_right_token(server, client, hub):
    server.add("org/name", FILES, token=SECRET)
    found = client(hub=hub, environment={"HF_TOKEN": SECRET, "MODELSCOPE_API_TOKEN": SECRET})
    assert found["names"] == TRAIN


@BOTH
@pytest.mark.parametrize("code", [401, 403, 404, 418, 429, 500, 503])
def test_refused_listing_is_one_sentence_with_the_status(server, client, hub, code):
    server.add("org/name", FILES)
    server.fail(LIST[hub], code, headers={"X-Error-Message": f"token {SECRET}"})
    found = client(hub=hub, environment={"HF_TOKEN": SECRET, "MODELSCOPE_API_TOKEN": SECRET})
    assert found["error"] == "HubError"
    assert NAME[hub] in found["message"]
    assert f"({code})" in found["message"]


@BOTH
@pytest.mark.parametrize("code", [403, 404, 500])
def test_refused_file_is_one_sentence_with_the_status(server, client, hub, code):
    server.add("org/name", FILES)
    server.fail(FILE[hub], code)
    found = client(hub=hub)
    assert found["error"] == "HubError"
    assert f"({code})" in found["message"]


@BOTH
def test_hub_that_does_not_answer_is_refused(client, hub):
    found = client(hub=hub, environment={"HF_ENDPOINT": NOWHERE, "MODELSCOPE_ENDPOINT": NOWHERE})
    assert found["error"] == "HubError"
    assert f"{NAME[hub]} could not be reached for org/name" in found["message"]


@BOTH
def test_file_cut_once_on_its_way_is_completed(server, client, hub):
    server.add("org/name", FILES)
    server.fail(FILE[hub], cut=450, times=1)
    assert client(hub=hub)["contents"] == [FILES[name].decode() for name in TRAIN]


@BOTH
def test_file_cut_every_time_is_refused_and_not_kept(server, client, tmp_path, hub):
    server.add("org/name", FILES)
    server.fail(FILE[hub], cut=0)
    found = client(hub=hub)
    assert found["error"] == "HubError"
    assert not list(tmp_path.rglob("train-*.jsonl"))


@BOTH
def test_file_with_other_content_than_listed_is_refused_and_not_kept(server, client, tmp_path, hub):
    server.add("org/name", {"train.jsonl": LARGE})
    server.fail(FILE[hub], body=LARGE.replace(b"1", b"2"))
    found = client(hub=hub)
    assert found["error"] == "HubError"
    assert "other content" in found["message"]
    assert not list(tmp_path.rglob("train.jsonl"))
    assert not list(tmp_path.rglob(sha256(LARGE)))


def test_file_of_other_length_than_listed_is_refused(server, client):
    server.add("org/name", {"train.jsonl": LARGE})
    server.fail(r"GET /cdn/", body=LARGE + LINE)
    found = client()
    assert found["error"] == "HubError"
    assert "other content or length than it lists" in found["message"]


@BOTH
def test_cache_that_cannot_be_written_is_refused(server, client, tmp_path, hub):
    server.add("org/name", FILES)
    (tmp_path / "file").touch()
    found = client(hub=hub, cache=str(tmp_path / "file"))
    assert found["error"] == "HubError"
    assert "cannot be stored" in found["message"]
