// Checks the Prometheus operator's resources against the schemas of its definitions.
//
//     node custom_resources.mjs NODE_MODULES RESOURCES_AS_JSON

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, file] = process.argv.slice(2);
const folder = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

for (const resource of JSON.parse(readFileSync(file, "utf8"))) {
  const model = resolve(modules, folder, `${resource.kind}.js`);
  const kind = (await import(pathToFileURL(model)))[resource.kind];
  new kind(resource).validate();
  console.log(`${resource.kind} is sound`);
}
