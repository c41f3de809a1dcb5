"""Whether deploy/kubernetes is what the API of Kubernetes takes, and whether its parts fit together.

    manifests.py check            every overlay against the strict schemas of each version, and its references
    manifests.py environments     as JSON, how each container of the overlays and of docker-compose.yml is configured

The schemas come with the package kubernetes-validate.
"""

import copy
import importlib.resources
import json
import re
import sys

import jsonschema
import referencing
import yaml

from render import OVERLAYS, by_kubectl, containers, identity, render

ROOT = OVERLAYS.parents[2]
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
SCHEMAS = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"

# Mappings whose keys are anybody's choice.
FREE = {"labels", "annotations", "matchLabels", "selector", "limits", "requests", "nodeSelector"}

# What a field reference stands for in `environments`.
FIELDS = {"metadata.name": "comet-5d8f7c9b6-x2v4q", "status.podIP": "10.0.0.11"}
SECRETS = {
    ("comet-redis", "url"): "rediss://redis.example.com:6380",
    ("comet-redis", "sentinelAuth"): "of the sentinels",
    ("comet-redis", "caFile"): "/etc/comet/redis-tls/ca.crt",
    ("comet-redis", "certFile"): "/etc/comet/redis-tls/tls.crt",
    ("comet-redis", "privateFile"): "/etc/comet/redis-tls/tls.key",
}

# Bytes, as Kubernetes and as Redis write them.
UNITS = {"Mi": 2**20, "Gi": 2**30, "mb": 2**20, "gb": 2**30}


class Failed(Exception):
    """Something is not as it must be."""


def check(holds, what):
    if not holds:
        raise Failed(what)


def main(command):
    overlays = sorted(path.name for path in OVERLAYS.iterdir())
    check(overlays == ["dev", "prod"], f"the overlays are {overlays}")
    rendered = {name: render(OVERLAYS / name) for name in overlays}
    if command == "environments":
        print(json.dumps([*kubernetes_environments(rendered), *compose_environments()]))
        return
    schemas = {version: Schemas(version) for version in VERSIONS}
    for version, of_version in schemas.items():
        # The base too, for what all overlays replace.
        for name, objects in {**rendered, "base": render(OVERLAYS.parent / "base")}.items():
            for thing in objects:
                error = of_version.error(thing)
                check(error is None, f"{name}, Kubernetes {version}, {identity(thing)}: {error}")
    for name, objects in rendered.items():
        references(objects)
        check_against_kustomize(name, objects)
    refused = sum(check_refusals(schemas[version], rendered) for version in (VERSIONS[0], VERSIONS[-1]))
    count = sum(map(len, rendered.values()))
    print(f"{count} objects pass for Kubernetes {VERSIONS[0]} to {VERSIONS[-1]}; {refused} wrong fields are refused")


class Schemas:
    """The strict schemas of one version of Kubernetes."""

    def __init__(self, version):
        self.folder = SCHEMAS / f"v{version}.0-local-strict"
        check(self.folder.is_dir(), f"kubernetes-validate has no schemas of Kubernetes {version}")
        definitions = json.loads((self.folder / "_definitions.json").read_text())
        self.registry = referencing.Resource.from_contents(definitions) @ referencing.Registry()
        self.validators = {}

    def error(self, thing):
        """The first thing that is wrong with an object."""
        # networking.k8s.io/v1 is networking-v1 there.
        group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", thing["apiVersion"])
        name = f"{thing['kind'].lower()}-{group}.json"
        if name not in self.validators:
            file = self.folder / name
            if not file.is_file():
                return f"there is no {thing['kind']} in {thing['apiVersion']}"
            schema = json.loads(file.read_text())
            registry = referencing.Resource.from_contents(schema) @ self.registry
            self.validators[name] = jsonschema.Draft202012Validator(schema, registry=registry)
        error = jsonschema.exceptions.best_match(self.validators[name].iter_errors(thing))
        return error and f"{error.json_path}: {error.message}"


def check_refusals(schemas, rendered):
    """Every mapping whose keys are the API's own has to refuse one that the API does not know, or the check is none."""
    refused = 0
    for objects in rendered.values():
        for thing in objects:
            for path in mappings(thing):
                wrong = copy.deepcopy(thing)
                at(wrong, path)["noSuchField"] = 1
                check(schemas.error(wrong), f"a wrong field is taken in {identity(thing)} at {path}")
                refused += 1
    return refused


def mappings(value, path=()):
    """Where mappings are whose keys are the API's own."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from mappings(item, (*path, index))
    elif isinstance(value, dict):
        # A Service's selector is free, and that of others has fields.
        if not (path and path[-1] in FREE and "matchLabels" not in value):
            yield path
            for key, item in value.items():
                yield from mappings(item, (*path, key))


def at(value, path):
    for step in path:
        value = value[step]
    return value


def check_against_kustomize(name, objects):
    """The rendering here is kustomize's own, where there is one to compare with."""
    theirs = by_kubectl(OVERLAYS / name)
    if theirs is None:
        print(f"{name}: NOT COMPARED: no kubectl with kustomize 4 or later is here")
        return
    ours, theirs = ({identity(thing): thing for thing in side} for side in (objects, theirs))
    check(ours.keys() == theirs.keys(), f"{name}: kustomize makes {theirs.keys() ^ ours.keys()} of it")
    for key, thing in ours.items():
        check(thing == theirs[key], f"{name}: kustomize makes another {key} of it:\n{theirs[key]}\n{thing}")


def references(objects):
    """What one object says of another is true."""
    workloads = [thing for thing in objects if "template" in thing.get("spec", {})]
    pods = {thing["metadata"]["name"]: thing["spec"]["template"] for thing in workloads}
    for thing in objects:
        kind, name, spec = thing["kind"], thing["metadata"]["name"], thing.get("spec", {})
        if kind in ("Deployment", "StatefulSet"):
            check(matches(spec["selector"]["matchLabels"], spec["template"]), f"{name} does not select its own pods")
            pod(name, spec["template"]["spec"], objects)
        elif kind == "Service":
            for port in spec["ports"]:
                has_port(selected(pods, spec["selector"], name), port["targetPort"], f"the service {name}")
        elif kind == "PodDisruptionBudget":
            selected(pods, spec["selector"]["matchLabels"], name)
        elif kind == "NetworkPolicy":
            policy(name, spec, pods)
        elif kind == "HorizontalPodAutoscaler":
            target = tuple(spec["scaleTargetRef"][key] for key in ("apiVersion", "kind", "name"))
            scaled = [workload for workload in workloads if identity(workload) == target]
            check(scaled, f"the autoscaler {name} scales nothing")
            check("replicas" not in scaled[0]["spec"], f"{name}: the autoscaler's number would be overwritten")


def matches(selector, template):
    labels = template["metadata"]["labels"]
    return all(labels.get(key) == value for key, value in selector.items())


def selected(pods, selector, by):
    found = [template for template in pods.values() if matches(selector, template)]
    check(found, f"{by} selects no pod")
    return found


def has_port(templates, port, by):
    for template in templates:
        ports = [port for container in template["spec"]["containers"] for port in container["ports"]]
        known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
        check(port in known, f"{by}: no pod has the port {port}, but {known}")


def policy(name, spec, pods):
    own = selected(pods, spec["podSelector"].get("matchLabels", {}), name)
    for rule in spec.get("ingress", []):
        for port in rule["ports"]:
            # A rule for all pods may name a port that only some of them have.
            concerned = own if spec["podSelector"] else [one for one in own if port["port"] in port_names(one)]
            check(concerned, f"{name}: no pod has the port {port}")
            has_port(concerned, port["port"], name)
    for rule in spec.get("egress", []):
        for peer in rule.get("to", []):
            for port in rule["ports"]:
                has_port(selected(pods, peer["podSelector"]["matchLabels"], name), port["port"], name)


def port_names(template):
    return {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}


def pod(name, spec, objects):
    """Hardened, its volumes are there, its references lead back, and its probes lead to its ports."""
    account = spec.get("serviceAccountName")
    accounts = [thing["metadata"]["name"] for thing in objects if thing["kind"] == "ServiceAccount"]
    check(account is None or account in accounts, f"{name}: there is no ServiceAccount {account}")
    check(spec["automountServiceAccountToken"] is False, f"{name} gets a token of the API")
    check(spec["securityContext"]["runAsNonRoot"], f"{name} may be root")
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for thing in objects:
        claims = thing.get("spec", {}).get("volumeClaimTemplates", [])
        volumes |= {claim["metadata"]["name"] for claim in claims}
    for container in spec["containers"]:
        security = container["securityContext"]
        check(security["readOnlyRootFilesystem"], f"{name} may write")
        check(security["capabilities"]["drop"] == ["ALL"], f"{name} may do too much")
        check(":" in container["image"], f"{name}: the image {container['image']} has no tag")
        for mount in container.get("volumeMounts", []):
            check(mount["name"] in volumes, f"{name}: there is no volume {mount['name']}")
        mounts = tuple(f"{mount['mountPath']}/" for mount in container.get("volumeMounts", []))
        names = {port["name"] for port in container["ports"]}
        for probe in (container[key] for key in container if key.endswith("Probe")):
            if "httpGet" in probe:
                check(probe["httpGet"]["port"] in names, f"{name}: a probe asks {probe['httpGet']['port']}")
        before = set()
        for variable in container.get("env", []):
            value = literal(variable)
            for reference in re.findall(r"\$\((\w+)\)", value):
                check(reference in before, f"{name}: {reference} is not set before {variable['name']}")
            check(not value.startswith("/") or value.startswith(mounts), f"{name}: nothing is mounted for {value}")
            before.add(variable["name"])


def kubernetes_environments(rendered):
    for overlay, objects in rendered.items():
        for thing in objects:
            for container in containers([thing]):
                values = {}
                for variable in container.get("env", []):
                    value = literal(variable)
                    values[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], value)
                pod_spec = thing["spec"]["template"]["spec"]
                hook = container.get("lifecycle", {}).get("preStop", {"exec": {"command": ["sleep", "0"]}})
                yield {
                    "place": f"deploy/kubernetes/overlays/{overlay}",
                    "program": container["name"],
                    "environment": values,
                    "ports": [port["containerPort"] for port in container["ports"]],
                    "grace": pod_spec.get("terminationGracePeriodSeconds"),
                    "before": int(hook["exec"]["command"][1]),
                    "ready": thing["spec"].get("minReadySeconds"),
                    "memory": size(container["resources"]["limits"]["memory"]),
                    "maxmemory": maxmemory(container.get("command", [])),
                }


def size(text):
    return int(text[:-2]) * UNITS[text[-2:]]


def maxmemory(command):
    """The bound of a Redis that is started so, which has to keep what it has."""
    if "redis-server" not in command:
        return None
    check(command[command.index("--maxmemory-policy") + 1] == "noeviction", "Redis may throw sessions and pushes away")
    return size(command[command.index("--maxmemory") + 1])


def literal(variable):
    if "value" in variable:
        return variable["value"]
    source = variable["valueFrom"]
    if "fieldRef" in source:
        return FIELDS[source["fieldRef"]["fieldPath"]]
    return SECRETS[source["secretKeyRef"]["name"], source["secretKeyRef"]["key"]]


def compose_environments():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for service in services.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            check(not source.startswith("./") or (ROOT / source).exists(), f"docker-compose.yml: there is no {source}")
        program = service.get("build", {}).get("target")
        redis = maxmemory(service.get("command", []))
        if program or redis:
            yield {
                "place": "docker-compose.yml",
                "program": program or "redis",
                "environment": service.get("environment", {}),
                "ports": [int(port.split(":")[-1]) for port in service.get("ports", [])],
                "grace": int(service["stop_grace_period"].removesuffix("s")) if program else None,
                "before": 0,
                "ready": None,
                "memory": None,
                "maxmemory": redis,
            }


if __name__ == "__main__":
    main(*sys.argv[1:])
