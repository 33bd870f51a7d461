"""Makes the Prometheus operator's rules of deploy/prometheus/alerts.yml. Needs nothing but Python.

python tests/deploy/prometheusrule.py
"""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEAD = """\
# Made of deploy/prometheus/alerts.yml. To renew: python tests/deploy/prometheusrule.py
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: userpilot-gateway
  labels:
    app.kubernetes.io/name: userpilot-gateway
spec:
"""

if __name__ == "__main__":
    lines = (ROOT / "deploy/prometheus/alerts.yml").read_text().splitlines()
    rules = "".join(f"  {line}\n" if line else "\n" for line in lines)
    (ROOT / "deploy/kubernetes/monitoring/prometheusrule.yaml").write_text(HEAD + rules)
