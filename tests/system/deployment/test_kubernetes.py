"""The Kubernetes manifests: every field exists in Kubernetes, and every name they use exists in the product."""

import importlib
import re

import httpx
import pytest
import yaml
from paths import ROOT
from serving import ServerProcess

from upres.service.server.settings import Settings

MANIFESTS = {
    name: [*yaml.safe_load_all((ROOT / f"docs/kubernetes/{name}.yaml").read_text())]
    for name in ("server", "several-servers", "ray")
}
ALL = [pytest.param(each, id=f"{name} {each['kind']}") for name, objects in MANIFESTS.items() for each in objects]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(params=["server", "several-servers"])
def documents(request):
    """Return a manifest's objects by kind."""
    return {document["kind"]: document["spec"] for document in MANIFESTS[request.param]}


@pytest.fixture
def pod(documents):
    return next(documents[kind] for kind in ("StatefulSet", "Deployment") if kind in documents)["template"]["spec"]


@pytest.fixture
def container(pod):
    [container] = pod["containers"]
    return container


@pytest.mark.scale
@pytest.mark.parametrize("document", ALL)
def test_it_keeps_the_schema(document):
    kubernetes_validate = importlib.import_module("kubernetes_validate")
    kubernetes_validate.validate(document, "1.33", strict=True)


def test_what_is_set_is_a_setting_and_the_grace_is_longer_than_the_servers(pod, container):
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert {name.removeprefix("UPRES_").lower() for name in variables} <= Settings.model_fields.keys()
    assert float(variables["UPRES_GRACE_SECONDS"]) < pod["terminationGracePeriodSeconds"]
    assert pod["enableServiceLinks"] is False  # otherwise its own service would set UPRES_PORT, which is not a setting


def test_it_runs_the_image_as_that_is_made(pod, container):
    assert container["image"] == "upres:cpu" and " AS cpu\n" in DOCKERFILE
    assert f"--uid {pod['securityContext']['runAsUser']}" in DOCKERFILE
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/var/lib/upres"}
    exposed = re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)[1].split()
    assert [str(port["containerPort"]) for port in container["ports"]] == exposed


@pytest.mark.scale
def test_the_addresses_of_its_probes_answer(container, tmp_path):
    probes = [container[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert {each["port"] for each in probes} == {"http"}
    with ServerProcess(tmp_path / "state") as server:
        server.ready()
        assert {httpx.get(f"{server.base}{each['path']}").status_code for each in probes} == {200}


def test_both_doors_are_served_and_let_in(documents):
    names = ["http", "grpc"]
    assert [port["targetPort"] for port in documents["Service"]["ports"]] == names
    assert [port["port"] for port in documents["NetworkPolicy"]["ingress"][0]["ports"]] == names


def test_several_servers_share_their_state_and_may_reach_each_other():
    objects = {document["kind"]: document["spec"] for document in MANIFESTS["several-servers"]}
    assert "replicas" not in objects["Deployment"] and objects["HorizontalPodAutoscaler"]["minReplicas"] > 1
    assert objects["PersistentVolumeClaim"]["accessModes"] == ["ReadWriteMany"]
    pod, policy = objects["Deployment"]["template"], objects["NetworkPolicy"]
    [among] = [rule for rule in policy["egress"] if "podSelector" in rule.get("to", [{}])[0]]
    assert among["to"][0]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert [port["port"] for port in among["ports"]] == ["http", "grpc"]
    [container] = pod["spec"]["containers"]
    names = {each["name"] for each in container["env"]}
    assert {"UPRES_DATABASE", "UPRES_PEER_HOST"} <= names


@pytest.fixture
def cluster():
    """Return the pods of the Ray cluster, the server's first."""
    return [each["spec"]["template"] for each in MANIFESTS["ray"] if each["kind"] in ("StatefulSet", "Deployment")]


@pytest.mark.scale
def test_nodes_of_the_cluster_are_started_with_options_that_ray_has(cluster):
    start = importlib.import_module("ray.scripts.scripts").start
    for pod in cluster:
        [container] = pod["spec"]["containers"]
        words = " ".join([*container["command"], *container["args"]])
        options = re.search(r"ray start (.*?)(?: &&|$)", words)[1].split()
        given = start.make_context("ray start", options).params
        assert given["head"] == (given["num_cpus"] == 0) == ("exec upres serve" in words)
        assert given["block"] is not given["head"]
        assert given["num_gpus"] == container["resources"]["limits"].get("nvidia.com/gpu")


def test_pods_of_the_cluster_share_one_folder_and_one_token(cluster):
    server, *workers = ({**pod["spec"], **pod["spec"]["containers"][0]} for pod in cluster)
    variables = {each["name"]: each for each in server["env"]}
    settings = {name.removeprefix("UPRES_").lower() for name in variables if name.startswith("UPRES_")}
    assert settings <= Settings.model_fields.keys() and variables["UPRES_EXECUTOR"]["value"] == "ray"
    assert float(variables["UPRES_GRACE_SECONDS"]["value"]) < server["terminationGracePeriodSeconds"]
    for worker in workers:
        assert all(worker[part] == server[part] for part in ("volumes", "volumeMounts", "securityContext"))
        assert all(variables[each["name"]] == each for each in worker["env"])
        assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} < {each["name"] for each in worker["env"]}


def test_workers_of_the_cluster_reach_nothing_else(cluster):
    policies = [each["spec"] for each in MANIFESTS["ray"] if each["kind"] == "NetworkPolicy"]
    within = [{"podSelector": {"matchLabels": {"cluster": "upres"}}}]
    [policy] = [each for each in policies if each["podSelector"]["matchLabels"].get("role") == "worker"]
    selected = policy["podSelector"]["matchLabels"].items()
    assert [selected <= pod["metadata"]["labels"].items() for pod in cluster] == [False, True, True]
    assert all(within[0]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items() for pod in cluster)
    assert policy["ingress"] == [{"from": within}] and policy["policyTypes"] == ["Ingress", "Egress"]
    to, names = policy["egress"]
    assert to == {"to": within} and {port["port"] for port in names["ports"]} == {53}
