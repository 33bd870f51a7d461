// The console's vendored files, made of the packages that tests/tools/package.json pins.
// `node tests/console/vendored.mjs` writes them; vendored.test.mjs says when they are others.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { assets, packages } from './tools.mjs';

const folder = join(assets, 'vendor');

// Browsers resolve paths, not package names; and the source maps are not vendored.
const as_module = (text) =>
  text.replace('from"preact"', 'from"./preact.js"').replace(/\n\/\/# sourceMappingURL=.*\s*$/, '\n');

const FILES = {
  'preact.js': ['preact', 'dist/preact.mjs', as_module],
  'preact-hooks.js': ['preact', 'hooks/dist/hooks.mjs', as_module],
  'preact.LICENSE': ['preact', 'LICENSE'],
  'htm.js': ['htm', 'dist/htm.mjs', as_module],
  'htm.LICENSE': ['htm', 'LICENSE'],
  'uPlot.js': ['uplot', 'dist/uPlot.iife.min.js'],
  'uPlot.css': ['uplot', 'dist/uPlot.min.css'],
  'uPlot.LICENSE': ['uplot', 'LICENSE'],
};

const WHAT = {
  preact: 'draws the pages: puts text in as text, and changes only what has changed',
  htm: "Preact's markup without a build step",
  uplot: 'draws the charts',
};

/** What each vendored file has to hold, by its name. */
export function expected() {
  const files = {};
  for (const [name, [of, path, change]] of Object.entries(FILES)) {
    const text = readFileSync(join(packages, of, path), 'utf8');
    files[name] = change ? change(text) : text;
  }
  return { ...files, 'NOTICE.md': notice() };
}

/** What each vendored file holds now. */
export const vendored = (name) => readFileSync(join(folder, name), 'utf8');

function notice() {
  const rows = Object.entries(WHAT).map(([of, what]) => {
    const { version, license } = JSON.parse(readFileSync(join(packages, of, 'package.json'), 'utf8'));
    const names = Object.keys(FILES).filter((name) => FILES[name][0] === of);
    const files = names.filter((name) => !name.endsWith('LICENSE'));
    const text = names.find((name) => name.endsWith('LICENSE'));
    return `| ${of} ${version} | ${files.join(', ')} | ${license}, [text](${text}) | ${what} |`;
  });
  return `# Files of others

They come from npm, unchanged save that \`preact\` is imported by a path and the links to source maps
are gone. \`node tests/console/vendored.mjs\` makes them of the versions in tests/tools/package.json.

| package | files | licence | what for |
|---|---|---|---|
${rows.join('\n')}
`;
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(expected())) writeFileSync(join(folder, name), text);
}
