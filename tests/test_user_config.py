"""What a user has chosen once for all builds."""

import pytest
from test_cli import fusedata, refused

from fusedata.errors import ConfigError
from fusedata.user_config import UserConfig, load_user_config


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "fusedata").mkdir()
    return tmp_path / "fusedata" / "config.toml"


def test_without_a_file_nothing_is_chosen(config):
    assert load_user_config() == UserConfig()


def test_a_shipped_profile_is_taken_by_its_name(config):
    config.write_text('profile = "server"\n')
    assert load_user_config().profile == "server"


def test_a_file_is_looked_for_beside_the_configuration(config):
    config.write_text('profile = "mine.toml"\n')
    assert load_user_config().profile == str(config.parent / "mine.toml")


def test_mistakes_are_told_with_the_file(config):
    config.write_text("profil = 1\n")
    with pytest.raises(ConfigError, match=r"config\.toml: profil: unknown key"):
        load_user_config()


def test_a_build_without_a_profile_says_which_it_takes_and_from_where(config):
    local = fusedata("build", "math", "--dry-run", "--json")
    assert local.stderr == "No --profile given: using the profile local.\n"
    config.write_text('profile = "vllm-8xh100"\n')
    chosen = fusedata("build", "math", "--dry-run")
    assert chosen.stderr == f"No --profile given: using the profile vllm-8xh100 of {config}.\n"
    assert "Qwen2.5-Math" in chosen.stdout.replace("\n", "")
    assert fusedata("build", "math", "--dry-run", "--profile", "local").stderr == ""
    config.write_text('profile = "nope"\n')
    assert "nope: unknown profile" in refused(fusedata("build", "math", "--dry-run"))
