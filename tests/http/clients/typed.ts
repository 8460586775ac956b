// A client whose types are generated from the OpenAPI document (.built/schema.d.ts): it submits, waits, follows and stops.
import createClient from "openapi-fetch";
import type { components, paths } from "./.built/schema.js";

declare const process: { argv: string[]; stdout: { write(text: string): void } };
type Problem = components["schemas"]["Problem"];

const [address, gate] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl: address });

function whole<T>(answer: { data?: T | undefined; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

// The arguments and the result have the types of the Python function.
const job = whole(
  await client.POST("/v1/tasks/add/jobs", {
    params: { query: { priority: 3 }, header: { Prefer: "wait=20" } },
    body: { a: 41 },
  }),
);
const sum: number | undefined = job.result;

const planned = whole(
  await client.POST("/v1/tasks/plan/jobs", {
    params: { header: { Prefer: "wait=20" } },
    body: { job: { title: "whole", parts: [{ title: "part" }] }, hours: 2 },
  }),
);
const titles: string[] = (planned.result ?? []).flatMap((item) => [item.title, ...(item.parts ?? []).map((part) => part.title)]);

// What is wrong is seen by the compiler: each of these lines would be an error of its own.
function mistakes(): void {
  // @ts-expect-error  a text is no integer
  void client.POST("/v1/tasks/add/jobs", { body: { a: "40" } });
  // @ts-expect-error  `a` is required
  void client.POST("/v1/tasks/add/jobs", { body: { b: 2 } });
  // @ts-expect-error  there is no such task
  void client.POST("/v1/tasks/ad/jobs", { body: { a: 1, b: 2 } });
  // @ts-expect-error  there is no such option
  void client.POST("/v1/tasks/add/jobs", { params: { query: { prio: 3 } }, body: { a: 1, b: 2 } });
  // @ts-expect-error  there is no such state
  const state: components["schemas"]["Job"]["state"] = "done";
  // @ts-expect-error  the result is a number
  const text: string = job.result;
  void state, text;
}
void mistakes;

const refused = await client.POST("/v1/tasks/bounded/jobs", { body: { share: 2 } });
const problem: Problem | undefined = refused.error;
const pointers = (problem?.errors ?? []).map((item) => item.pointer);

const page = whole(await client.GET("/v1/jobs", { params: { query: { task: "add", page_size: 1 } } }));
const again = await client.GET("/v1/jobs/{id}", {
  params: { path: { id: job.id }, header: { "If-None-Match": `"${job.seq}"` } },
});

const waiting = whole(await client.POST("/v1/tasks/gated/jobs", { body: { gate, steps: 1 } }));
const receipt = whole(
  await client.POST("/v1/jobs/{id}/cancel", {
    params: { path: { id: waiting.id }, header: { Prefer: "wait=20" } },
    body: { reason: "enough", grace: 1 },
  }),
);

const stream = await client.GET("/v1/jobs/{id}/events", {
  params: { path: { id: waiting.id }, query: { after: 0 } },
  parseAs: "stream",
});
const kinds: string[] = [];
const decoder = new TextDecoder();
let rest = "";
for await (const chunk of stream.data as unknown as AsyncIterable<Uint8Array>) {
  const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
  rest = lines.pop() ?? "";
  kinds.push(...lines.filter((line) => line.startsWith("event: ")).map((line) => line.slice(7)));
}

process.stdout.write(
  JSON.stringify({
    sum,
    titles,
    code: problem?.code,
    pointers,
    newest: page.items[0]?.id === job.id,
    unchanged: again.response.status,
    stopped: receipt.state,
    last: kinds.at(-1),
    end: stream.response.headers.get("content-type"),
  }),
);
