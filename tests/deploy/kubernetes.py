"""Renders deploy/kubernetes as `kubectl apply -k` would, and checks what comes out of it.

python kubernetes.py TOOLS OUTPUT

OUTPUT is where the custom resources go as JSON, for custom_resources.mjs.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
# The oldest release that the manifests are meant for, and the newest that there is a schema of.
VERSIONS = ["1.30", "1.37"]


def render(kubectl: str, overlay: pathlib.Path) -> list[dict]:
    command = [kubectl, "kustomize", str(overlay)]
    rendered = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return list(yaml.safe_load_all(rendered))


def one(manifests: list[dict], kind: str, name: str = "userpilot-gateway") -> dict:
    (found,) = (
        each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name
    )
    return found


def follow_the_schema(manifests: list[dict]) -> None:
    for manifest in manifests:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def workload(manifests: list[dict]) -> dict:
    """What has the pods."""
    (found,) = (each for each in manifests if each["kind"] in ("StatefulSet", "Deployment"))
    assert found["metadata"]["name"] == "userpilot-gateway"
    return found["spec"]


def fit_together(manifests: list[dict], secrets: dict[str, str]) -> dict:
    """`secrets`: the volumes that are Secrets, and the examples of these. Returns the configuration."""
    spec = workload(manifests)
    template, pod = spec["template"], spec["template"]["spec"]
    (container,) = pod["containers"]
    labels = template["metadata"]["labels"].items()
    assert spec["selector"]["matchLabels"].items() <= labels
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    assert container["image"].endswith(f"userpilot-gateway:{version}"), container["image"]
    names = {port["name"]: port["containerPort"] for port in container["ports"]}
    services = [each for each in manifests if each["kind"] == "Service"]
    assert len(services) == 2
    for service in services:
        assert service["spec"]["selector"].items() <= labels, service
        assert all(port["targetPort"] in names for port in service["spec"]["ports"]), service
    assert one(manifests, "Service", "userpilot-gateway-headless")["spec"]["clusterIP"] == "None"
    budget = one(manifests, "PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels
    assert one(manifests, "ServiceAccount")["metadata"]["name"] == pod["serviceAccountName"]

    config = tomllib.loads(one(manifests, "ConfigMap")["data"]["gateway.toml"])
    server = config["server"]
    for name, key in [("grpc", "grpc_listen"), ("http", "http_listen")]:
        assert server[key] == f"0.0.0.0:{names[name]}", key
    for probe, path in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]:
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
    # The gateway's own limits, from src/gateway/ending.rs: the grace, the writer's five seconds
    # and the HTTP door's one. They say so, each in the same words. Kubernetes counts preStop, too.
    before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = before + server["shutdown_grace_ms"] / 1000 + 6
    assert pod["terminationGracePeriodSeconds"] > needed

    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["args"] == ["serve", "--config", f"{mounts['config']}/gateway.toml"]
    claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]} | claims
    (writable,) = (mount for mount in container["volumeMounts"] if not mount.get("readOnly"))
    assert config["store"]["path"].startswith(writable["mountPath"] + "/")
    mounted = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    assert mounted.keys() == secrets.keys()
    named = {config["apps"][0]["api_key_file"]}
    postgres = config["store"].get("postgres", {})
    named |= {postgres[key] for key in ("password_file", "ca_file") if key in postgres}
    shown = set()
    for volume, file in secrets.items():
        example = yaml.safe_load((FOLDER / file).read_text())
        follow_the_schema([example])
        assert example["metadata"]["name"] == mounted[volume]["secretName"]
        shown |= {f"{mounts[volume]}/{key}" for key in example["stringData"]}
    assert named == shown, named ^ shown
    return config


def is_one_gateway(manifests: list[dict]) -> None:
    stateful = one(manifests, "StatefulSet")["spec"]
    assert stateful["replicas"] == 1
    assert stateful["serviceName"] == "userpilot-gateway-headless"
    (claim,) = stateful["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "store"
    assert one(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 0


def is_a_fleet(manifests: list[dict], config: dict) -> None:
    """Of which one at most is missing, whatever is done in order, and which leaves nothing on a node."""
    assert not [each for each in manifests if each["kind"] == "PersistentVolumeClaim"]
    deployment = one(manifests, "Deployment")["spec"]
    assert deployment["replicas"] == 3
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = deployment["template"]["spec"]
    own = deployment["selector"]["matchLabels"]
    hosts, zones = pod["topologySpreadConstraints"]
    assert hosts["topologyKey"] == "kubernetes.io/hostname" and hosts["maxSkew"] == 1
    assert hosts["whenUnsatisfiable"] == "DoNotSchedule"
    assert hosts["labelSelector"]["matchLabels"] == zones["labelSelector"]["matchLabels"] == own
    assert [volume["name"] for volume in pod["volumes"] if "emptyDir" in volume] == ["uploads"]
    assert one(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    headless = one(manifests, "Service", "userpilot-gateway-headless")["spec"]
    assert headless["publishNotReadyAddresses"] is False
    store = config["store"]
    assert store["engine"] == "postgres" and store["fleet"]["enabled"] is True
    assert store["postgres"]["tls"] == "verify-full"
    ways = [rule["ports"] for rule in one(manifests, "NetworkPolicy")["spec"]["egress"]]
    assert [{"port": 5432, "protocol": "TCP"}] in ways, "the database cannot be reached"


def store_is_reached(manifests: list[dict]) -> None:
    """By the pod in which the store's commands are run, and the commands that the runbook shows."""
    shown = yaml.safe_load((FOLDER / "store.yaml").read_text())
    follow_the_schema([shown])
    pod = shown["spec"]
    stateful = one(manifests, "StatefulSet")
    template = stateful["spec"]["template"]["spec"]
    (gateway,) = template["containers"]
    tool, shell = pod["containers"]
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    own = {"name": claim["metadata"]["name"]}
    name = f"{own['name']}-{stateful['metadata']['name']}-0"
    assert pod["volumes"] == [
        own | {"persistentVolumeClaim": {"claimName": name}}
    ] + template["volumes"]
    assert tool["volumeMounts"] == gateway["volumeMounts"]
    assert shell["volumeMounts"] == [each for each in gateway["volumeMounts"] if each["name"] == own["name"]]
    assert pod["securityContext"] == template["securityContext"]
    for container in (tool, shell):
        assert container["securityContext"] == gateway["securityContext"]
    labels = shown["metadata"]["labels"].items()
    for kind, path in [("Service", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")]:
        for each in (each for each in manifests if each["kind"] == kind):
            wanted = each["spec"][path]
            wanted = wanted.get("matchLabels", wanted)
            assert not wanted.items() <= labels, f"{kind} takes it for the gateway"
    runbook = (ROOT / "docs/operations.md").read_text()
    (block,) = re.findall(r"^```sh\n(# On Kubernetes\n.+?)^```", runbook, re.M | re.S)
    assert f"kubectl set image --local --filename deploy/kubernetes/store.yaml {tool['name']}=" in block
    execs = re.findall(r"kubectl exec (?:-i )?(\S+) --container (\S+) -- (.+)", block)
    assert len(execs) >= 4, "they are not read as they should be"
    for named, container, command in execs:
        assert named == shown["metadata"]["name"], command
        assert container == (tool if command.startswith("userpilot-gateway ") else shell)["name"], command
        if command.startswith("userpilot-gateway store "):
            assert f"--config {gateway['args'][-1]}" in command, command


def are_locked_down(manifests: list[dict]) -> None:
    template = workload(manifests)["template"]
    pod = template["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"].keys() == {"memory"}
    policy = one(manifests, "NetworkPolicy")["spec"]
    own = policy["podSelector"]["matchLabels"]
    assert own.items() <= template["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    # Kustomize can put a common label on those who are let in, which lets in nobody.
    sides = [peer for rule in policy["ingress"] for peer in rule["from"]]
    sides += [peer for rule in policy["egress"] for peer in rule["to"]]
    for peer in sides:
        labels = peer.get("podSelector", {}).get("matchLabels", {})
        assert "app.kubernetes.io/name" not in labels, peer
    names_are_looked_up(policy["egress"])


def names_are_looked_up(egress: list[dict]) -> None:
    """At kube-dns, at OpenShift's resolvers, and at NodeLocal DNSCache."""
    (rule,) = (rule for rule in egress if {"namespaceSelector": {}} in rule["to"])
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]
    ports = {(port["port"], port["protocol"]) for port in rule["ports"]}
    assert ports == {(port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")}


def scrape_and_tell(manifests: list[dict], base: list[dict]) -> list[dict]:
    monitor = one(manifests, "ServiceMonitor")["spec"]
    service = one(base, "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in service["spec"]["ports"]}
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in ports and endpoint["path"] == "/metrics"
    rules = one(manifests, "PrometheusRule")
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert rules["spec"] == alerts, (
        "deploy/kubernetes/monitoring/prometheusrule.yaml is not what deploy/prometheus/alerts.yml "
        "says; renew it: python tests/deploy/prometheusrule.py"
    )
    return [one(manifests, "ServiceMonitor"), rules]


def documented(kubectl: str, document: str, config: str) -> list[dict]:
    """What comes of the overlay that a document shows, with one of our configurations as one's own."""
    text = (ROOT / document).read_text()
    (overlay,) = re.findall(r"^```yaml\n(# kustomization.yaml\n.+?)^```", text, re.M | re.S)
    with tempfile.TemporaryDirectory() as folder:
        here = pathlib.Path(folder).resolve()
        ours = os.path.relpath(FOLDER, here)
        there = overlay.replace("../userpilot-gateway/deploy/kubernetes", ours)
        assert there != overlay
        (here / "kustomization.yaml").write_text(there)
        shutil.copy(FOLDER / config, here)
        return render(kubectl, here)


def of_a_fleet(kubectl: str) -> list[dict]:
    """The base with the component alone."""
    with tempfile.TemporaryDirectory() as folder:
        here = pathlib.Path(folder).resolve()
        named = {"resources": "base", "components": "fleet"}
        overlay = {key: [os.path.relpath(FOLDER / name, here)] for key, name in named.items()}
        (here / "kustomization.yaml").write_text(json.dumps(overlay))
        return render(kubectl, here)


def reaches_its_database(overlay: list[dict]) -> None:
    """Where the document's patch says that it is; with the image that it names, of the Deployment, too."""
    egress = one(overlay, "NetworkPolicy")["spec"]["egress"]
    (rule,) = (rule for rule in egress if rule["ports"] == [{"port": 5432, "protocol": "TCP"}])
    assert rule["to"] == [{"ipBlock": {"cidr": "10.20.30.0/24"}}], rule
    (container,) = workload(overlay)["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example.com/"), container["image"]


def is_scraped_where_it_is_put(overlay: list[dict]) -> None:
    """By the Prometheus of that chart, in that namespace, which the base does not know."""
    for kind in ["ServiceMonitor", "PrometheusRule"]:
        metadata = one(overlay, kind)["metadata"]
        assert metadata["namespace"] == "userpilot"
        assert metadata["labels"]["release"] == "kube-prometheus-stack"
        assert metadata["labels"]["app.kubernetes.io/name"] == "userpilot-gateway"
    ingress = one(overlay, "NetworkPolicy")["spec"]["ingress"]
    namespaces = [peer["namespaceSelector"] for rule in ingress for peer in rule["from"]]
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": "observability"}}
    assert namespaces == [{}, chosen], namespaces


def main(tools: str, output: str) -> None:
    kubectl = f"{tools}/kubectl"
    keys = {"keys": "base/secret.example.yaml"}
    base = render(kubectl, FOLDER / "base")
    follow_the_schema(base)
    fit_together(base, keys)
    is_one_gateway(base)
    store_is_reached(base)
    are_locked_down(base)
    monitored = render(kubectl, FOLDER / "monitoring")
    assert all(manifest in monitored for manifest in base)
    custom = scrape_and_tell(monitored, base)
    overlay = documented(kubectl, "docs/operations.md", "base/gateway.toml")
    follow_the_schema([each for each in overlay if "coreos" not in each["apiVersion"]])
    is_scraped_where_it_is_put(overlay)

    both = keys | {"database": "fleet/secret.example.yaml"}
    fleet = of_a_fleet(kubectl)
    follow_the_schema(fleet)
    is_a_fleet(fleet, fit_together(fleet, both))
    are_locked_down(fleet)
    overlay = documented(kubectl, "docs/fleet.md", "fleet/gateway.toml")
    follow_the_schema([each for each in overlay if "coreos" not in each["apiVersion"]])
    is_a_fleet(overlay, fit_together(overlay, both))
    are_locked_down(overlay)
    reaches_its_database(overlay)
    assert scrape_and_tell(overlay, overlay)
    pathlib.Path(output).write_text(json.dumps(custom))
    print(
        f"{len(base)} manifests and {len(custom)} custom resources, {len(fleet)} manifests of a fleet"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
