"""Profiles: where and how to run a recipe. The same recipe runs on a laptop and on a cluster."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from fusedata.assets import asset
from fusedata.config import Model, find, load, validate
from fusedata.corpus import Corpus, Count, Text, rebased, rebased_path
from fusedata.curation import Screen
from fusedata.errors import ConfigError
from fusedata.recipe import Recipe, Reward, SourceModel
from fusedata.rules import Gap

Positive = Annotated[float, Field(gt=0)]


class _Host(Model):
    """What the tables of all engines hold."""

    models: tuple[Text, ...] = ("*",)
    """Glob patterns of the source models that this engine serves; the first engine that fits takes a model."""
    throughput: Positive | None = None
    """Completion tokens a second, all its devices together: what `--dry-run` reckons with, and nothing else."""


class TransformersEngine(_Host):
    """A model in this process, by transformers: small models, the laptop, the tests."""

    engine: Literal["transformers"]
    weights: Text | None = None
    """A folder, or `package:DISTRIBUTION/FILE.gguf`; absent: the hub, by the model's id."""
    batch_size: Count = 32
    device: Text = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    @property
    def gpus(self) -> int:
        """Devices that it keeps busy."""
        return int(self.device != "cpu")


class VllmEngine(_Host):
    """A model in this process, by vLLM: GPUs of one machine, or of the Ray cluster that vLLM is told of."""

    engine: Literal["vllm"]
    weights: Text | None = None
    """A folder; absent: the hub, by the model's id."""
    batch_size: Count = 256
    """Responses a part: what is written at once."""
    in_flight: Count = 1024
    """Requests handed to vLLM and not finished yet, at most."""
    tensor_parallel_size: Count = 1
    pipeline_parallel_size: Count = 1
    dtype: Text = "auto"
    quantization: Text | None = None
    max_model_len: Count | None = None
    """Tokens of prompt and response together; absent: what the model allows."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of each GPU's memory; absent: vLLM's own."""
    arguments: dict[str, Any] = Field(default={})
    """Any other argument of vLLM's engine, by its own name."""

    @property
    def gpus(self) -> int:
        """Devices that it keeps busy."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


class Served(Model):
    """How servers are asked over HTTP."""

    base_urls: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Servers of the same model, each with its `/v1` and without a password; requests are shared out among them."""
    model: Text | None = None
    """The name that the servers know the model by; absent: its id."""
    api_key_env: Text | None = None
    """The environment variable that holds the API key; absent: no key is sent. The key is written nowhere."""
    in_flight: Count = 256
    """Requests on their way at a time, over all servers."""
    timeout: Positive = 600.0
    """Seconds that one try may take, and that a server may ask to wait."""
    tries: Count = 6
    """How often a request is sent before its row says `error`, to be taken up again by the next build; six tries last
    about a minute where each fails at once, and each more a minute longer."""


class OpenaiEngine(_Host, Served):
    """Servers that speak OpenAI's chat completions: vLLM, SGLang, llama.cpp, hosted ones."""

    engine: Literal["openai"]
    batch_size: Count = 512
    """Responses a part: what is written at once."""
    dialect: Literal["vllm", "openai"] = "vllm"
    """`vllm`: the server also takes top_k, min_p and repetition_penalty (vLLM, SGLang, llama.cpp), and is always
    told them, so that its model's generation_config fills in nothing. `openai`: OpenAI's own parameters only."""
    n: bool = False
    """Draw all samples of a prompt with one request: cheaper where the server does not share prompts, but the samples
    then share one seed."""
    gpus: Count | None = None
    """Devices behind the servers: what `--dry-run` reckons with, and nothing else."""


EngineHost = Annotated[TransformersEngine | VllmEngine | OpenaiEngine, Field(discriminator="engine")]


class RewardServer(Served):
    """A reward model behind vLLM's pooling or classification endpoint."""

    endpoint: Literal["pooling", "classify"] = "classify"


class RewardHost(Model):
    """Where the reward model runs."""

    batch_size: Count = 256
    """Responses a part: what is written at once."""
    batch_tokens: Count = 16384
    """Tokens that go through the model at once, padding counted; halved where memory runs out. A CPU takes 2,048."""
    weights: Text | None = None
    """A folder, or `package:DISTRIBUTION/FILE.gguf`; absent: the hub, by the model's id."""
    device: Text = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Of the model's body; heads are always float32."""
    server: RewardServer | None = None
    """Servers to ask instead of loading the model here."""
    throughput: Positive | None = None
    """Tokens read a second, all its devices together: what `--dry-run` reckons with, and nothing else."""


HostT = TypeVar("HostT", bound=Model)


class Verification(Model):
    """How much verifying may take."""

    workers: Count | None = None
    """Processes for symbolic mathematics; absent: one a core."""
    timeout: Annotated[float, Field(gt=0, le=600)] = 2.0
    """Seconds a pair of answers may take."""
    memory_mb: Count = 1024


class Sandbox(Model):
    """The containers that untrusted programs run in."""

    image: Text = "fusedata-sandbox"
    """The Docker image, as `fusedata sandbox build` makes it."""
    runtime: Literal["runc", "runsc"] = "runc"
    """`runsc`: gVisor, where Docker knows it."""
    workers: Count | None = None
    """Containers; absent: one a core."""
    timeout: Positive = 2.0
    """Seconds of processor time that a program may take."""
    memory_mb: Count = 512
    """Of a container."""


class Ray(Model):
    """How a Ray cluster is used, with `--on ray`. An engine takes as many GPUs as it is spread over, on one node."""

    engines: Count | None = None
    """Engines that run side by side; absent: as many as the cluster has GPUs for (processors, where they take none),
    and one that asks servers."""
    rewards: Count | None = None
    """Reward models that run side by side; absent: as for engines."""
    checks: Count | None = None
    """Verifiers that run side by side, each with its `workers`; absent: as many as the cluster has processors for."""
    cpus: Count = 1
    """Processors that an engine or a reward model takes."""
    gpus: Count | None = None
    """GPUs of all nodes together: what `--dry-run` reckons with, and nothing else."""


class StandInCorpus(Corpus):
    """A corpus that is read where the recipe names another."""

    replaces: Text
    """The id of the recipe's corpus; several stand-ins may replace one."""


class StandIn(Model):
    """What replaces the recipe's choices where those are out of reach; never hidden: status and card tell."""

    corpora: tuple[StandInCorpus, ...] = ()
    source_models: tuple[SourceModel, ...] = ()
    """None of them is sampled more often than the recipe's own."""
    samples: Count | None = None
    max_tokens: Count | None = None
    screen: Screen | None = None
    reward: Reward | None = None
    reward_gap: Gap | None = None
    """Replaces the recipe's window, on the scale of `reward`; a recipe without one keeps none."""


class Profile(Model):
    """Engines, reward host, verification, hub, and what stands in for the recipe's choices."""

    name: Text
    description: str = ""
    hub: Literal["huggingface", "modelscope"] = "huggingface"
    """Where corpora are fetched from."""
    corpora: Text | None = None
    """A folder with corpora in the hub's layout, `org__name/…`, looked into before the hub."""
    benchmarks: Text | None = None
    """Where benchmarks are read from, for decontamination: `hub`, a folder (in the hub's layout, or plain files), or
    `none`. Absent: the hub, where a corpus of the recipe is fetched from one."""
    engines: tuple[EngineHost, ...] = ()
    reward: RewardHost = RewardHost()
    verification: Verification = Verification()
    sandbox: Sandbox = Sandbox()
    ray: Ray = Ray()
    stand_in: StandIn | None = None


def shipped_profiles() -> dict[str, Path]:
    """Name and path of every profile that ships with fusedata, by name."""
    return {path.stem: path for path in sorted(asset("recipes", "profiles").glob("*.toml"))}


def find_profile(name: str) -> Path:
    """Path of a profile, given a shipped name or the path of a TOML file. Raises ConfigError."""
    return find("profile", name, shipped_profiles())


def load_profile(path: Path) -> Profile:
    """Read a profile; its relative paths are taken from its folder. Raises ConfigError with every mistake."""
    profile, folder = load(Profile, path, {"name": path.stem}), path.parent
    changes: dict[str, object] = {
        "engines": tuple(_hosted(engine, folder) for engine in profile.engines),
        "reward": _hosted(profile.reward, folder),
    }
    if profile.corpora:
        changes["corpora"] = rebased_path(profile.corpora, folder)
    if profile.benchmarks not in {None, "hub", "none"}:
        changes["benchmarks"] = rebased_path(str(profile.benchmarks), folder)
    if profile.stand_in:
        corpora = tuple(rebased(corpus, folder) for corpus in profile.stand_in.corpora)
        changes["stand_in"] = profile.stand_in.model_copy(update={"corpora": corpora})
    return profile.model_copy(update=changes)


def _hosted(host: HostT, folder: Path) -> HostT:
    """Give a host of a model with its relative `weights` taken from `folder`."""
    weights = getattr(host, "weights", None)
    if weights is None or weights.startswith("package:"):
        return host
    return host.model_copy(update={"weights": rebased_path(weights, folder)})


def effective(recipe: Recipe, profile: Profile) -> Recipe:
    """Give the recipe that is really built: `recipe` with the profile's stand-ins in force. Raises ConfigError."""
    if profile.stand_in is None:
        return recipe
    data = {**recipe.model_dump(), **_stand_in(recipe, profile.stand_in)}
    alone = len(data["source_models"]) == 1 and not any(corpus["responses"] for corpus in data["corpora"])
    if recipe.dpo and recipe.dpo.target and alone:
        told = f"{recipe.name} compares a target with other models, and one stand-in answers for all of them"
        raise ConfigError(f"profile {profile.name}: {told}; name another --profile, or add a stand-in to a copy of it.")
    return validate(Recipe, data, f"recipe {recipe.name} under profile {profile.name}")


def _stand_in(recipe: Recipe, stand_in: StandIn) -> dict[str, object]:
    corpora = [c for corpus in recipe.corpora for c in _replaced(corpus, stand_in)]
    models = _limited(recipe.source_models and (stand_in.source_models or recipe.source_models), stand_in)
    most = max((model.samples for model in recipe.source_models), default=1)
    models = tuple(m.model_copy(update={"samples": min(m.samples, most)}) for m in models)
    changed: dict[str, object] = {
        "corpora": [c.model_dump(exclude={"replaces"}) for c in corpora],
        "source_models": [m.model_dump() for m in models],
    }
    if recipe.screen and stand_in.screen:
        changed["screen"] = stand_in.screen.model_dump()
    scorer = recipe.reward
    if recipe.reward and stand_in.reward and recipe.reward.is_asked(models, corpora):
        scorer = stand_in.reward
        changed["reward"] = scorer.model_dump()
    if recipe.dpo and recipe.dpo.reward_gap and stand_in.reward_gap:
        made_for = {"reward_gap_model": scorer.model} if scorer else {}
        changed["dpo"] = {**recipe.dpo.model_dump(), "reward_gap": stand_in.reward_gap, **made_for}
    if recipe.dpo and recipe.dpo.target and recipe.dpo.target not in {m.id for m in models}:
        dpo = changed.get("dpo", recipe.dpo.model_dump())
        changed["dpo"] = {**dpo, "target": models[-1].id}  # type: ignore[dict-item]
    return changed


def _replaced(corpus: Corpus, stand_in: StandIn) -> tuple[Corpus, ...]:
    return tuple(c for c in stand_in.corpora if c.replaces == corpus.id) or (corpus,)


def _limited(models: tuple[SourceModel, ...], stand_in: StandIn) -> tuple[SourceModel, ...]:
    limits = {"samples": stand_in.samples, "max_tokens": stand_in.max_tokens}
    return tuple(m.model_copy(update={k: v for k, v in limits.items() if v is not None}) for m in models)
