// A device, written from protocol/SPEC.md alone, with nothing but Node's own library.
//   node device.mjs HOST:PORT FUNCTION SESSION|- METHOD COUNT SECONDS [ARGUMENT as JSON …]
// Makes COUNT calls, many at once, and prints {values, errors, tries, nodes, epoch} as JSON. Exit 0: all answered.
import { randomBytes } from "node:crypto";
import { createConnection } from "node:net";

// Encoding: the msgpack types there are.
function number(tag, value, bytes) {
  const data = Buffer.alloc(bytes + 1, tag);
  data.writeUIntBE(value, 1, bytes);
  return data;
}
const sized = (tag, data) => Buffer.concat([number(tag, data.length, 4), data]); // the longest form is valid too

function pack(value) {
  if (value === null || value === undefined) return Buffer.from([0xc0]);
  if (typeof value === "boolean") return Buffer.from([value ? 0xc3 : 0xc2]);
  if (Buffer.isBuffer(value)) return sized(0xc6, value);
  if (typeof value === "string") return sized(0xdb, Buffer.from(value));
  if (Number.isInteger(value) && value >= 0 && value < 128) return Buffer.from([value]);
  if (Number.isInteger(value)) { const data = Buffer.alloc(9, 0xd3); data.writeBigInt64BE(BigInt(value), 1); return data; }
  if (typeof value === "number") { const data = Buffer.alloc(9, 0xcb); data.writeDoubleBE(value, 1); return data; }
  if (Array.isArray(value)) return Buffer.concat([number(0xdc, value.length, 2), ...value.map(pack)]);
  return Buffer.concat([number(0xde, Object.keys(value).length, 2), ...Object.entries(value).flat().map(pack)]);
}

function unpack(data) {
  let at = 0;
  const take = (n) => { if (at + n > data.length) throw Error("bad_msgpack"); return data.subarray(at, (at += n)); };
  const uint = (n) => { const b = take(n); return n < 8 ? b.readUIntBE(0, n) : Number(b.readBigUInt64BE()); };
  const sint = (n) => { const b = take(n); return n < 8 ? b.readIntBE(0, n) : Number(b.readBigInt64BE()); };
  const text = (n) => new TextDecoder("utf-8", { fatal: true }).decode(take(n));
  const list = (n) => Array.from({ length: n }, value);
  const map = (n) => Object.fromEntries(Array.from({ length: n }, () => [value(), value()]));
  function value() {
    const tag = uint(1);
    if (tag < 0x80 || tag >= 0xe0) return tag < 0x80 ? tag : tag - 256;
    if (tag < 0xa0) return tag < 0x90 ? map(tag & 15) : list(tag & 15);
    if (tag < 0xc0) return text(tag & 31);
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: case 0xc3: return tag === 0xc3;
      case 0xc4: case 0xc5: case 0xc6: return Buffer.from(take(uint(1 << (tag - 0xc4))));
      case 0xca: return take(4).readFloatBE();
      case 0xcb: return take(8).readDoubleBE();
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return uint(1 << (tag - 0xcc));
      case 0xd0: case 0xd1: case 0xd2: case 0xd3: return sint(1 << (tag - 0xd0));
      case 0xd9: case 0xda: case 0xdb: return text(uint(1 << (tag - 0xd9)));
      case 0xdc: case 0xdd: return list(uint(2 << (tag - 0xdc)));
      case 0xde: case 0xdf: return map(uint(2 << (tag - 0xde)));
    }
    throw Error("bad_msgpack");
  }
  const result = value();
  if (at !== data.length) throw Error("bad_msgpack");
  return result;
}

// The calls.
const [address, fn, key, method, count, seconds, ...words] = process.argv.slice(2);
const session = key === "-" ? null : key, body = pack(words.map((word) => JSON.parse(word)));
const told = { values: [], errors: [], tries: 0, nodes: {}, epoch: -1 };
const deadline = performance.now() + Number(seconds) * 1000;
const brokers = [address], waiting = [], flying = new Map();
let [line, room, ids, open, failures, tokens, filled] = [null, 0, 0, Number(count), 0, 256, performance.now()];
for (let n = 0; n < open; n++) waiting.push({ id: session && randomBytes(16), attempt: 0, repeats: 0 });

function send(message) {
  const data = pack(message);
  line.write(Buffer.concat([number(0, data.length, 4).subarray(1), data]));
}

function pump() {
  while (line && flying.size < room && waiting.length) {
    const call = waiting.shift(), id = ++ids, left = Math.floor(deadline - performance.now());
    if (left < 1) { finish(call, { code: 401, message: "the deadline has passed" }); continue; }
    told.tries++;
    tokens = Math.min(256, tokens + (call.repeats ? 0 : 0.2));
    flying.set(id, call);
    send([16, id, fn, session, method, call.id, left, body, call.attempt ? { attempt: call.attempt } : null]);
  }
}

function finish(call, error) {
  // "Not run" would only be true of the last try (SPEC, Retries 8).
  if (error) told.errors.push(call.attempt && error.code < 300 ? { code: 401, message: `in doubt; then ${error.message}` } : error);
  if (--open === 0) { line?.end(); console.log(JSON.stringify(told)); process.exit(told.errors.length ? 1 : 0); }
}

function failed(call, code, message, meta) {
  const doubt = code >= 400 && code < 500 && code !== 404 && meta.ran !== false;
  const again = doubt ? session !== null : (code < 200 && !meta.state_lost) || (code === 401 && meta.ran === false);
  if (doubt) call.attempt++;
  const now = performance.now();
  [tokens, filled] = [Math.min(256, tokens + (now - filled) / 100) - 1, now];
  const hint = meta.retry_after_ms, random = Math.random();
  const pause = hint === undefined ? random * Math.min(5000, 50 * 2 ** call.repeats) : hint * (1 + random / 2);
  const wait = Math.max(pause, -tokens * 100);
  if (!again || now + wait >= deadline) return finish(call, { code, message, type: meta.type });
  call.repeats++;
  setTimeout(() => { waiting.push(call); pump(); }, wait);
}

function received([type, id, ...rest]) {
  if (type === 2) [room, failures] = [id.max_inflight, 0];
  if (type === 2) brokers.push(...id.brokers.map((row) => row[1]).filter((address) => !brokers.includes(address)));
  if (type === 3) room = 0; // what is in flight may still be answered, then the other end closes
  if (type === 4) send([5, id]);
  const call = flying.get(id), meta = rest[type === 17 ? 1 : 2] ?? {};
  if ((type !== 17 && type !== 18) || !call) return;
  flying.delete(id);
  if (session && meta.epoch < told.epoch) return failed(call, 402, "a node that was the owner once", {});
  if (meta.epoch !== undefined) told.epoch = meta.epoch;
  if (type === 18) return failed(call, rest[0], rest[1], meta);
  told.values.push(rest[0].length ? unpack(rest[0]) : null);
  told.nodes[meta.node ?? "remembered"] = (told.nodes[meta.node ?? "remembered"] ?? 0) + 1;
  finish(call);
}

function dial() {
  const [, host, port] = /^\[?(.*?)\]?:(\d+)$/.exec(brokers[failures % brokers.length]);
  let rest = Buffer.alloc(0);
  const mine = (line = createConnection({ host, port, noDelay: true }, () => send([1, { proto: 1, role: "device", name: "foreign" }])));
  mine.setTimeout(3000, () => room || mine.destroy()); // no WELCOME
  mine.on("data", (data) => {
    rest = Buffer.concat([rest, data]);
    try {
      while (rest.length >= 4) {
        const end = 4 + rest.readUInt32BE();
        if (end === 4 || end > 4 + 1114112) throw Error("frame_too_large");
        if (rest.length < end) break;
        received(unpack(rest.subarray(4, end)));
        rest = rest.subarray(end);
      }
      pump();
    } catch { mine.destroy(); }
  });
  mine.on("error", () => {});
  mine.on("close", () => {
    [line, room] = [null, 0];
    for (const [id, call] of flying) { flying.delete(id); failed(call, 403, "the connection was lost", {}); }
    setTimeout(dial, Math.random() * Math.min(5000, 50 * 2 ** failures++));
  });
}

// An answer that has not come a second after the deadline is none.
setTimeout(() => [...flying.values()].forEach((call) => finish(call, { code: 401, message: "no answer" })), Number(seconds) * 1000 + 1000);
setTimeout(() => waiting.forEach((call) => finish(call, { code: 105, message: "no broker answers" })), Number(seconds) * 1000);
dial();
