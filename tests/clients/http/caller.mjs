// A service that calls Userpilot with fetch. Only the base URL and the token are the gateway's.
//
//     node caller.mjs BASE_URL TOKEN

const [base, token] = process.argv.slice(2);
const authorization = `Token ${token}`;

async function post(path, body, headers = {}) {
  const response = await fetch(base + path, {
    method: "POST",
    headers: { authorization, ...headers },
    body,
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return response;
}

const postJson = (path, body) =>
  post(path, JSON.stringify(body), { "content-type": "application/json" });

async function follow(jobId) {
  for (;;) {
    const response = await fetch(`${base}/v1/background_jobs/${encodeURIComponent(jobId)}`, {
      headers: { authorization },
    });
    const job = await response.json();
    if (job.status === "completed" || job.status === "failed") {
      console.log(job.status, job.completed_rows, "of", job.total_rows);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const identified = await postJson("/v1/identify", {
  user_id: "node-1",
  metadata: { plan: "pro", trial: false },
});
console.log("identified with", identified.status);

const users = Array.from({ length: 300 }, (_, nth) => ({
  user_id: `node-${nth + 2}`,
  metadata: { nth },
}));
const bulk = await postJson("/v1/users/bulk_identify", { users });
await follow((await bulk.json()).job_id);

const form = new FormData();
const rows = users.map((user) => JSON.stringify({ ...user, metadata: { seen: true } }));
form.append("file", new Blob([rows.join("\n")]), "users.ndjson");
const file = await post("/v1/users/bulk_identify", form);
await follow((await file.json()).job_id);
