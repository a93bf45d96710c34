// A receiver on the middleware that Probot uses: it verifies and parses, and with "durable" it answers
// only after the delivery is in an SQLite file and the disk has it.
//
//   node server.mjs FOLDER SECRET [durable]
//
// Listens on FOLDER/app.sock and on a port of 127.0.0.1, which it prints; ends with its stdin.
import { createServer } from "node:http";
import { join } from "node:path";
import { Webhooks, createNodeMiddleware } from "@octokit/webhooks";

const [folder, secret, durable] = process.argv.slice(2);
const webhooks = new Webhooks({ secret });

if (durable) {
  const { default: Database } = await import("better-sqlite3");
  const database = new Database(join(folder, "deliveries.db"));
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  database.exec(
    "CREATE TABLE deliveries (seq INTEGER PRIMARY KEY, guid TEXT NOT NULL UNIQUE, event TEXT NOT NULL, payload TEXT NOT NULL)",
  );
  const insert = database.prepare(
    "INSERT INTO deliveries (guid, event, payload) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
  );
  webhooks.onAny(({ id, name, payload }) => insert.run(id, name, JSON.stringify(payload)));
} else {
  webhooks.onAny(() => {});
}

const middleware = createNodeMiddleware(webhooks, { path: "/webhooks/github" });
const handle = async (request, response) => {
  if (!(await middleware(request, response))) response.writeHead(404).end();
};
const listen = (...where) =>
  new Promise((listening) => {
    const server = createServer(handle).listen(...where, () => listening(server.address()));
  });

await listen(join(folder, "app.sock"));
const { port } = await listen(0, "127.0.0.1");
console.log(JSON.stringify({ tcp: `127.0.0.1:${port}` }));
process.stdin.on("end", () => process.exit(0)).resume();
