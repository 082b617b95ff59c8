// An application that writes by itself (prometheus-remote-write): one series, one push each half second, nothing tried twice.
// Arguments: URL, token file (read for each push), file to touch when the first push was answered, name of the series.
// A line `NUMBER SUCCESS` or `NUMBER FAILURE` is printed for each push.
import { readFileSync, writeFileSync } from 'node:fs';
import { load } from './modules.mjs';

const { pushTimeseries } = (await load('prometheus-remote-write')).default;
const [url, tokenFile, ready, name] = process.argv.slice(2);
let number = 0;

const push = async () => {
  number += 1;
  const pushed = number;
  const headers = { Authorization: `Bearer ${readFileSync(tokenFile, 'utf8').trim()}` };
  const series = { labels: { __name__: name }, samples: [{ value: pushed }] };
  let result = 'FAILURE';
  try {
    const answer = await pushTimeseries(series, { url, headers, fetch: globalThis.fetch });
    if (answer.status === 200 || answer.status === 204) result = 'SUCCESS';
  } catch (error) {
    console.error(error);
  }
  console.log(`${pushed} ${result}`);
  writeFileSync(ready, '');
  setTimeout(push, 500);
};
push();
