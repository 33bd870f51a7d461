"""Checks deploy/compose.yaml against the Compose specification, and what it leads to.

python compose.py BINARY
"""

import pathlib
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
    # A key goes over plain HTTP to a loopback address alone.
    assert services["userpilot"]["network_mode"] == "service:gateway"
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


def call_commands_that_there_are(compose: dict, binary: str) -> None:
    services = compose["services"]
    health = services["gateway"]["healthcheck"]["test"]
    assert health[:2] == ["CMD", "/usr/bin/userpilot-gateway"]
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
    print(len(compose["services"]), "services")


if __name__ == "__main__":
    main(*sys.argv[1:])
