"""Pushing through both real clients, against servers on 127.0.0.1 that speak the hubs' protocols."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import huggingface_hub.constants  # noqa: TID253 - it is what is tested
import polars as pl
import pytest
from conftest import questions, recipe_over, twin_build, write_corpus
from hub_server import sha256
from push_server import TOKEN, PushServer

from fusedata.errors import ConfigError, HubError, RunError
from fusedata.publish.huggingface import HuggingFace
from fusedata.publish.modelscope import ModelScope
from fusedata.publish.protocol import Hub
from fusedata.publish.release import read_release
from fusedata.publish.send import Pushed
from fusedata.publishing import HubName, Publish
from fusedata.push import check_target, push, ready
from fusedata.push_checks import audited, licensed

SFT, DPO = "org/modulo-SFT-Data", "org/modulo-DPO-Data"
REPO = "org/modulo-{split}-Data"
HUBS: tuple[HubName, ...] = ("hf", "modelscope")
COMMIT = {"hf": r"POST /api/datasets/.*/commit/", "modelscope": r"POST /api/v1/repos/datasets/.*/commit/"}
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # huggingface_hub's own LFS
both = pytest.mark.parametrize("hub", HUBS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; nobody writes into it."""
    folder = tmp_path_factory.mktemp("built")
    recipe = recipe_over(write_corpus(folder / "modulo.jsonl", questions(40)))
    twin_build(recipe).run(folder / "run")
    return folder / "run"


@pytest.fixture
def whole(built: Path, tmp_path: Path) -> Path:
    """A run of one's own."""
    return Path(shutil.copytree(built, tmp_path / "run"))


@pytest.fixture
def run(built: Path, tmp_path: Path) -> Path:
    """Its datasets alone, under the same names: there is no run to be checked."""
    shutil.copytree(built / "dataset", tmp_path / "run" / "dataset")
    return tmp_path / "run"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PushServer]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # read from the environment at import
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    with PushServer() as running:
        yield running


def opened(server: PushServer, name: HubName) -> Hub:
    return HuggingFace(server.url) if name == "hf" else ModelScope(server.url)


def pushed(server: PushServer, path: Path, *hubs: HubName, public: bool = False, **choices: object) -> list[Pushed]:
    target = Publish(hubs=hubs, repo=REPO, public=public)
    plain = (path / "dataset").is_dir() and not (path / "run.json").is_file()
    make = functools.partial(opened, server)
    return push(path / "dataset" if plain else path, target, make_hub=make, **{"checks": (), **choices})  # type: ignore[arg-type]


def add(path: Path, text: str = "More.\n") -> None:
    path.write_text(path.read_text() + "\n" + text)


def refusal(server: PushServer, path: Path, *hubs: HubName, **choices: object) -> str:
    with pytest.raises((HubError, RunError)) as caught:
        pushed(server, path, *hubs, **choices)  # type: ignore[arg-type]
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sent(folder: Path, hub: HubName) -> dict[str, bytes]:
    """What a hub is to hold of a dataset folder: ModelScope shows the Chinese card, and the English one beside it."""
    files = contents(folder)
    if hub == "modelscope" and "README_zh.md" in files:
        files |= {"README_en.md": files["README.md"], "README.md": files.pop("README_zh.md")}
    return files


def held(server: PushServer, repo: str) -> dict[str, bytes]:
    return {name: content for name, content in server.files(repo).items() if name != ".gitattributes"}


def writes(server: PushServer) -> list[str]:
    return server.asked(r"^PUT|^POST .*(/commit/|/create|/tag|v1/datasets$)")


def commits_of(server: PushServer) -> list[list[str]]:
    return list(server.history.values())


# --- what arrives ---------------------------------------------------------------------------------------------


@both
def test_each_dataset_arrives_whole_in_a_private_repository_of_its_own(server, run, hub):
    first, second = pushed(server, run, hub)
    assert [first.repo, second.repo] == [SFT, DPO]
    for repo, kind in ((SFT, "sft"), (DPO, "dpo")):
        assert held(server, repo) == sent(run / "dataset" / kind, hub)
    assert not server.public
    assert not first.public


@both
def test_result_tells_page_commit_rows_and_tag_and_the_tag_names_the_commit(server, run, hub):
    for one in pushed(server, run, hub, tag="v1"):
        assert one.url == f"{server.url}/datasets/{one.repo}"
        assert one.commit == server.commits(one.repo)[-1]
        assert server.tags(one.repo) == {"v1": one.commit}
        assert sum(one.rows.values()) > 0


@both
def test_pushing_again_sends_nothing_and_commits_nothing(server, run, hub):
    pushed(server, run, hub)
    before, asked = server.commits(SFT)[:], len(writes(server))
    again = pushed(server, run, hub)
    assert [(one.sent, one.removed) for one in again] == [(0, 0), (0, 0)]
    assert server.commits(SFT) == before
    assert len(writes(server)) == asked


@both
def test_only_files_that_changed_travel(server, run, hub):
    pushed(server, run, hub)
    uploads = len(server.uploads)
    card = run / "dataset" / "sft" / "README.md"
    card.write_text(card.read_text() + "\nMore.\n")
    sft, dpo = pushed(server, run, hub)
    assert (sft.sent, dpo.sent) == (1, 0)
    assert len(server.uploads) == uploads
    assert held(server, SFT) == sent(run / "dataset" / "sft", hub)


@both
def test_files_of_an_earlier_release_are_taken_away_in_the_same_commit(server, run, hub):
    pushed(server, run, hub)
    server.write(SFT, {**server.files(SFT), "data/train-00001-of-00002.parquet": b"old", "note.md": b"old"})
    before = len(server.commits(SFT))
    assert pushed(server, run, hub)[0].removed == 2
    assert held(server, SFT) == sent(run / "dataset" / "sft", hub)
    assert len(server.commits(SFT)) == before + 1


def test_folder_outside_its_run_is_pushed_too(server, run, tmp_path):
    plain = Path(shutil.copytree(run / "dataset" / "dpo", tmp_path / "plain"))
    (one,) = pushed(server, plain, "hf")
    assert one.repo == DPO
    assert held(server, DPO) == sent(plain, "hf")


@both
def test_public_is_public_where_it_was_asked(server, run, hub):
    assert all(one.public for one in pushed(server, run, hub, public=True))
    assert server.public == {SFT, DPO}


def test_modelscope_shows_the_chinese_card_first(server, run):
    (run / "dataset" / "sft" / "README_zh.md").write_text("# 数据")
    pushed(server, run, "modelscope")
    files = held(server, SFT)
    assert files["README.md"].decode() == "# 数据"
    assert files["README_en.md"] == (run / "dataset" / "sft" / "README.md").read_bytes()
    assert "README_zh.md" not in files
    assert pushed(server, run, "modelscope")[0].sent == 0


def test_listing_without_hashes_is_compared_by_content(server, run):
    server.hashless = True
    pushed(server, run, "modelscope")
    assert pushed(server, run, "modelscope")[0].sent == 0


def test_tag_without_a_name_follows_from_the_content_alone(run, tmp_path):
    copied = shutil.copytree(run / "dataset" / "sft", tmp_path / "elsewhere")
    tag = read_release(run / "dataset" / "sft").tag
    assert tag.startswith("data-")
    assert read_release(Path(copied)).tag == tag
    add(run / "dataset" / "sft" / "README.md")
    assert read_release(run / "dataset" / "sft").tag != tag


@both
def test_release_that_comes_back_keeps_its_old_tag(server, run, hub):
    first = pushed(server, run, hub)[0]
    card = run / "dataset" / "sft" / "README.md"
    text = card.read_text()
    card.write_text(text + "\nMore.\n")
    pushed(server, run, hub)
    card.write_text(text)
    assert pushed(server, run, hub)[0].tag == first.tag
    assert server.tags(SFT)[first.tag] == server.commits(SFT)[-3]


# --- faults ---------------------------------------------------------------------------------------------------


@both
def test_upload_that_is_cut_is_tried_again(server, run, hub, monkeypatch):
    monkeypatch.setattr("fusedata.publish.modelscope._WAIT", 0.0)
    server.fail(r"^PUT /lfs/", swallow=100, times=1)
    pushed(server, run, hub)
    assert held(server, SFT) == sent(run / "dataset" / "sft", hub)


@both
@pytest.mark.parametrize("status", [401, 403, 409, 429, 500])
def test_refused_commit_is_a_sentence_and_the_next_push_sends_no_large_file_again(server, run, hub, status):
    server.fail(COMMIT[hub], status, times=1)
    message = refusal(server, run, hub)
    assert f"({status})" in message
    assert TOKEN not in message
    arrived = server.uploads[:]
    assert arrived
    pushed(server, run, hub)
    assert held(server, SFT) == sent(run / "dataset" / "sft", hub)
    assert len(server.uploads) == len(set(server.uploads))
    assert server.uploads[: len(arrived)] == arrived


@both
@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_refused_creation_is_a_sentence_and_nothing_is_sent(server, run, hub, status):
    server.fail(r"^POST /api/(repos/create|v1/datasets$)", status)
    assert f"({status})" in refusal(server, run, hub)
    assert not server.uploads


@both
def test_bad_token_is_told_before_anything_is_written(server, run, hub):
    server.token = "another"
    message = refusal(server, run, hub)
    assert "does not accept the token (401)" in message
    assert TOKEN not in message
    assert not writes(server)


@both
def test_missing_token_is_told_with_the_variable_to_set(server, run, hub, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("MODELSCOPE_API_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    assert "There is no token for" in refusal(server, run, hub)
    assert not server.log


def test_commit_that_someone_else_overtook_is_refused_and_their_files_stay(server, run):
    pushed(server, run, "hf")
    add(run / "dataset" / "sft" / "README.md")
    theirs = {**server.files(SFT), "theirs.md": b"x"}
    server.fail(r"POST /api/datasets/.*/commit/", times=1, then=lambda: server.write(SFT, theirs))
    assert "(412): it was changed meanwhile" in refusal(server, run, "hf")
    assert "theirs.md" in server.files(SFT)


@both
def test_hub_that_stores_other_content_is_found_out(server, run, hub):
    """Another writer comes between commit and comparison: what is listed is not what was sent."""
    write = server.write

    def spoiled(repo: str, files: dict[str, bytes]) -> str:
        return write(repo, {**files, "recipe.toml": b"name = 'modulo'"} if "recipe.toml" in files else files)

    server.write = spoiled  # type: ignore[method-assign]
    assert "lists other content" in refusal(server, run, hub)
    assert "recipe.toml differs" in refusal(server, run, hub)
    assert not server.tags(SFT)


# --- what may not leave ---------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"weights.bin": b"x"}, "holds something else"),
        ({"recipe.toml": b"name = 'other'", "README.md": b""}, "holds the dataset of recipe other"),
        ({"recipe.toml": b"\xff", "README.md": b""}, "recipe that cannot be read"),
    ],
)
def test_repository_that_holds_something_else_is_refused(server, run, hub, files, reason):
    server.make(DPO, files)
    before = dict(server.files(DPO))
    assert reason in refusal(server, run, hub)
    assert server.files(DPO) == before
    assert SFT not in server.datasets  # all are looked at before the first is written


@both
def test_repository_of_the_other_dataset_is_refused(server, run, hub):
    server.make(SFT, contents(run / "dataset" / "dpo"))
    assert f"{SFT} on {opened(server, hub).name} holds the DPO dataset" in refusal(server, run, hub)


@both
def test_public_repository_is_refused_unless_public_is_asked(server, run, hub):
    server.make(SFT, {"README.md": b""}, public=True)
    assert "--public" in refusal(server, run, hub)
    assert len(server.commits(SFT)) == 1
    assert pushed(server, run, hub, public=True)[0].public


@both
def test_tag_that_names_another_state_is_refused_before_anything_is_sent(server, run, hub):
    pushed(server, run, hub, tag="v1")
    add(run / "dataset" / "sft" / "README.md")
    before = len(writes(server))
    assert "Tag v1" in refusal(server, run, hub, tag="v1")
    assert len(writes(server)) == before


def test_run_whose_samples_failed_is_refused_with_the_command_to_finish_it(whole):
    part = min((whole / "responses").glob("*/part-*.parquet"))
    rows = pl.read_parquet(part)
    rows[1:].write_parquet(part)
    failed = rows[:1].with_columns(error=pl.lit("no answer"), text_id=pl.lit(None, pl.String))
    failed.write_parquet(part.with_name("failed-x.parquet"))
    with pytest.raises(RunError, match=r"1 rows? that failed.* Finish it first: fusedata build modulo"):
        ready(whole)


def test_failed_sample_of_a_prompt_that_is_no_longer_wanted_holds_no_push_up(whole):
    part = min((whole / "responses").glob("*/part-*.parquet"))
    failed = pl.read_parquet(part)[:1].with_columns(prompt_id=pl.lit("0" * 24), error=pl.lit("no answer"))
    failed.write_parquet(part.with_name("failed-x.parquet"))
    assert ready(whole)


def test_run_without_a_dataset_is_refused(whole):
    shutil.rmtree(whole / "dataset")
    with pytest.raises(RunError, match="holds no dataset"):
        ready(whole)


def test_run_with_rows_left_to_do_is_refused_even_by_its_dataset_folder(whole):
    next((whole / "rewards").glob("*/part-*.parquet")).unlink()
    for path in (whole, whole / "dataset", whole / "dataset" / "sft"):
        with pytest.raises(RunError, match="is not finished"):
            ready(path)


def test_stand_ins_are_refused_unless_allowed(tmp_path, modulo):
    asked = modulo.model_copy(update={"description": "Real."})
    build = twin_build(modulo)
    build.run(tmp_path / "run")
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    state["stand_ins"] = [["description", asked.description, modulo.description]]
    (tmp_path / "run" / "run.json").write_text(json.dumps(state))
    with pytest.raises(RunError, match="made with stand-ins"):
        ready(tmp_path / "run")
    assert len(ready(tmp_path / "run", allow_stand_ins=True)) == 2


def test_stand_ins_are_known_by_the_card_of_a_folder_outside_its_run(run, tmp_path):
    plain = Path(shutil.copytree(run / "dataset" / "sft", tmp_path / "plain"))
    add(plain / "README.md", "> **Made with stand-ins.** The profile\n")
    with pytest.raises(RunError, match="made with stand-ins"):
        ready(plain)


def test_data_that_is_not_what_the_checksums_name_is_refused(run, tmp_path):
    plain = Path(shutil.copytree(run / "dataset", tmp_path / "plain"))
    first, *_ = (plain / "sft" / "data").glob("train-*")
    shutil.copy(next((plain / "sft" / "data").glob("test-*")), first)
    with pytest.raises(RunError, match="is not the file that checksums"):
        ready(plain)


def test_card_that_counts_other_rows_is_refused(run, tmp_path):
    plain = Path(shutil.copytree(run / "dataset" / "sft", tmp_path / "plain"))
    card = plain / "README.md"
    card.write_text(card.read_text().replace("num_examples: ", "num_examples: 1"))
    with pytest.raises(RunError, match="its card tells 1"):
        ready(plain)


def test_check_that_finds_a_reason_stops_the_push(server, run):
    message = refusal(server, run, "hf", checks=[lambda _: ["30 rows leak.", "More."]])
    assert "must not be pushed. 30 rows leak. And 1 more such reasons." in message
    assert not server.log


def test_dataset_whose_audit_finds_errors_is_refused(run):
    folder = run / "dataset" / "sft"
    assert audited(folder) == []
    train, test = (next((folder / "data").glob(f"{split}-*")) for split in ("train", "test"))
    rows = pl.read_parquet(train)
    pl.concat([rows[:-1], pl.read_parquet(test)[:1]]).write_parquet(train)
    reason, *_ = audited(folder)
    assert reason.startswith("The audit says: sft ")
    assert reason.endswith(f"See: fusedata audit {folder}")


def test_licence_that_forbids_sharing_is_refused(run):
    recipe = run / "dataset" / "sft" / "recipe.toml"
    assert licensed(run / "dataset") == []
    recipe.write_text(recipe.read_text().replace('"mit"', '"cc-by-nd-4.0"'))
    (reason,) = licensed(run / "dataset")
    assert reason.startswith("test/modulo (cc-by-nd-4.0)")


def test_target_is_checked_before_a_build_by_token_and_repositories(server):
    server.make(DPO, {"weights.bin": b"x"})
    target, make = Publish(hubs=("hf",), repo=REPO), functools.partial(opened, server)
    check_target("modulo", ("sft",), target, make)
    with pytest.raises(HubError, match="holds something else"):
        check_target("modulo", ("sft", "dpo"), target, make)
    assert not writes(server)


# --- the command line -----------------------------------------------------------------------------------------


def command(server: PushServer, folder: Path, *words: str, **environment: str) -> "subprocess.Popen[str]":
    own = {
        "HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "HF_HOME": str(folder / "hf"),
        "MODELSCOPE_HOME": str(folder / "ms"),
        "HF_ENDPOINT": server.url,
        "MODELSCOPE_ENDPOINT": server.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
        "MODELSCOPE_API_TOKEN": TOKEN,
    }
    env = {**os.environ, **own, **environment}
    line = [sys.executable, "-m", "fusedata", *words]
    return subprocess.Popen(
        line, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def said(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate()
    return process.returncode, out, err


def everything(folder: Path) -> Mapping[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_command_pushes_to_both_hubs_and_the_token_stands_nowhere(server, whole, tmp_path):
    words = ("push", str(whole), "--to", "hf", "--to", "modelscope", "--repo", "org/modulo-{split}-Data", "--tag", "v1")
    with PushServer() as other:
        code, out, err = said(command(server, tmp_path, *words, MODELSCOPE_ENDPOINT=other.url))
        assert code == 0, err
        assert [line.split()[0] for line in out.splitlines()[::2]] == [
            f"{hub.url}/datasets/{repo}" for hub in (server, other) for repo in (SFT, DPO)
        ]
        assert [held(server, DPO), held(other, DPO)] == [sent(whole / "dataset" / "dpo", hub) for hub in HUBS]
    assert TOKEN not in out + err
    assert not [path for path, content in everything(tmp_path).items() if TOKEN.encode() in content]


def test_token_that_a_server_repeats_is_not_told(server, run, tmp_path):
    server.token = "another"
    for hub in HUBS:
        words = ("push", str(run / "dataset"), "--to", hub, "--repo", REPO)
        code, out, err = said(command(server, tmp_path, *words))
        assert code == 2
        assert "does not accept the token (401)" in err
        assert TOKEN not in out + err
        assert "Traceback" not in err


@both
def test_push_that_was_killed_before_its_commit_goes_on_without_sending_large_files_again(server, run, tmp_path, hub):
    words = ("push", str(run / "dataset"), "--to", hub, "--repo", REPO)
    process = command(server, tmp_path, *words)
    server.fail(COMMIT[hub], 500, times=1, then=lambda: os.killpg(process.pid, signal.SIGKILL))
    assert said(process)[0] == -signal.SIGKILL
    arrived = set(server.uploads)
    assert arrived == {sha256(p.read_bytes()) for p in (run / "dataset" / "sft").rglob("*.parquet")}
    assert held(server, SFT).keys() <= {"README.md"}
    code, _, err = said(command(server, tmp_path, *words, "--json"))
    assert code == 0, err
    assert len(server.uploads) == len(set(server.uploads))
    assert held(server, SFT) == sent(run / "dataset" / "sft", hub)


def test_user_config_names_hubs_and_namespace(server, whole, tmp_path):
    config = tmp_path / "config" / "fusedata" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('hubs = ["hf"]\nnamespace = "mine"\n')
    code, out, err = said(command(server, tmp_path, "push", str(whole), "--json"))
    assert code == 0, err
    assert [one["repo"] for one in json.loads(out)] == ["mine/modulo-SFT-Data", "mine/modulo-DPO-Data"]


def test_push_without_a_target_says_how_to_name_one(server, run, tmp_path):
    code, _, err = said(command(server, tmp_path, "push", str(run / "dataset")))
    assert code == 2
    assert "no hub (--to hf) and no repository (--repo)" in err
    assert not server.log


# --- build --push ---------------------------------------------------------------------------------------------

RECIPE = """
[[corpora]]
id = "test/modulo"
path = "modulo.jsonl"
prompt = "question"
answer = "answer"

[[source_models]]
id = "test/nobody"

[correctness]
check = "math_answer"
"""
PROFILE = '[engine]\nkind = "openai"\n'


@pytest.mark.parametrize(
    ("more", "environment", "reason"),
    [
        ([], {}, "no hub (--to hf)"),
        (["--to", "hf", "--repo", REPO], {"HF_TOKEN": ""}, "There is no token for Hugging Face"),
        (["--to", "hf", "--repo", "org/other-{split}"], {}, "holds something else"),
    ],
)
def test_build_refuses_what_it_could_not_push_before_it_begins(server, tmp_path, more, environment, reason):
    write_corpus(tmp_path / "modulo.jsonl", questions(4))
    (tmp_path / "modulo.toml").write_text(RECIPE)
    server.make("org/other-SFT", {"weights.bin": b"x"})
    words = ("build", "modulo.toml", "--profile", "local", "--push", "--allow-stand-ins", *more)
    code, _, err = said(command(server, tmp_path, *words, **environment))
    assert code == 2
    assert reason in err
    assert not (tmp_path / "runs").exists()


def test_build_with_stand_ins_is_refused_before_it_begins(server, tmp_path):
    words = ("build", "math", "--profile", "local", "--push", "--to", "hf", "--repo", REPO)
    code, _, err = said(command(server, tmp_path, *words))
    assert code == 2
    assert "by stand-ins" in err
    assert "--allow-stand-ins" in err
    assert not (tmp_path / "runs").exists()


def test_options_of_a_push_without_push_are_refused(server, tmp_path):
    code, _, err = said(command(server, tmp_path, "build", "math", "--profile", "local", "--to", "hf"))
    assert code == 2
    assert "give --push" in err


@pytest.mark.parametrize("repo", ["org/name", "name-{split}", "org/{split}/{split}", "org/a b-{split}", "../x-{split}"])
def test_pattern_that_gives_no_two_names_is_refused(repo):
    from fusedata.publishing import target

    with pytest.raises(ConfigError, match=r"--repo: .*must be OWNER/NAME with one \{split\} in it"):
        target("modulo", None, hubs=("hf",), repo=repo)


def test_recipe_names_a_target_and_the_command_line_comes_first(tmp_path):
    from fusedata.publishing import target

    own = recipe_over(tmp_path, publish={"hubs": ["modelscope"], "repo": "org/x-{split}", "public": True}).publish
    assert own is not None
    assert target("modulo", own) == own
    assert target("modulo", own, hubs=("hf",)).hubs == ("hf",)
    assert own.repo_of("dpo") == "org/x-DPO"
