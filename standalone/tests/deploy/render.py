"""What `kubectl kustomize` makes of an overlay, as far as deploy/kubernetes needs it: resources, a namespace, patches
by strategic merge and tags of images. Anything else in a kustomization is refused: nothing is passed over in silence.

The checks use this, and not kustomize itself, because Debian has none that is new enough. Where one is installed,
manifests.py compares."""

import pathlib
import re
import shutil
import subprocess

import yaml

OVERLAYS = pathlib.Path(__file__).resolve().parents[3] / "deploy/kubernetes/overlays"

# What a list of objects is merged by, as the API's schemas say for the lists that overlays patch. Others are replaced.
MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "port",
}
CONTAINER_PORTS = "containerPort"
# How kustomize is called, and how it tells its version.
TOOLS = [
    (["kubectl", "kustomize"], ["kubectl", "version", "--client"]),
    (["kustomize", "build"], ["kustomize", "version"]),
]
WITHOUT_NAMESPACE = {"Namespace"}


class Refused(Exception):
    """The files cannot be rendered."""


def render(folder):
    """The objects of the kustomization in `folder`, in order."""
    folder = folder.resolve()
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    todo = {key: value for key, value in kustomization.items() if key not in ("apiVersion", "kind")}
    objects = []
    for name in todo.pop("resources"):
        place = folder / name
        objects += render(place) if place.is_dir() else documents(place)
    for patch in todo.pop("patches", []):
        if set(patch) != {"path"}:
            raise Refused(f"{folder}: the patch {patch} is no file alone")
        for document in documents(folder / patch["path"]):
            apply(objects, document, folder / patch["path"])
    namespace = todo.pop("namespace", None)
    for image in todo.pop("images", []):
        set_tag(objects, image["name"], image["newTag"])
    if todo:
        raise Refused(f"{folder}: {sorted(todo)} is not known here")
    for thing in objects:
        if namespace and thing["kind"] not in WITHOUT_NAMESPACE:
            thing["metadata"]["namespace"] = namespace
    names = [identity(thing) for thing in objects]
    if len(set(names)) != len(names):
        raise Refused(f"{folder}: something is there twice: {names}")
    return objects


def by_kubectl(folder):
    """The same by kustomize itself; None where there is none that takes directories as resources."""
    for tool, version in TOOLS:
        if not shutil.which(tool[0]):
            continue
        said = subprocess.run(version, capture_output=True, text=True, timeout=60).stdout
        found = re.search(r"(?:Kustomize Version: )?v(\d+)\.\d+\.\d+\S*\s*$", said.strip())
        if found and int(found[1]) >= 4:
            done = subprocess.run([*tool, str(folder)], capture_output=True, text=True, timeout=60)
            if done.returncode or done.stderr:
                raise Refused(f"{' '.join(tool)} {folder}: {done.stderr}")
            return [thing for thing in yaml.safe_load_all(done.stdout) if thing]
    return None


def identity(thing):
    return thing["apiVersion"], thing["kind"], thing["metadata"]["name"]


def documents(path):
    return [document for document in yaml.load_all(path.read_text(), Loader=Strict) if document]


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML readers take the last one in silence."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise Refused(f"{node.start_mark}: {twice} is there twice")
        return super().construct_mapping(node, deep)


def apply(objects, patch, path):
    for index, thing in enumerate(objects):
        if identity(thing) == identity(patch):
            objects[index] = merged(thing, patch)
            return
    raise Refused(f"{path}: there is no {identity(patch)}")


def merged(old, patch):
    """A strategic merge of two mappings: null takes away, lists of objects are merged by key, the patch's first."""
    result = dict(old)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(old.get(key), dict):
            result[key] = merged(old[key], value)
        elif isinstance(value, list) and {"$patch": "replace"} in value:
            result[key] = [item for item in value if item != {"$patch": "replace"}]
        elif isinstance(value, list) and key in MERGE_KEYS:
            result[key] = merged_list(old.get(key, []), value, key)
        else:
            result[key] = value
    return result


def merged_list(old, patch, name):
    key = CONTAINER_PORTS if any(CONTAINER_PORTS in item for item in patch) else MERGE_KEYS[name]
    before = {item[key]: item for item in old}
    return [merged(before.pop(item[key], {}), item) for item in patch] + list(before.values())


def set_tag(objects, name, tag):
    found = [container for container in containers(objects) if container["image"] == name]
    if not found:
        raise Refused(f"nothing has the image {name}")
    for container in found:
        container["image"] = f"{name}:{tag}"


def containers(objects):
    for thing in objects:
        if "template" in thing.get("spec", {}):
            yield from thing["spec"]["template"]["spec"]["containers"]
