// Follows a job as a browser does, with an EventSource, and prints what it was told.
import { EventSource } from "eventsource";

const [address, id] = process.argv.slice(2);
const source = new EventSource(`${address}/v1/jobs/${id}/events`);
const told = [];
for (const kind of ["snapshot", "state", "progress", "log", "checkpoint", "cancel"]) {
  source.addEventListener(kind, (event) => {
    told.push({ kind, seq: Number(event.lastEventId), data: JSON.parse(event.data) });
    if (kind === "snapshot") process.stderr.write("following\n");
  });
}
source.addEventListener("end", (event) => {
  source.close();
  process.stdout.write(JSON.stringify({ told, end: JSON.parse(event.data) }));
});
