"""The files that make clusters: what Ray's launcher or KubeRay would refuse is refused here, without a cloud."""

import copy
import itertools
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.commands import warn_about_bad_start_command
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.runtime_env import RuntimeEnv

from raymnist.experiment_file import bundled

ROOT = Path(__file__).parent.parent
AWS = ROOT / "cluster.yaml"
RAYJOB = ROOT / "deploy" / "kuberay" / "rayjob.yaml"
DOCKERFILE = RAYJOB.with_name("Dockerfile")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOKEN = "~/.ray/auth_token"

launcher_files = pytest.mark.parametrize(
    "path", [AWS, *sorted((ROOT / "deploy").glob("*.yaml"))], ids=lambda path: path.stem
)


def read(path):
    return yaml.safe_load(path.read_text())


def accepted(config):
    """Fill in Ray's defaults and hold the result against its schema: `ray up` before it asks the provider anything."""
    filled = prepare_config(copy.deepcopy(config))
    validate_config(filled)
    return filled


def setups(config):
    """List the commands that set up each kind of node, as both of Ray's autoscalers would run them."""
    filled = accepted(config)
    autoscaler = AutoscalingConfig(copy.deepcopy(config), skip_content_hash=True)
    workers = {kind: autoscaler.get_worker_setup_commands(kind) for kind in filled["available_node_types"]}
    return {**workers, filled["head_node_type"]: filled["head_setup_commands"]} if len(workers) > 1 else workers


def installs(commands):
    """Find what pip installs: its words, but for options without a value."""
    return [shlex.split(command.split("pip install ", 1)[1]) for command in commands if "pip install " in command]


def extras(commands):
    return {name for found in re.findall(r"\[([\w,]+)\]", " ".join(commands)) for name in found.split(",")}


def environment(command):
    """Read what a command line sets for its last statement: what it exports before, and assigns in front of it."""
    *before, last = command.split(";")
    words = [word for one in before if one.strip().startswith("export ") for word in shlex.split(one)[1:]]
    words += itertools.takewhile(lambda word: re.match(r"\w+=", word), shlex.split(last))
    return dict(word.split("=", 1) for word in words)


def sources():
    """Name what the build needs of the checkout, by pyproject.toml, and the versions beside it."""
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    about = [PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]]
    return {"pyproject.toml", "constraints.txt", *about, *wheel["packages"], *wheel["force-include"]}


@launcher_files
def test_ray_accepts_the_cluster_file(path):
    filled = accepted(read(path))
    assert "ray-wheels" not in json.dumps(filled)  # Ray's own commands, which install another version, are all replaced


@launcher_files
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_worker": 8}, "'max_worker' was unexpected"),
        ({"idle_timeout_minutes": "ten"}, "'ten' is not of type 'number'"),
        ({"initialization_commands": "true"}, "'true' is not of type 'array'"),
        ({"file_mounts": [TOKEN]}, "is not of type 'object'"),
        ({"auth": {"user": "ubuntu"}}, "'user' was unexpected"),
    ],
)
def test_ray_refuses_a_broken_copy(path, change, message):
    with pytest.raises(jsonschema.ValidationError, match=message):
        validate_config({**accepted(read(path)), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worker_setup_command": []}, "'worker_setup_command' was unexpected"),
        ({"resources": {"CPU": "8"}}, "'8' is not of type 'integer'"),
        ({"worker_setup_commands": "true"}, "'true' is not of type 'array'"),
        ({"min_workers": 9}, "`max_workers` is smaller than the sum of `min_workers`"),
    ],
)
def test_ray_refuses_a_broken_type_of_node(change, message):
    config = read(AWS)
    config["available_node_types"]["cpu"] |= change
    with pytest.raises((jsonschema.ValidationError, ValueError), match=message):
        accepted(config)


@launcher_files
def test_all_commands_are_read_by_the_shell_as_ray_runs_them(path):
    config = read(path)
    lists = [config, *config.get("available_node_types", {}).values()]
    commands = [line for one in lists for key, lines in one.items() if key.endswith("_commands") for line in lines]
    assert commands
    for command in commands:
        _, *_, wrapped = _with_interactive(command)
        (script,) = shlex.split(wrapped)
        subprocess.run(["bash", "-n", "-c", script], check=True)


@launcher_files
def test_every_node_has_the_token_and_asks_for_it(path):
    config = read(path)
    assert config["file_mounts"][TOKEN] == TOKEN
    for node in ("head", "worker"):
        *_, start = config[f"{node}_start_ray_commands"]
        assert environment(start)["RAY_AUTH_MODE"] == "token"
        assert environment(start)["RAYMNIST_RESULTS"] == "/shared/results"  # on the volume that all nodes share


@launcher_files
def test_the_head_starts_with_the_page_and_the_autoscaler_and_ray_warns_of_nothing(path, capsys):
    commands = read(path)["head_start_ray_commands"]
    start = commands[-1]
    assert re.search(r"; [^;]*python -m raymnist\.dashboard start --head .*--autoscaling-config=~/ray_boot", start)
    warn_about_bad_start_command(commands)
    assert "".join(capsys.readouterr()) == ""
    warn_about_bad_start_command([start.replace("ray start", "start")])
    assert "will not be started" in "".join(capsys.readouterr())


@launcher_files
def test_every_installation_is_constrained_and_of_extras_that_exist(path):
    constraints = (ROOT / "constraints.txt").read_text()
    for commands in setups(read(path)).values():
        found = installs(commands)
        assert found
        for words in found:
            assert Path(words[words.index("--constraint") + 1]).name == "constraints.txt"
            if words[-1].isidentifier():  # a package of the index
                assert f"\n{words[-1]}==" in constraints
        assert extras(commands) <= PROJECT["project"]["optional-dependencies"].keys()


def test_what_the_nodes_install_is_all_there():
    mounts = {there: here for there, here in read(AWS)["file_mounts"].items() if there != TOKEN}
    assert set(mounts.values()) == sources()
    assert all((ROOT / here).exists() for here in mounts.values())
    assert all(there == f"~/raymnist/{here}" for there, here in mounts.items())


def test_workers_with_and_without_a_gpu_install_what_they_need_and_the_head_holds_no_trials():
    config = read(AWS)
    types, installed = accepted(config)["available_node_types"], setups(config)
    head = config["head_node_type"]
    assert types[head]["resources"] == {"CPU": 0}
    assert types[head]["max_workers"] == 0
    assert "boto3" in installed[head][-1]
    with_gpu = {name for name, kind in types.items() if kind["resources"].get("GPU")}
    without = types.keys() - with_gpu - {head}
    assert with_gpu
    assert without
    for name in with_gpu | without:
        assert types[name]["node_config"]["InstanceType"].startswith("g") == (name in with_gpu)
        assert extras(installed[name]) == ({"gpu", "optuna"} if name in with_gpu else {"optuna"})
        assert 0 <= types[name]["min_workers"] < types[name]["max_workers"]


def test_the_shared_folder_is_mounted_on_every_node_before_it_is_set_up():
    config = read(AWS)
    (mount,) = [command for command in config["initialization_commands"] if " mount " in command]
    assert mount.endswith("fs-REPLACE.efs.us-west-2.amazonaws.com:/ /shared")
    assert config["provider"]["region"] == "us-west-2"
    assert all("initialization_commands" not in kind for kind in config["available_node_types"].values())


@pytest.mark.parametrize("path", [AWS, *sorted((ROOT / "deploy").rglob("*.*")), DOCKERFILE], ids=lambda path: path.name)
def test_every_version_of_ray_is_the_installed_one(path):
    assert set(re.findall(r"(?<![.\d])2\.\d+\.\d+\b", path.read_text())) <= {ray.__version__}


# What a RayJob may hold, by KubeRay 1.7.0's reference of its fields (docs/reference/api.md in ray-project/kuberay), and
# of the pods in it what is common, by the reference of Kubernetes' core/v1. Each line is a type and the fields of it.

TYPES = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "strings": {"type": "array", "items": {"type": "string"}},
    "mapping": {"type": "object", "additionalProperties": {"type": "string"}},
    "quantities": {
        "type": "object",
        "additionalProperties": {"type": ["string", "integer"], "pattern": r"^\d+(\.\d+)?(m|[kMGTPE]i?)?$"},
    },
    "object": {"type": "object"},
    "list": {"type": "array", "items": {"type": "object"}},
}


def fields(required, others=None, **by_type):
    """Make the schema of an object that has these fields and no others."""
    known = {name: TYPES[kind] for kind, names in by_type.items() for name in names.split()}
    return {
        "type": "object",
        "required": required.split(),
        "properties": {**known, **(others or {})},
        "additionalProperties": False,
    }


def some(item):
    return {"type": "array", "items": item, "minItems": 1}


RESOURCES = fields("", quantities="limits requests")
CONTAINER = fields(
    "name image resources volumeMounts",
    string="name image imagePullPolicy workingDir",
    strings="command args",
    list="env envFrom",
    object="securityContext lifecycle livenessProbe readinessProbe startupProbe",
    others={
        "ports": some(fields("containerPort", string="name protocol", integer="containerPort")),
        "resources": RESOURCES,
        "volumeMounts": some(fields("name mountPath", string="name mountPath subPath", boolean="readOnly")),
    },
)
CLAIM = fields("claimName", string="claimName", boolean="readOnly")
POD = fields(
    "containers",
    string="schedulerName serviceAccountName priorityClassName runtimeClassName",
    mapping="nodeSelector",
    object="affinity",
    list="imagePullSecrets initContainers topologySpreadConstraints",
    others={
        "restartPolicy": {"enum": ["Always", "OnFailure", "Never"]},
        "securityContext": fields("", integer="fsGroup runAsGroup runAsUser", boolean="runAsNonRoot"),
        "tolerations": some(fields("", string="key operator value effect", integer="tolerationSeconds")),
        "volumes": some(fields("name", string="name", object="emptyDir", others={"persistentVolumeClaim": CLAIM})),
        "containers": some(CONTAINER),
    },
)
TEMPLATE = fields("spec", object="metadata", others={"spec": POD})
HEAD = fields(
    "template rayStartParams",
    boolean="enableIngress",
    mapping="resources labels rayStartParams",
    object="headService ingressOptions",
    string="serviceType",
    others={"template": TEMPLATE},
)
WORKERS = fields(
    "groupName minReplicas maxReplicas rayStartParams template",
    boolean="suspend",
    integer="replicas minReplicas maxReplicas idleTimeoutSeconds priority numOfHosts",
    mapping="resources labels rayStartParams",
    object="scaleStrategy",
    string="groupName",
    others={"template": TEMPLATE},
)
AUTHENTICATION = fields(
    "mode secretName",
    boolean="enableK8sTokenAuth",
    string="secretName",
    others={"mode": {"enum": ["disabled", "token"]}},
)
AUTOSCALER = fields(
    "",
    integer="idleTimeoutSeconds",
    string="image imagePullPolicy",
    strings="command args",
    object="resources securityContext",
    list="env envFrom volumeMounts",
    others={
        "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]},
        "version": {"enum": ["v1", "v2"]},
    },
)
CLUSTER = fields(
    "headGroupSpec",
    boolean="suspend enableInTreeAutoscaling",
    mapping="headServiceAnnotations",
    object="upgradeStrategy gcsFaultToleranceOptions historyServerOptions networkPolicy tlsOptions",
    string="managedBy rayVersion",
    others={
        "authOptions": AUTHENTICATION,
        "autoscalerOptions": AUTOSCALER,
        "headGroupSpec": HEAD,
        "workerGroupSpecs": some(WORKERS),
    },
)
JOB = fields(
    "entrypoint rayClusterSpec",
    boolean="shutdownAfterJobFinishes suspend",
    integer="activeDeadlineSeconds backoffLimit ttlSecondsAfterFinished preRunningDeadlineSeconds",
    mapping="metadata clusterSelector",
    number="entrypointNumCpus entrypointNumGpus",
    object="submitterPodTemplate submitterConfig deletionStrategy",
    string="managedBy entrypoint runtimeEnvYAML jobId entrypointResources",
    others={
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        "rayClusterSpec": CLUSTER,
    },
)
MODES = {"type": "array", "items": {"enum": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]}}
VOLUME = fields(
    "accessModes resources",
    string="storageClassName volumeMode volumeName",
    object="selector",
    others={"accessModes": MODES, "resources": RESOURCES},
)


def document(version, kind, spec):
    metadata = fields("name", string="name namespace", mapping="labels annotations")
    head = {"apiVersion": {"const": version}, "kind": {"const": kind}}
    return fields("apiVersion kind metadata spec", others={**head, "metadata": metadata, "spec": spec})


def manifests():
    """Read the job and the claim of a volume."""
    return list(yaml.safe_load_all(RAYJOB.read_text()))


def check(job):
    jsonschema.validate(job, document("ray.io/v1", "RayJob", JOB))


def pods(job):
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_kuberay_knows_every_field_of_the_job():
    job, claim = manifests()
    check(job)
    jsonschema.validate(claim, document("v1", "PersistentVolumeClaim", VOLUME))


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("spec", {"ttlSecondsAfterFinish": 1}),
        ("spec", {"ttlSecondsAfterFinished": "1h"}),
        ("spec", {"submissionMode": "Kubernetes"}),
        ("spec rayClusterSpec", {"authOptions": {"mode": "token", "secret": "raymnist-token"}}),
        ("spec rayClusterSpec", {"rayVersion": 2.6}),
        ("spec rayClusterSpec headGroupSpec", {"rayStartParams": {"num-cpus": 0}}),
        ("spec rayClusterSpec headGroupSpec", {"replicas": 1}),
        ("spec rayClusterSpec workerGroupSpecs 1", {"maxReplicas": "4"}),
        ("spec rayClusterSpec workerGroupSpecs 1", {"minWorkers": 0}),
        ("spec rayClusterSpec workerGroupSpecs 1 template spec containers 0", {"images": "a"}),
        ("spec rayClusterSpec workerGroupSpecs 1 template spec containers 0", {"command": "bash"}),
        (
            "spec rayClusterSpec workerGroupSpecs 1 template spec containers 0 resources",
            {"limits": {"memory": "16GiB"}},
        ),
    ],
)
def test_a_broken_job_is_refused(place, change):
    job, _ = copy.deepcopy(manifests())
    at = job
    for step in place.split():
        at = at[int(step) if step.isdigit() else step]
    at |= change
    with pytest.raises(jsonschema.ValidationError):
        check(job)


@pytest.mark.parametrize(
    "missing", ["entrypoint", "rayClusterSpec", "rayClusterSpec headGroupSpec", "rayClusterSpec headGroupSpec template"]
)
def test_a_job_that_lacks_what_it_needs_is_refused(missing):
    job, _ = manifests()
    *way, last = missing.split()
    at = job["spec"]
    for step in way:
        at = at[step]
    del at[last]
    with pytest.raises(jsonschema.ValidationError, match=f"'{last}' is a required property"):
        check(job)


def test_the_job_runs_a_bundled_experiment_with_results_in_the_volume():
    job, claim = manifests()
    program, command, experiment, option, results = shlex.split(job["spec"]["entrypoint"])
    assert (program, command, option) == (*PROJECT["project"]["scripts"], "run", "--results")
    assert experiment in bundled()
    settings = yaml.safe_load(job["spec"]["runtimeEnvYAML"])
    assert settings.keys() <= RuntimeEnv.known_fields
    paths = [results, *RuntimeEnv(**settings)["env_vars"].values()]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(job):
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for container in pod["containers"]:
            (mount,) = container["volumeMounts"]
            assert mount["name"] == volume["name"]
            assert all(Path(path).is_relative_to(mount["mountPath"]) for path in paths)


def test_the_job_has_workers_with_and_without_a_gpu_and_a_head_that_holds_no_trials():
    job, _ = manifests()
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    head, *workers = [pod["containers"][0]["resources"]["limits"] for pod in pods(job)]
    assert "nvidia.com/gpu" not in head
    assert sorted("nvidia.com/gpu" in limits for limits in workers) == [False, True]
    assert all(
        group["minReplicas"] <= group["replicas"] < group["maxReplicas"] for group in cluster["workerGroupSpecs"]
    )


def test_the_job_ends_its_cluster_and_is_closed_to_those_without_the_token():
    job, _ = manifests()
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["shutdownAfterJobFinishes"]
    assert spec["ttlSecondsAfterFinished"] > cluster["autoscalerOptions"]["idleTimeoutSeconds"] > 0
    assert cluster["authOptions"]["mode"] == "token"
    secret = cluster["authOptions"]["secretName"]
    assert f"kubectl create secret generic {secret} --from-literal=auth_token=" in RAYJOB.read_text()


def test_the_image_is_built_from_the_installed_ray_and_the_whole_project():
    job, _ = manifests()
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    (image,) = {container["image"] for pod in pods(job) for container in pod["containers"]}
    assert image.endswith(f":{ray.__version__}")
    assert f"docker build --file {DOCKERFILE.relative_to(ROOT)} --tag {image} ." in RAYJOB.read_text()
    lines = [line.split() for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    (base,) = [words[1] for words in lines if words[0] == "FROM"]
    version, major, minor = re.fullmatch(r"rayproject/ray:([\d.]+)-py(\d)(\d+)-gpu", base).groups()
    assert version == ray.__version__
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(f"{major}.{minor}")
    copied = {word for words in lines if words[0] == "COPY" for word in words[1:-1] if not word.startswith("--")}
    assert copied == sources()
    (install,) = [" ".join(words) for words in lines if words[0] == "RUN"]
    assert "--constraint constraints.txt" in install
    assert extras([install]) == {"gpu", "optuna"}
