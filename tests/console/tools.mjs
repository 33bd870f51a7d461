// Where the packages are that tests/tools/prepare installs.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));
export const assets = fileURLToPath(new URL('../../src/console/assets/', import.meta.url));
export const packages = fileURLToPath(new URL('../../target/tools/node_modules/', import.meta.url));

/** Requires a package of target/tools, such as playwright-core. */
export const require = createRequire(new URL('../../target/tools/package.json', import.meta.url));
