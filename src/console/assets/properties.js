// The properties of a record, as text.

import { value } from './format.js';
import { Empty, html, Table } from './ui.js';

export function Properties({ metadata, caption, none }) {
  const entries = Object.entries(metadata ?? {});
  if (entries.length === 0) return html`<${Empty} title=${none} />`;
  entries.sort(([a], [b]) => a.localeCompare(b));
  return html`<${Table} caption=${caption} hideCaption>
    <thead><tr><th scope="col">Property</th><th scope="col">Value</th><th scope="col">Type</th></tr></thead>
    <tbody>${entries.map(([name, json]) => {
      const { text, type } = value(json);
      return html`<tr key=${name}><th scope="row" class="words">${name}</th>
        <td class="words"><code>${text}</code></td><td class="muted">${type}</td></tr>`;
    })}</tbody></${Table}>`;
}
