// Asks our own HTTP API, with a deadline, and knows whether the connection stands.

const DEADLINE_MS = 8000;
let lastAnswer = Date.now();

export const getJson = async (path, parameters = {}) => {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  const answer = await fetch(url, { signal: AbortSignal.timeout(DEADLINE_MS) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error ?? `HTTP ${answer.status}`);
  lastAnswer = Date.now();
  return body;
};

export const secondsSinceAnswer = () => (Date.now() - lastAnswer) / 1000;
