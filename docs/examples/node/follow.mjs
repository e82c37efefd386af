// @ts-check
// Prints tier changes, each of them once, until Ctrl-C. Usage: node follow.mjs HOST:PORT GROUP [TOPIC]
import { Kafka, logLevel } from "kafkajs";

const REMEMBER = 50_000; // customers a partition, and records that are looked at before the group's position
const [broker, groupId, topic = "tier-changes"] = process.argv.slice(2);
if (!broker || !groupId) {
  console.error("Usage: node follow.mjs HOST:PORT GROUP [TOPIC]");
  process.exit(2);
}

/** @param {import("./tierstream.ts").TierAnnouncement} change */
function handle(change) {
  const { customer_id, seq, before, after } = change;
  if (after === null) console.log(`${customer_id} ${seq} is to be forgotten`);
  else console.log(`${customer_id} ${seq} ${change.change} ${before.tier} -> ${after.tier}`);
}

const kafka = new Kafka({ brokers: [broker], logLevel: logLevel.NOTHING });
const admin = kafka.admin();
const consumer = kafka.consumer({
  groupId,
  readUncommitted: false, // not what a transaction took back
  maxWaitTimeInMs: 500, // how long Ctrl-C may have to wait
});

/** Of each partition: the group's position, and the latest `seq` of the customers that were announced last.
 * @type {Map<number, {begin: number, latest: Map<string, number>}>} */
const partitions = new Map();
let generation = 0;

/** Go back before the group's positions, so as to know what came last. @param {number[]} numbers */
async function lookBack(numbers) {
  const mine = ++generation;
  consumer.pause([{ topic, partitions: numbers }]); // nothing is read before the positions are known
  const [committed] = await admin.fetchOffsets({ groupId, topics: [topic] });
  const ends = await admin.fetchTopicOffsets(topic);
  if (mine !== generation) return; // there was another rebalance meanwhile
  partitions.clear();
  for (const number of numbers) {
    const position = Number(committed?.partitions.find((one) => one.partition === number)?.offset ?? -1);
    const { low, high } = ends.find((one) => one.partition === number) ?? { low: "0", high: "0" };
    const begin = position < 0 ? Number(low) : position;
    if (begin < Number(low) || begin > Number(high))
      throw new Error(`${topic}, partition ${number} is to be read from ${begin}, but has ${low} to ${high}`);
    partitions.set(number, { begin, latest: new Map() });
    consumer.seek({ topic, partition: number, offset: String(Math.max(Number(low), begin - REMEMBER)) });
  }
  consumer.resume([{ topic, partitions: numbers }]);
}

/** Handle what is new. @param {import("kafkajs").EachBatchPayload} payload */
async function take({ batch, resolveOffset, heartbeat, isRunning, isStale }) {
  const partition = partitions.get(batch.partition);
  let next = -1;
  for (const message of batch.messages) {
    if (partition === undefined || !isRunning() || isStale()) break;
    /** @type {import("./tierstream.ts").TierAnnouncement} */
    const change = JSON.parse(String(message.value));
    const { customer_id, seq, previous_seq } = change;
    const { begin, latest } = partition;
    const seen = latest.get(customer_id);
    if (Number(message.offset) >= begin) {
      if (seen !== undefined && previous_seq > seen)
        console.error(`announcements of ${customer_id} after ${seen} up to ${previous_seq} are missing`);
      if (seen === undefined || seq > seen) handle(change); // else it is a repeat
      next = Number(message.offset) + 1;
    }
    latest.delete(customer_id); // a Map keeps its keys in the order in which they were set
    latest.set(customer_id, Math.max(seq, seen ?? 0));
    for (const oldest of latest.keys()) {
      if (latest.size <= REMEMBER) break;
      latest.delete(oldest);
    }
    resolveOffset(message.offset);
    await heartbeat();
  }
  // What is handled is committed; after a crash, what came since is read again.
  if (next >= 0) await consumer.commitOffsets([{ topic, partition: batch.partition, offset: String(next) }]);
}

/** @param {number} status */
async function stop(status) {
  process.exitCode = status;
  await consumer.disconnect(); // after the batch that is being handled
  await admin.disconnect();
}

/** @param {unknown} error */
function fail(error) {
  console.error(error instanceof Error ? error.message : error);
  void stop(1);
}

process.once("SIGINT", () => stop(0));
process.once("SIGTERM", () => stop(0));
consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  lookBack(payload.memberAssignment[topic] ?? []).catch(fail);
});
consumer.on(consumer.events.CRASH, ({ payload }) => {
  if (!payload.restart) fail(payload.error);
  else console.error(`${payload.error.message}; trying again`);
});

try {
  await admin.connect();
  await consumer.connect();
  await consumer.subscribe({ topic });
  await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: take });
} catch (error) {
  fail(error);
}
