// The vendored files are what they say they are.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { withLibraries } from '../tools/sbom.mjs';
import { assets, require } from './tools.mjs';
import { expected, vendored } from './vendored.mjs';

test('every vendored file is that of its package', () => {
  const files = expected();
  assert.deepEqual(readdirSync(join(assets, 'vendor')).sort(), Object.keys(files).sort());
  for (const [name, text] of Object.entries(files)) {
    assert.equal(vendored(name), text, `${name}: run node tests/console/vendored.mjs`);
  }
});

test('the SBOM names the vendored libraries, with the versions and licences of their packages', () => {
  const of_cargo = {
    metadata: { component: { 'bom-ref': 'root' } }, components: [{ name: 'sled' }],
    dependencies: [{ ref: 'root', dependsOn: ['sled'] }, { ref: 'sled' }],
  };
  const { components, dependencies } = withLibraries(of_cargo);
  assert.deepEqual(components.map(({ name }) => name), ['sled', 'preact', 'htm', 'uplot']);
  const pins = require('./package.json').devDependencies;
  const licences = { preact: 'MIT', htm: 'Apache-2.0', uplot: 'MIT' };
  const files = [];
  for (const { name, version, purl, licenses, components: parts } of components.slice(1)) {
    assert.equal(version, pins[name]);
    assert.equal(purl, `pkg:npm/${name}@${version}`);
    assert.deepEqual(licenses, [{ license: { id: licences[name] } }]);
    files.push(...parts.map((part) => part.name.replace('vendor/', '')));
  }
  const there = readdirSync(join(assets, 'vendor')).filter((name) => name !== 'NOTICE.md');
  assert.deepEqual(files.sort(), there.sort());
  assert.deepEqual(dependencies[0].dependsOn, ['sled', ...components.slice(1).map(({ purl }) => purl)]);
});
