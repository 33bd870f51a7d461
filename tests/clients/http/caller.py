"""A service that calls Userpilot with requests. Only the base URL and the token are the gateway's.

    python caller.py BASE_URL TOKEN
"""

import io
import json
import sys
import time

import requests


def main(base, token):
    session = requests.Session()
    session.headers["Authorization"] = f"Token {token}"

    user = {"user_id": "python-1", "metadata": {"plan": "pro", "seats": 3}}
    company = {"company_id": "acme"}
    answer = session.post(f"{base}/v1/identify", json={**user, "company": company})
    answer.raise_for_status()
    print("identified with", answer.status_code)

    users = [{"user_id": f"python-{nth}", "metadata": {"nth": nth}} for nth in range(2, 500)]
    answer = session.post(f"{base}/v1/users/bulk_identify", json={"users": users})
    answer.raise_for_status()
    follow(session, base, answer.json()["job_id"])

    rows = "".join(json.dumps({"user_id": f"python-{nth}"}) + "\n" for nth in range(500, 900))
    file = {"file": ("users.ndjson", io.BytesIO(rows.encode()))}
    answer = session.post(f"{base}/v1/users/bulk_identify", files=file)
    answer.raise_for_status()
    follow(session, base, answer.json()["job_id"])

    answer = session.post(f"{base}/v1/identify", json={"metadata": {}})
    print(answer.status_code, answer.json()["errors"][0]["message"])


def follow(session, base, job_id):
    while True:
        job = session.get(f"{base}/v1/background_jobs/{job_id}").json()
        if job["status"] in ("completed", "failed"):
            print(job["status"], job["completed_rows"], "of", job["total_rows"])
            return
        time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
