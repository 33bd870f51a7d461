// What the console's own files keep to.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { assets } from './tools.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const scripts = [assets, here, join(here, 'mock')].flatMap((folder) => readdirSync(folder)
  .filter((name) => /\.m?js$/.test(name)).map((name) => ({ name, text: readFileSync(join(folder, name), 'utf8') })));

test('a file can be read in one sitting', () => {
  for (const { name, text } of scripts) {
    assert.ok(text.split('\n').length <= 400, `${name} is too long`);
    const wide = text.split('\n').findIndex((line) => line.length > 120);
    assert.equal(wide, -1, `${name}: line ${wide + 1} is too wide`);
  }
});

test('nothing that is shown is made of markup in text, and nothing is evaluated', () => {
  const own = readdirSync(assets).filter((name) => name.endsWith('.js'));
  assert.ok(own.length > 20);
  for (const name of own) {
    const text = readFileSync(join(assets, name), 'utf8');
    for (const word of ['innerHTML', 'outerHTML', 'insertAdjacentHTML', 'document.write', 'eval(', 'new Function']) {
      assert.ok(!text.includes(word), `${name} has ${word}`);
    }
  }
});

test('the page holds no script and no style of its own, and asks nobody else', () => {
  const page = readFileSync(join(assets, 'index.html'), 'utf8');
  assert.doesNotMatch(page, /<style|\sstyle=|\son\w+=|https?:/);
  for (const [, inside] of page.matchAll(/<script[^>]*>([^]*?)<\/script>/g)) assert.equal(inside, '');
});
