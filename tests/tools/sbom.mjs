// Adds to the SBOM that cargo makes what cargo does not know: the console's vendored libraries, which
// are in the binary, too. Usage: node tests/tools/sbom.mjs FILE.cdx.json
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../../src/console/assets/vendor/', import.meta.url));

/** What NOTICE.md beside the vendored files says of each library. */
export function libraries() {
  const notice = readFileSync(`${folder}NOTICE.md`, 'utf8');
  const rows = notice.matchAll(/^\| (\S+) (\d\S*) \| ([^|]+) \| ([^,|]+), \[text\]\((\S+)\) \|/gm);
  return [...rows].map(([, name, version, files, licence, text]) => {
    const purl = `pkg:npm/${name}@${version}`;
    const parts = [...files.split(', '), text].map((file) => {
      const content = createHash('sha256').update(readFileSync(folder + file)).digest('hex');
      return { type: 'file', name: `vendor/${file}`, hashes: [{ alg: 'SHA-256', content }] };
    });
    return {
      type: 'library', 'bom-ref': purl, name, version, scope: 'required', purl,
      licenses: [{ license: { id: licence } }], components: parts,
    };
  });
}

/** The SBOM with them: parts of what it is about. */
export function withLibraries(sbom) {
  const added = libraries();
  const refs = added.map((library) => library['bom-ref']);
  const root = sbom.metadata.component['bom-ref'];
  const dependencies = sbom.dependencies.map((each) => (
    each.ref === root ? { ...each, dependsOn: [...(each.dependsOn ?? []), ...refs] } : each));
  dependencies.push(...refs.map((ref) => ({ ref })));
  return { ...sbom, components: [...sbom.components, ...added], dependencies };
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const [, , file] = argv;
  const sbom = withLibraries(JSON.parse(readFileSync(file, 'utf8')));
  writeFileSync(file, `${JSON.stringify(sbom, null, 2)}\n`);
}
