/**
 * Calls fal's JavaScript client: a line of JSON asks for a method, another brings back what it did.
 *
 * Arguments: the folder the package is installed in, and the double's address.
 */

import { File } from "node:buffer";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [folder, double] = process.argv.slice(2);
const { createFalClient } = createRequire(`${folder}/`)("@fal-ai/client");

// This client knows no setting for its hosts, only a fetch of one's own.
const HOSTS = {
  "https://queue.fal.run": double,
  "https://rest.fal.ai": double,
  "https://fal.run": `${double}/run`,
};

function redirected(url, options) {
  const { origin, pathname, search } = new URL(url);
  return fetch(origin in HOSTS ? HOSTS[origin] + pathname + search : url, options);
}

const fal = createFalClient({ credentials: process.env.FAL_KEY, fetch: redirected });

const METHODS = {
  subscribe: fal.subscribe,
  run: fal.run,
  upload: (file) => fal.storage.upload(file),
  submit: fal.queue.submit,
  status: fal.queue.status,
  result: fal.queue.result,
  cancel: fal.queue.cancel,
};

/** JSON knows no files: `{"file": name, "type": type, "base64": bytes}` stands for one. */
function revive(_key, value) {
  if (typeof value?.base64 !== "string") return value;
  return new File([Buffer.from(value.base64, "base64")], value.file, { type: value.type });
}

async function call(method, parameters) {
  const updates = [];
  const options = parameters.at(-1);
  // A copy: the client goes on adding to the list of log lines it hands out.
  if (method === "subscribe") options.onQueueUpdate = (news) => updates.push(structuredClone(news));
  try {
    return { value: await METHODS[method](...parameters), updates };
  } catch (error) {
    const { name, status, message, body, requestId } = error;
    return { type: name, status, message, body, request_id: requestId, fields: error.fieldErrors };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await call(...JSON.parse(line, revive));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
