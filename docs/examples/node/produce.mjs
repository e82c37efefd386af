// @ts-check
// Sends purchases, one JSON object a line. Usage: node produce.mjs HOST:PORT [TOPIC] < purchases.jsonl
import { createInterface } from "node:readline";
import { Kafka, Partitioners, logLevel } from "kafkajs";

const [broker, topic = "purchases"] = process.argv.slice(2);
if (!broker) {
  console.error("Usage: node produce.mjs HOST:PORT [TOPIC] < purchases.jsonl");
  process.exit(2);
}

// What can't be sent is an error below; the client's own log has what it tries again, too.
const kafka = new Kafka({ brokers: [broker], logLevel: logLevel.NOTHING });
const producer = kafka.producer({
  // murmur2 of the key, as Java's clients do: all events of a customer have to be in one partition, whoever sends them.
  createPartitioner: Partitioners.DefaultPartitioner,
  idempotent: true, // a repeated request is no second purchase
  maxInFlightRequests: 1, // a customer's events stay in order
});

/** @type {import("kafkajs").Message[]} */
let batch = [];
let sent = 0;

async function send() {
  if (batch.length > 0) await producer.send({ topic, messages: batch });
  sent += batch.length;
  batch = [];
}

try {
  await producer.connect();
  for await (const line of createInterface({ input: process.stdin })) {
    /** @type {import("./tierstream.ts").Purchase} */
    const purchase = JSON.parse(line);
    batch.push({ key: purchase.customer_id, value: line });
    if (batch.length === 500) await send();
  }
  await send();
} catch (error) {
  console.error(`after ${sent} purchases: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  await producer.disconnect();
}
