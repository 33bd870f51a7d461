"""Checks deploy/compose.yaml against the Compose specification, and what it leads to.

python compose.py BINARY
"""

import pathlib
import re
import subprocess
import sys
import tomllib

import compose_spec
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"


def lead_somewhere(compose: dict) -> None:
    services = compose["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in compose["volumes"], f"{name}: {source}"
        for other in service.get("depends_on", []):
            assert other in services, f"{name}: {other}"
        # Nothing asks for a credential.
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"
        assert service["cap_drop"] == ["ALL"], name
    gateway = services["gateway"]
    build = gateway["build"]
    root = (DEPLOY / build["context"]).resolve()
    assert (root / "Cargo.toml").exists() and (root / build["dockerfile"]).exists()
    # A key goes over plain HTTP to a loopback address alone. That network goes with the gateway's container.
    assert services["userpilot"]["network_mode"] == "service:gateway"
    assert services["userpilot"]["depends_on"]["gateway"]["restart"] is True
    config = tomllib.loads((DEPLOY / "compose/gateway.toml").read_text())
    listen = services["userpilot"]["command"][-1]
    assert config["apps"][0]["base_url"] == f"http://{listen}"
    assert config["apps"][0]["api_key_env"] in gateway["environment"]
    grace = int(gateway["stop_grace_period"].removesuffix("s"))
    assert grace > config["server"]["shutdown_grace_ms"] / 1000 + 6
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    ((target,),) = (each["targets"] for each in scraped["scrape_configs"][0]["static_configs"])
    assert target == "gateway:" + config["server"]["http_listen"].split(":")[1]
    sources = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    )
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"
    provider = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/dashboards/userpilot-gateway.yaml").read_text()
    )["providers"][0]
    dashboards = f"./grafana/dashboards:{provider['options']['path']}:ro"
    assert dashboards in services["grafana"]["volumes"]


def can_be_followed(compose: dict, binary: str) -> None:
    """The commands for Compose in docs/operations.md."""
    runbook = (DEPLOY.parent / "docs/operations.md").read_text()
    (block,) = re.findall(r"^```sh\n(# With Compose\n.+?)^```", runbook, re.M | re.S)
    gateway = compose["services"]["gateway"]
    runs = re.findall(r"run --rm --no-deps -T gateway (.+?)(?: [<>] \S+)?$", block, re.M)
    assert len(runs) == 3, "they are not read as they should be"
    for run in runs:
        store, command, flag, config, *_ = run.split()
        assert any(each.split(":")[1] == config for each in gateway["volumes"]), run
        shown = subprocess.run([binary, store, command, "--help"], check=True, stdout=subprocess.PIPE)
        assert flag in shown.stdout.decode().split(), run
    volume, there = re.search(r"--volume (\S+):(/store)", block).groups()
    name = volume.removeprefix(compose["name"] + "_")
    assert any(each.startswith(f"{name}:") for each in gateway["volumes"]), volume
    config = tomllib.loads((DEPLOY / "compose/gateway.toml").read_text())
    mount = next(each.split(":")[1] for each in gateway["volumes"] if each.startswith(f"{name}:"))
    assert f" mv {config['store']['path'].replace(mount, there)} " in block


def call_commands_that_there_are(compose: dict, binary: str) -> None:
    services = compose["services"]
    health = services["gateway"]["healthcheck"]["test"]
    assert health[:2] == ["CMD", "/usr/bin/userpilot-gateway"]
    # Without it, what refuses all updates would be healthy.
    assert health[2:] == ["status", "--ready"]
    for command, *arguments in [services["userpilot"]["command"], health[2:]]:
        shown = subprocess.run([binary, command, "--help"], check=True, stdout=subprocess.PIPE)
        for flag in (each for each in arguments if each.startswith("--")):
            assert flag in shown.stdout.decode().split(), f"{command} {flag}"


def main(binary: str) -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    # Refuses what the specification does not have: a field, a type, a port, a duration.
    compose_spec.PyCompose.from_yaml(text).to_spec()
    compose = yaml.safe_load(text)
    lead_somewhere(compose)
    call_commands_that_there_are(compose, binary)
    can_be_followed(compose, binary)
    print(len(compose["services"]), "services")


if __name__ == "__main__":
    main(*sys.argv[1:])
