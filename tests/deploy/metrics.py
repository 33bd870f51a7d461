"""Checks the alerts and the dashboard: that they parse, name metrics that there are, and show all.

python metrics.py PROMTOOL METRICS_PAGE

METRICS_PAGE is what a gateway answers at /metrics.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREFIX = "userpilot_gateway_"
# What Grafana puts in before it asks.
VARIABLES = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*", "$app": ".*"}
SUFFIXES = {
    "counter": ["_total"],
    "gauge": [""],
    "histogram": ["_bucket", "_sum", "_count"],
}


def exposed(page: str) -> set[str]:
    """Every name that a sample of the page can have."""
    types = re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE)
    return {name + suffix for name, kind in types for suffix in SUFFIXES[kind]}


def expressions_of_alerts() -> dict[str, str]:
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    return {rule["alert"]: rule["expr"] for group in alerts["groups"] for rule in group["rules"]}


def expressions_of_dashboard() -> dict[str, str]:
    file = ROOT / "deploy/grafana/dashboards/userpilot-gateway.json"
    dashboard = json.loads(file.read_text())
    expressions = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expressions[f"{panel['title']} ({panel['id']}) {target['refId']}"] = target["expr"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids), "two panels have one id"
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])
            expressions[f"variable {variable['name']}"] = metric[1]
    return expressions


def parse(promtool: str, expressions: dict[str, str]) -> None:
    """As rules, each with a name of its own."""
    rules = []
    for place, (title, expression) in enumerate(expressions.items()):
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression, f"{title} has a variable that is not known"
        rules.append({"record": f"expression:{place}", "expr": expression})
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        subprocess.run([promtool, "check", "rules", file.name], check=True, stdout=sys.stderr)


def name_what_there_is(expressions: dict[str, str], known: set[str]) -> None:
    for title, expression in expressions.items():
        names = re.findall(rf"\b(?:{PREFIX}|process_)\w+", expression)
        unknown = sorted(set(names) - known)
        assert not unknown, f"{title}: the gateway has no {', '.join(unknown)}"
        assert names or "up{" in expression, f"{title} asks for nothing of the gateway's"


def show_all(dashboard: dict[str, str]) -> None:
    """Every metric of docs/metrics.md is on the dashboard."""
    page = (ROOT / "docs/metrics.md").read_text()
    documented = set(re.findall(rf"^\| `({PREFIX}\w+)` \|", page, re.MULTILINE))
    assert len(documented) > 45, "they are not read as they should be"
    asked_for = re.findall(rf"\b{PREFIX}\w+", " ".join(dashboard.values()))
    shown = set(asked_for) | {name.removesuffix("_bucket") for name in asked_for}
    assert documented <= shown, f"on no panel: {sorted(documented - shown)}"


def are_written_up(alerts: dict[str, str]) -> None:
    """Each alert has a test, and a heading in the runbook, and no heading is of none."""
    tests = (ROOT / "deploy/prometheus/alerts_test.yml").read_text()
    tested = set(re.findall(r'alertname="(\w+)"', tests))
    assert tested == alerts.keys(), f"without a test: {sorted(alerts.keys() ^ tested)}"
    runbook = (ROOT / "docs/operations.md").read_text()
    headings = set(re.findall(r"^### (UserpilotGateway\w+)$", runbook, re.MULTILINE))
    assert headings == alerts.keys(), f"runbook and alerts: {sorted(alerts.keys() ^ headings)}"
    rules = (ROOT / "deploy/prometheus/alerts.yml").read_text()
    for alert in alerts:
        assert f"docs/operations.md#{alert.lower()}\n" in rules, f"{alert} leads to no heading"
    have_one_base(rules, runbook)


def have_one_base(rules: str, runbook: str) -> None:
    """All that leads to the documents begins alike, so that one `sed` changes it, as is said where."""
    bases = set(re.findall(r"runbook_url: (.+)/blob/main/docs/operations.md#", rules))
    assert len(bases) == 1 and len(re.findall("runbook_url:", rules)) == rules.count("/docs/operations.md#")
    (base,) = bases
    unit = (ROOT / "deploy/systemd/userpilot-gateway.service").read_text()
    assert f"\nDocumentation={base}\n" in unit
    assert f"sed -i 's#{base}#" in rules.split("\ngroups:")[0]
    ((command, files),) = re.findall(r"^(sed -i \S+) \\\n((?:.+\n)+?)```", runbook, re.M)
    assert f"s#{base}#" in command
    named = files.replace("\\\n", " ").split()
    for file in (ROOT / "deploy").rglob("*"):
        if file.is_file() and file.suffix != ".md" and base in file.read_text():
            assert str(file.relative_to(ROOT)) in named, f"{file} has {base}, too"
    for file in named:
        assert base in (ROOT / file).read_text(), f"{file} has nothing to change"


def main(promtool: str, page: str) -> None:
    known = exposed(pathlib.Path(page).read_text())
    alerts, dashboard = expressions_of_alerts(), expressions_of_dashboard()
    assert len(alerts) > 20 and len(dashboard) > 40, "they are not read as they should be"
    parse(promtool, dashboard)
    name_what_there_is(alerts | dashboard, known)
    show_all(dashboard)
    are_written_up(alerts)
    print(len(alerts), "alerts and", len(dashboard), "expressions of the dashboard")


if __name__ == "__main__":
    main(*sys.argv[1:])
