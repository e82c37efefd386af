// Parses the AsyncAPI document that is named, and prints what is wrong with it: one JSON object.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const wrong = diagnostics.map(({ code, message, path }) => ({ code, message, path: path.join("/") }));
const messages = document?.allChannels().all().map((one) => [one.address(), one.messages().all().map((m) => m.id())]);
console.log(JSON.stringify({ wrong, channels: Object.fromEntries(messages ?? []) }));
