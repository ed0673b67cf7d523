// MQTT.js over one kind of listener: what foreign.py asks of every client. One argument, as JSON.
const assert = require("node:assert");
const fs = require("node:fs");
const mqtt = require("mqtt");

const { way, port, version, pem } = JSON.parse(process.argv[2]);
const tag = `js-${way}-${version}`;
const SIZES = [0, 1, 125, 126, 70_000, 1_000_000];

function options(name, more = {}) {
  const file = (end) => fs.readFileSync(`${pem}/${end}`);
  const known = way.endsWith("known") ? { cert: file("anna.pem"), key: file("anna.key") } : {};
  return {
    protocolVersion: version, clientId: `${name}-${way}-${version}`, reconnectPeriod: 0, ca: file("ca.pem"), ...known, ...more,
  };
}

async function connect(name, more) {
  const scheme = { tcp: "mqtt", tls: "mqtts", known: "mqtts", ws: "ws", wss: "wss", "wss-known": "wss" }[way];
  const client = mqtt.connect(`${scheme}://localhost:${port}/mqtt`, options(name, more));
  client.heard = [];
  client.on("message", (topic, payload, packet) => client.heard.push(packet));
  client.present = await new Promise((resolve, reject) => {
    client.once("connect", (connack) => resolve(connack.sessionPresent));
    client.once("error", reject);
  });
  client.on("error", (error) => { throw error; });
  return client;
}

async function until(what, isTrue) {
  const end = Date.now() + 20_000;
  while (!isTrue()) {
    assert(Date.now() < end, `${tag}: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function main() {
  const five = version === 5;
  const ear = await connect("ear");
  await ear.subscribeAsync(`${tag}/#`, { qos: 2 });
  const mouth = await connect("mouth", { will: { topic: `${tag}/will`, payload: "gone", qos: 1 } });
  const sent = [0, 1, 2].flatMap((qos) => SIZES.map((size) => ({ qos, payload: Buffer.alloc(size, qos + 65) })));
  const properties = five
    ? { contentType: "text", responseTopic: "r", correlationData: Buffer.from([0, 255]), userProperties: { a: ["b", "c"] } }
    : undefined;
  for (const { qos, payload } of sent) {
    await mouth.publishAsync(`${tag}/data`, payload, { qos, properties });
  }
  await until("messages", () => ear.heard.length >= sent.length);
  ear.heard.forEach((packet, index) => {
    assert.strictEqual(packet.qos, sent[index].qos);
    assert(packet.payload.equals(sent[index].payload), `${tag}: message ${index}`);
    if (five) {
      assert.strictEqual(packet.properties.contentType, "text");
      assert.deepStrictEqual([...packet.properties.correlationData], [0, 255]);
      assert.deepStrictEqual(packet.properties.userProperties.a, ["b", "c"]);
    }
  });
  await mouth.publishAsync(`${tag}/kept`, "value", { qos: 1, retain: true });
  const late = await connect("late");
  await late.subscribeAsync(`${tag}/kept`);
  await until("retained", () => late.heard.length > 0);
  assert(late.heard[0].retain && late.heard[0].payload.toString() === "value");
  mouth.stream.destroy();
  await until("the will", () => ear.heard.some((packet) => packet.topic === `${tag}/will`));
  const lasting = { clean: false, ...(five ? { properties: { sessionExpiryInterval: 600 } } : {}) };
  const sleeper = await connect("sleeper", lasting);
  assert(!sleeper.present);
  await sleeper.subscribeAsync(`${tag}/sleep`, { qos: 1 });
  await sleeper.endAsync();
  await late.publishAsync(`${tag}/sleep`, "wake", { qos: 1 });
  const again = await connect("sleeper", lasting);
  await until("the queue", () => again.heard.length > 0);
  assert(again.present && again.heard[0].payload.toString() === "wake");
  await Promise.all([ear, late, again].map((client) => client.endAsync()));
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
