// The modules lie in the directory that PROVIDER_MODULES names, and not beside these files.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const from = createRequire(`${process.env.PROVIDER_MODULES}/package.json`);

export const load = (name) => import(pathToFileURL(from.resolve(name)).href);
