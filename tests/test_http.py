"""Servers asked over HTTP, against a real one that misbehaves."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from chat_server import ChatServer

from fusedata.errors import ConfigError, EngineError
from fusedata.http import FIRST_PAUSE, Failure, _message, _seconds
from fusedata.profile import Served
from fusedata.served import Servers

CHAT = "/chat/completions"


@pytest.fixture(scope="module")
def server():
    with ChatServer() as running:
        yield running


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def text(answer):
    return answer["choices"][0]["message"]["content"]


async def chat(client, turn):
    body = {"messages": [{"role": "user", "content": turn}], "seed": 1}
    return [(turn, await client.post(CHAT, body, text))]


def asked(turns, *urls, size=100, **served):
    """Ask all turns; what came of each."""
    servers = Servers(Served(base_urls=urls, **served), EngineError)
    try:
        return {turn: found for group in servers.ask(turns, chat, size) for turn, found in group}
    finally:
        servers.close()


def one(turn, *urls, **served):
    return asked([turn], *urls, **served)[turn]


def tries_of(server, turn):
    return [entry for entry in server.log() if entry["body"]["messages"][-1]["content"] == turn]


@pytest.mark.parametrize(
    "fault",
    ["429", "429:0", "408", "500", "502", "503", "reset", "half", "cut", "json", "nothing", "surrogate"],
)
def test_a_try_that_fails_is_made_again(server, fault):
    turn = f"{{{fault}}} again"
    assert one(turn, server.url, tries=2) == f"{turn} seed 1 choice 0"
    assert len(tries_of(server, turn)) == 2


def test_a_server_that_is_late_is_asked_again(server):
    assert one("{late:3} hurry", server.url, timeout=0.5) == "{late:3} hurry seed 1 choice 0"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "500 busy"),
        ("429", "429 busy"),
        ("late:9", "no answer within 0.4 s"),
        ("json", "the answer is no JSON"),
        ("reset", "the connection broke (ServerDisconnectedError: Server disconnected)"),
    ],
)
def test_after_the_last_try_the_reason_is_told(server, fault, reason):
    found = one(f"{{{fault} *}} never", server.url, tries=2, timeout=0.4)
    assert found == Failure(f"{reason} (2 tries)")
    assert len(tries_of(server, f"{{{fault} *}} never")) == 2


def test_a_half_body_is_no_answer(server):
    found = one("{half *} half", server.url, tries=1)
    assert found.reason.startswith("the connection broke (Client")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("400", "400 temperature is too hot"), ("422", "422 not so"), ("413", "413 plain text"), ("418", "418 busy")],
)
def test_a_request_that_is_refused_is_not_sent_again(server, fault, reason):
    assert one(f"{{{fault}}} no", server.url) == Failure(reason, refused=True)
    assert len(tries_of(server, f"{{{fault}}} no")) == 1


@pytest.mark.parametrize("fault", ["long", "llama"])
def test_a_prompt_that_is_too_long_is_known(server, fault):
    assert one(f"{{{fault}}} x", server.url).too_long


@pytest.mark.parametrize(
    "said",
    [
        "The input (9 tokens) is longer than the model's context length (8 tokens).",
        "Requested token count exceeds the model's maximum context length of 8 tokens.",
        "The decoder prompt (length 8) plus the requested tokens is longer than the maximum model length of 8.",
        "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
    ],
)
def test_other_words_for_a_prompt_that_is_too_long_are_known(said):
    assert Failure(f"400 {said}", refused=True).too_long
    assert not Failure(f"500 {said}").too_long


def test_a_limit_of_output_tokens_is_not_taken_for_a_long_prompt():
    said = "400 max_tokens=4096 cannot be greater than max_model_len=2048. Please request fewer output tokens."
    assert not Failure(said, refused=True).too_long


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("401", "refuses the API key (401): check the variable that api_key_env names."),
        ("403", "refuses the API key (403): check the variable that api_key_env names."),
        ("404", "answers 404 The model `x` does not exist: check base_urls and model."),
        ("307", "answers 307 busy: check base_urls and model."),
        ("501", "answers 501 busy: check base_urls and model."),
    ],
)
def test_what_no_request_will_get_past_is_raised(server, fault, message):
    with pytest.raises(EngineError) as raised:
        one(f"{{{fault}}} broken", server.url)
    assert str(raised.value) == f"{server.url}{CHAT} {message}"


def test_what_came_before_an_error_is_given_first(server):
    servers = Servers(Served(base_urls=(server.url,), in_flight=1), EngineError)
    groups = servers.ask(["a", "b", "{404} c", "d"], chat, 100)
    assert [turn for turn, _ in next(groups)] == ["a", "b"]
    with pytest.raises(EngineError):
        next(groups)
    servers.close()


def gap(server, turn):
    first, second = (entry["time"] for entry in tries_of(server, turn))
    return second - first


def test_retry_after_is_waited_for_in_seconds(server):
    one("{429:2} wait", server.url)
    assert gap(server, "{429:2} wait") >= 2


def test_retry_after_is_waited_for_as_a_date(server):
    one("{503:date3} wait", server.url)
    assert gap(server, "{503:date3} wait") >= 1.9  # the date has whole seconds


def test_retry_after_holds_back_the_other_requests_too(server):
    found = asked(["{429:2} first", "held back", "held back as well"], server.url, in_flight=1)
    assert len(found) == 3
    first = tries_of(server, "{429:2} first")[0]["time"]
    servers = Servers(Served(base_urls=(server.url,), in_flight=2), EngineError)
    list(servers.ask(["{429:2} now", "{late:0.3} one", "later"], chat, 9))
    servers.close()
    now, later = tries_of(server, "{429:2} now")[0]["time"], tries_of(server, "later")[0]["time"]
    assert later - now >= 2
    assert first < now


def test_a_wait_longer_than_the_timeout_is_a_failure_at_once(server):
    found = one("{429:3600} wait", server.url, timeout=5)
    assert found == Failure("429 busy (the server asks to wait 3600 s, longer than `timeout`)")


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("0.5", 0.5), ("-1", 0), ("soon", None), (None, None)])
def test_retry_after_is_read(value, seconds):
    assert _seconds(value) == seconds


def test_retry_after_of_the_past_is_now():
    assert _seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "m", "code": "context_length_exceeded"}}', "context_length_exceeded m"),
        (b'{"error": "Unauthorized"}', "Unauthorized"),
        (b'{"detail": [{"loc": ["body"]}]}', "[{'loc': ['body']}]"),
        (b"[1]", "[1]"),
        (b"<html>\xff", "<html>\ufffd"),
        (b"", ""),
        (b"{}", ""),
    ],
)
def test_what_a_server_says_is_found(body, said):
    assert _message(body) == said


def test_requests_are_shared_out_among_the_servers(server):
    with ChatServer() as other:
        turns = [f"{{late:0.2}} share {n}" for n in range(60)]  # the wait, not the machine, is what a request takes
        asked(turns, server.url, other.url, in_flight=8)
        shares = [sum("share" in str(entry["body"]) for entry in s.log()) for s in (server, other)]
    assert sum(shares) == 60
    assert min(shares) >= 20


def test_a_server_that_is_not_there_is_made_up_for_by_the_others(server):
    turns = [f"survivor {n}" for n in range(40)]
    found = asked(turns, f"http://127.0.0.1:{free_port()}/v1", server.url, in_flight=4, tries=3)
    assert [found[turn] for turn in turns] == [f"{turn} seed 1 choice 0" for turn in turns]


def test_a_sick_server_is_left_alone_while_a_healthy_one_answers(server):
    with ChatServer("500") as sick:
        turns = [f"{{late:0.01}} well {n}" for n in range(60)]
        found = asked(turns, sick.url, server.url, in_flight=2)
        assert 1 <= len(sick.log()) <= 10
    assert not any(isinstance(value, Failure) for value in found.values())


def test_a_healthy_server_is_asked_at_once(server):
    with ChatServer("500") as sick:
        one("at once", sick.url, server.url)
        (first,), (second,) = tries_of(sick, "at once"), tries_of(server, "at once")
    assert second["time"] - first["time"] < FIRST_PAUSE / 2  # both clocks are this machine's


def test_where_nothing_listens_it_is_told_early():
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(EngineError, match="no server answers") as raised:
        asked([f"turn {n}" for n in range(500)], url, tries=50)
    assert re.fullmatch(
        r"no server answers \(http://127.0.0.1:\d+/v1: Cannot connect to host .*\): start it, or check base_urls\.",
        str(raised.value),
    )


def test_nothing_but_failures_for_long_is_raised(server):
    turns = [f"{{500 *}} {n}" for n in range(200)]
    with pytest.raises(
        EngineError, match=r"6[4-7] requests in a row failed; the last: 500 busy; look after the servers"
    ):
        asked(turns, server.url, tries=1, in_flight=4)


def test_failures_with_answers_between_them_are_not_raised(server):
    turns = [f"{{500 *}} {n}" if n % 20 else f"good {n}" for n in range(200)]
    found = asked(turns, server.url, tries=1, in_flight=1)
    assert Counter(isinstance(value, Failure) for value in found.values()) == {True: 190, False: 10}


def test_a_server_that_is_killed_and_comes_back_is_asked_again():
    with ChatServer() as server:
        turns = [f"{{late:0.02}} {n}" for n in range(300)]
        servers = Servers(Served(base_urls=(server.url,), in_flight=8), EngineError)
        groups = servers.ask(turns, chat, 20)
        found = next(groups)
        server.kill()
        threading.Timer(1.0, server.start).start()
        found += [one for group in groups for one in group]
        servers.close()
    assert sorted(turn for turn, _ in found) == sorted(turns)
    assert all(answer == f"{turn} seed 1 choice 0" for turn, answer in found)


def test_connections_are_kept(server):
    turns = [f"kept {n}" for n in range(100)]
    asked(turns, server.url, in_flight=5)
    assert len({entry["connection"] for entry in server.log() if "kept" in str(entry["body"])}) <= 5


def test_so_many_are_in_flight_and_no_more_also_between_groups(server):
    turns = [f"{{late:{0.05 + n % 7 / 50}}} busy {n}" for n in range(60)]
    asked(turns, server.url, in_flight=6, size=6)
    busy = [entry["busy"] for entry in server.log() if "busy" in str(entry["body"])]
    assert max(busy) == 6
    assert sum(count >= 5 for count in busy) > 50  # it did not drain between the groups


def test_groups_have_the_size_that_was_asked_for(server):
    servers = Servers(Served(base_urls=(server.url,), in_flight=3), EngineError)
    sizes = [len(group) for group in servers.ask((f"size {n}" for n in range(25)), chat, 10)]
    servers.close()
    assert sizes == [10, 10, 5]


def test_a_smaller_group_comes_when_its_time_has_come(server):
    servers = Servers(Served(base_urls=(server.url,), in_flight=2), EngineError)
    groups = servers.ask(["quick", "{late:2} slow"], chat, 10, 0.2)
    assert [turn for turn, _ in next(groups)] == ["quick"]
    assert [turn for turn, _ in next(groups)] == ["{late:2} slow"]
    servers.close()


def test_jobs_are_drawn_as_places_become_free_and_not_far_ahead_of_a_slow_caller(server):
    drawn = 0

    def jobs():
        nonlocal drawn
        for drawn in range(10_000):
            yield f"drawn {drawn}"

    servers = Servers(Served(base_urls=(server.url,), in_flight=4), EngineError)
    groups = servers.ask(jobs(), chat, 5)
    next(groups)
    time.sleep(1)
    servers.close()
    assert drawn < 40


def test_an_error_of_the_jobs_is_raised(server):
    def jobs():
        yield "one"
        raise EngineError("the jobs broke")

    servers = Servers(Served(base_urls=(server.url,)), EngineError)
    groups = servers.ask(jobs(), chat, 5)
    with pytest.raises(EngineError, match="the jobs broke"):
        list(groups)
    servers.close()


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "fusedata-servers"]


def test_stopping_early_leaves_nothing_behind(server):
    before = alive()
    servers = Servers(Served(base_urls=(server.url,), in_flight=16), EngineError)
    groups = servers.ask((f"{{late:0.05}} early {n}" for n in range(10_000)), chat, 5)
    next(groups)
    groups.close()
    servers.close()
    seen = len(server.log())
    time.sleep(0.3)
    assert len(server.log()) == seen
    assert alive() == before


def test_a_servers_that_is_forgotten_ends_its_thread(server):
    before = alive()
    servers = Servers(Served(base_urls=(server.url,)), EngineError)
    list(servers.ask(["forgotten"], chat, 5))
    assert len(alive()) == len(before) + 1
    del servers
    assert alive() == before


def test_it_can_be_asked_again_after_it_was_closed(server):
    servers = Servers(Served(base_urls=(server.url,)), EngineError)
    for turn in ("before", "after"):
        assert list(servers.ask([turn], chat, 5)) == [[(turn, f"{turn} seed 1 choice 0")]]
        servers.close()


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[2])
from test_http import Served, Servers, EngineError, chat
servers = Servers(Served(base_urls=(sys.argv[1],), in_flight=32), EngineError)
for group in servers.ask((f"{{late:0.05}} ctrl-c {n}" for n in range(100_000)), chat, 5):
    print("group", flush=True)
"""


def test_ctrl_c_ends_it_at_once_and_without_a_word_of_the_http_library(server):
    command = [sys.executable, "-X", "dev", "-c", SCRIPT, server.url, str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "group\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert not re.search("Unclosed|destroyed|never awaited|ResourceWarning", said)


KEY = "sk-very-secret-1234"


def test_the_key_is_sent_and_is_in_no_message(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n")
    found = one("{echo} key", server.url, api_key_env="TEST_KEY")
    assert found == Failure("400 wrong key Bearer *** of nobody", refused=True)
    assert tries_of(server, "{echo} key")[0]["key"] == f"Bearer {KEY}"


def test_no_key_is_sent_where_none_is_named(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    one("no key", server.url)
    assert tries_of(server, "no key")[0]["key"] == ""


@pytest.mark.parametrize(("value", "found"), [(None, "is not set"), (" ", "is not set"), ("a\nb", "holds line breaks")])
def test_a_key_that_is_not_there_is_told_by_its_variable(monkeypatch, value, found):
    monkeypatch.delenv("TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(ConfigError) as raised:
        Servers(Served(base_urls=("http://x/v1",), api_key_env="TEST_KEY"), EngineError)
    assert str(raised.value) == f"api_key_env: the environment variable TEST_KEY {found}: put the API key there."


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://x/v1", "http://", "localhost"])
def test_a_base_url_that_names_no_server_is_told(url):
    with pytest.raises(ConfigError, match="is no address of a server: write http://host:port/v1"):
        Servers(Served(base_urls=(url,)), EngineError)


@pytest.mark.parametrize("url", ["http://user:secret@x/v1", "http://x/v1?key=secret", "http://x/v1#secret"])
def test_a_base_url_with_a_password_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError) as raised:
        Servers(Served(base_urls=(url,)), EngineError)
    assert str(raised.value).startswith("base_urls: http://x/v1 is written with a user, a password or a query: name ")


def test_a_text_that_is_no_unicode_is_refused_and_its_neighbours_are_answered(server):
    found = asked(["\ud83d", "neighbour"], server.url)
    assert found["\ud83d"].refused
    assert found["neighbour"] == "neighbour seed 1 choice 0"


def test_a_proxy_of_the_environment_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(EngineError, match="no server answers"):
        one("proxied", "http://models.example:8000/v1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert one("direct", server.url) == "direct seed 1 choice 0"
