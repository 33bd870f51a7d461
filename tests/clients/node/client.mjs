// A service that sends its users' properties to Userpilot, by way of the gateway.
//
//     npm install @grpc/grpc-js @grpc/proto-loader
//     node client.mjs PROTO_FOLDER 127.0.0.1:50051

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const SERVICE = "userpilot_gateway/v1/ingest.proto";

/** Reads the contract. Numbers of 64 bits come as strings: JavaScript's own do not hold them. */
function connect(protos, address) {
  const options = { includeDirs: [protos], keepCase: true, longs: String, enums: String, oneofs: true };
  const { userpilot_gateway: contract } = grpc.loadPackageDefinition(loadSync(SERVICE, options));
  // Beyond loopback: grpc.credentials.createSsl(), and a token of the gateway's:
  // metadata.set("authorization", `Bearer ${token}`).
  return new contract.v1.IngestService(address, grpc.credentials.createInsecure());
}

/** Strings, numbers, booleans and null; null is sent as null. */
function value(plain) {
  if (plain === null) return { nullValue: "NULL_VALUE" };
  if (typeof plain === "string") return { stringValue: plain };
  if (typeof plain === "number") return { numberValue: plain };
  if (typeof plain === "boolean") return { boolValue: plain };
  return { listValue: { values: plain.map(value) } };
}

function update(user_id, properties, more = {}) {
  const fields = Object.entries(properties).map(([name, plain]) => [name, value(plain)]);
  return { user_id, metadata: { fields: Object.fromEntries(fields) }, ...more };
}

/** A call that is answered once. An answer means that the update is on disk. */
function call(gateway, method, request) {
  const deadline = new Date(Date.now() + 10_000);
  return new Promise((resolve, reject) => {
    gateway[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** Keep the receipt to ask about the update later. */
async function sendOne(gateway) {
  const accepted = await call(gateway, "UpdateUser", { update: update("ada", { plan: "pro", seats: 3 }) });
  console.log("accepted as number", accepted.sequence);
  return accepted.receipt;
}

/** Up to 1,000 at once. A bad one does not refuse the others. */
async function sendMany(gateway) {
  const updates = [
    update("bob", { plan: "free" }, { company_id: "acme" }),
    update("", { plan: "free" }),
    update("bob", { plan: null, trial: false }),
  ];
  const { results } = await call(gateway, "UpdateUsers", { updates });
  for (const { accepted, error } of results) {
    if (accepted) console.log("accepted as number", accepted.sequence);
    else console.log("refused because of", ...error.violations.map(({ field }) => field));
  }
}

/** Any number, over one stream. An answer bears the tag of the update that it answers. */
function sendAStream(gateway, count) {
  return new Promise((resolve, reject) => {
    const stream = gateway.StreamUserUpdates();
    let accepted = 0;
    stream.on("data", (answer) => {
      if (answer.accepted) accepted += 1;
      else console.log("update", answer.tag, "refused:", answer.error.message);
    });
    stream.on("error", reject);
    stream.on("end", () => resolve(console.log(accepted, "of", count, "accepted")));
    for (let tag = 0; tag < count; tag += 1) {
      stream.write({ tag, update: update(`user-${tag % 100}`, { visits: tag }) });
    }
    stream.end();
  });
}

async function sendABadOne(gateway) {
  try {
    await call(gateway, "UpdateUser", { update: update("eve", { tags: ["a", "b"] }) });
  } catch (error) {
    // Only UNAVAILABLE and RESOURCE_EXHAUSTED are worth another try.
    console.log("refused with", grpc.status[error.code]);
  }
}

/** Asks what became of an update, until the profile in Userpilot holds it. */
async function follow(gateway, receipt) {
  for (let tries = 0; tries < 600; tries += 1) {
    const { state, delivered } = await call(gateway, "GetUpdate", { receipt });
    if (state === "UPDATE_STATE_DELIVERED") return console.log("delivered by job", delivered.job_id);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("not delivered yet");
}

const [protos, address] = process.argv.slice(2);
const gateway = connect(protos, address);
const receipt = await sendOne(gateway);
await sendMany(gateway);
await sendAStream(gateway, 1_000);
await sendABadOne(gateway);
await follow(gateway, receipt);
gateway.close();
