// The vendored files are what they say they are.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { assets } from './tools.mjs';
import { expected, vendored } from './vendored.mjs';

test('every vendored file is that of its package', () => {
  const files = expected();
  assert.deepEqual(readdirSync(join(assets, 'vendor')).sort(), Object.keys(files).sort());
  for (const [name, text] of Object.entries(files)) {
    assert.equal(vendored(name), text, `${name}: run node tests/console/vendored.mjs`);
  }
});
