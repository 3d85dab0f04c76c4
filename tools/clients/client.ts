// Creates, lists, inspects and removes an environment with types generated for TypeScript.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./daemon.js";

const [address, token, repo] = process.argv.slice(2);
assert(address && token && repo);
const client = createClient<paths>({
  baseUrl: `http://${address}`,
  headers: { authorization: `Bearer ${token}` },
});

const made = await client.POST("/v1/environments", {
  params: { query: { wait: 60 } },
  body: { id: "ts", repo },
});
assert.equal(made.data?.phase, "ready");

const listed = await client.GET("/v1/environments");
assert.deepEqual(listed.data?.map((env) => env.id), ["ts"]);

const status = await client.GET("/v1/environments/{id}/status", { params: { path: { id: "ts" } } });
assert.equal(status.data?.clean, true);

const unknown = await client.GET("/v1/environments/{id}", { params: { path: { id: "nowhere" } } });
assert.equal(unknown.response.status, 404);
assert.equal(unknown.error?.code, "environment_not_found");

const removed = await client.DELETE("/v1/environments/{id}", {
  params: { path: { id: "ts" }, query: { wait: 60 } },
});
assert.equal(removed.data?.phase, "tombstoned");
console.log("typescript: ok");
